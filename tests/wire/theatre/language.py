# SPDX-License-Identifier: Apache-2.0
"""Reads a play: a text file with a title, accounts, configuration and steps.

What a step means is not known here (that is stage.py); this file knows lines and indentation.
"""
import os
import re
import textwrap
from dataclasses import dataclass, field


class PlayError(Exception):
    """The play itself is wrong (not the server)."""

    def __init__(self, path, line, text):
        super().__init__('%s:%d: %s' % (path, line, text))


@dataclass
class Step:
    line: int
    actor: str
    does: str          # everything after the actor's name
    block: str         # the indented lines below, dedented; '' when there are none

    def __str__(self):
        return '%s %s' % (self.actor, self.does)


@dataclass
class Play:
    path: str
    title: str = ''
    accounts: list = field(default_factory=list)    # (user, password)
    config: dict = field(default_factory=dict)      # section -> option -> YAML text
    alone: bool = False                             # wants a server of its own
    iris_only: str = ''                             # why it cannot run against a foreign server
    prosody_differs: str = ''                       # why prosody plays it otherwise
    allowed_errors: set = field(default_factory=set)  # error events in the log that are expected
    steps: list = field(default_factory=list)

    @property
    def name(self):
        return os.path.splitext(os.path.basename(self.path))[0]

    def moves_clock(self):
        return any(s.actor == 'Server' and s.does.startswith('clock') for s in self.steps)

    def needs_own_server(self):
        return self.alone or '{host}' in write_config(self.config) or any(s.actor == 'Server' and not s.does.startswith('logs')
                                 for s in self.steps)


def read_config(text, where=''):
    """A YAML fragment as section -> option -> text. Options are merged whole: that is all a play needs."""
    config, section, option = {}, None, None
    for line in text.splitlines():
        if not line.strip() or line.strip().startswith('#'):
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            name, _, rest = line.partition(':')
            section = config.setdefault(name.strip(), {})
            rest, option = rest.strip(), None
            if rest.startswith('{') and rest.endswith('}'):
                for name, value in re.findall(r'([\w-]+):\s*((?:[^,{}\[\]]|\[[^\]]*\])+)', rest[1:-1]):
                    section[name] = ' ' + value.strip()
            elif rest:
                section[''] = ' ' + rest
        elif section is None:
            raise ValueError('configuration starts with an indented line: ' + line)
        elif option is None or depth <= option_depth:
            option_depth = depth
            option, _, rest = line.strip().partition(':')
            section[option] = rest.rstrip()
        else:
            section[option] += '\n' + line.rstrip()
    return config


def write_config(config):
    """The inverse of read_config."""
    out = []
    for section, options in config.items():
        out.append('%s:%s' % (section, options.get('', '')))
        for option, text in options.items():
            if option:
                out.append('  %s:%s' % (option, text))
    return '\n'.join(out) + '\n'


def merge_config(base, over):
    merged = {section: dict(options) for section, options in base.items()}
    for section, options in over.items():
        merged.setdefault(section, {}).update(options)
    return merged


def _blocks(lines):
    """Yields (line number, text, block) for every line that is not indented."""
    at = 0
    while at < len(lines):
        number, text = at + 1, lines[at].rstrip()
        at += 1
        if not text or text.startswith('#'):
            continue
        first = at
        while at < len(lines) and (not lines[at].strip() or lines[at][0] in ' \t'):
            at += 1
        yield number, text, textwrap.dedent('\n'.join(lines[first:at])).strip('\n')


def _read_head(play, number, text, block):
    """A line before the first step; False when it is a step already."""
    words = text.split()
    if words[0] == 'account':
        if len(words) not in (2, 4) or len(words) == 4 and words[2] != 'password':
            raise PlayError(play.path, number, 'write: account NAME [password WORD]')
        play.accounts.append((words[1], words[3] if len(words) == 4 else words[1] + '-secret'))
    elif text == 'config':
        try:
            play.config = merge_config(play.config, read_config(block))
        except ValueError as error:
            raise PlayError(play.path, number, str(error))
    elif text == 'alone':
        play.alone = True
    elif words[0] == 'iris' and len(words) > 2 and words[1] == 'only:':
        play.iris_only = ' '.join(words[2:])
    elif text.startswith('prosody differs: '):
        play.prosody_differs = text.split(': ', 1)[1]
    elif text.startswith('allows error ') and len(words) == 3:
        play.allowed_errors.add(words[2])
    else:
        return False
    return True


def read_play(path):
    with open(path, encoding='utf-8') as f:
        lines = f.read().splitlines()
    play = Play(path)
    if not lines or not lines[0].startswith('# '):
        raise PlayError(path, 1, 'the first line is the title: "# RFC 6121 §3.1: …"')
    play.title = lines[0][2:].strip()
    for number, text, block in _blocks(lines):
        if text[0].islower():
            if play.steps or not _read_head(play, number, text, block):
                raise PlayError(path, number, 'not understood: ' + text)
            continue
        actor, _, does = text.partition(' ')
        if not re.fullmatch(r'[A-Z][A-Za-z0-9]*', actor) or not does:
            raise PlayError(path, number, 'a step is: Name verb …')
        play.steps.append(Step(number, actor, does.strip(), block))
    if not play.steps:
        raise PlayError(path, len(lines), 'a play needs steps')
    if play.config or play.allowed_errors or any(s.actor in ('Server', 'Operator') for s in play.steps):
        play.iris_only = play.iris_only or 'it speaks of Iris itself'
    return play
