# SPDX-License-Identifier: Apache-2.0
"""What was said and seen in a room, and the judge.  Pure: knows no sockets and no server."""
import collections
from dataclasses import dataclass, field

SHOWN = 8
HISTORY = 5         # messages that who enters asks for


@dataclass
class Said:
    """One message on its way into the room."""
    ident: str
    sender: str
    acknowledged: bool = False
    refused: bool = False


@dataclass
class Stay:
    """One client in the room, from entering until leaving."""
    who: str
    history: list = field(default_factory=list)     # [(ident, stanza-id)] with a delay stamp
    live: list = field(default_factory=list)        # [(ident, stanza-id)]
    over: bool = False


class Ledger:
    def __init__(self):
        self.sends = {}         # ident -> Said
        self.stays = []
        self.sessions = collections.defaultdict(list)   # of the client's stream management; not judged here

    def send(self, sender, _room):
        said = Said('%s-%d' % (sender, len(self.sends)), sender)
        self.sends[said.ident] = said
        return said

    def acknowledged(self):
        return sum(s.acknowledged for s in self.sends.values())

    def judge(self, archive):
        """archive: [(ident, stanza-id)], whole, in order.  What is wrong, in sentences."""
        return (self._judge_archive(archive) + self._judge_seen(archive) +
                [p for stay in self.stays for p in self._judge_stay(stay, archive)])

    def _judge_archive(self, archive):
        count = collections.Counter(ident for ident, _ in archive)
        ids = collections.Counter(sid for _, sid in archive)
        said = self.sends.values()
        return (_say([s.ident for s in said if s.acknowledged and not s.refused and count[s.ident] != 1],
                     'acknowledged, and not once in the archive') +
                _say([s.ident for s in said if s.refused and count[s.ident]], 'refused, but in the archive') +
                _say([ident for ident, n in count.items() if n > 1], 'more than once in the archive') +
                _say([ident for ident in count if ident not in self.sends], 'said by nobody, but in the archive') +
                _say([sid for sid, n in ids.items() if n > 1], 'an id of two messages'))

    def _judge_seen(self, archive):
        there = set(archive)
        seen = {pair for stay in self.stays for pair in stay.live + stay.history}
        return _say(['%s as %s' % pair for pair in sorted(seen - there)], 'seen, and not in the archive')

    def _judge_stay(self, stay, archive):
        at = {pair: i for i, pair in enumerate(archive)}
        live = [at[pair] for pair in stay.live if pair in at]
        name = 'in a stay of %s' % stay.who
        problems = _say(['%s after %s' % (archive[b][0], archive[a][0]) for a, b in zip(live, live[1:]) if b != a + 1],
                        'not as in the archive, ' + name)
        history = [at[pair] for pair in stay.history if pair in at]
        if live and history != list(range(max(0, live[0] - HISTORY), live[0])):
            problems += ['the history %s: %s, before %s' % (
                name, [archive[i][0] for i in history], archive[live[0]][0])]
        if not stay.over and archive and (history + live)[-1:] != [len(archive) - 1]:
            problems += ['the last message %s never came %s' % (archive[-1][0], name)]
        return problems


def _say(found, what):
    if not found:
        return []
    more = ' and %d more' % (len(found) - SHOWN) if len(found) > SHOWN else ''
    return ['%s: %s%s' % (what, ', '.join(found[:SHOWN]), more)]
