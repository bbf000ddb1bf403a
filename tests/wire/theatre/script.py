# SPDX-License-Identifier: Apache-2.0
"""Words with {names} in them: what is put into stanzas that are sent, and matched in what comes."""
import base64
import codecs
import hashlib
import hmac
import re

NAME = re.compile(r'\{([A-Za-z][A-Za-z0-9_.]*)\}')
CALL = re.compile(r'\{([a-z0-9_]+)\(([^{}]*)\)\}')


class Unknown(Exception):
    pass


def unescape(text):
    r"""\0 \n \t \\ \xNN as bytes."""
    return codecs.escape_decode(text.encode())[0]


def _fast(args):
    user, token = args.rsplit(',', 1)
    proof = hmac.new(token.strip().encode(), b'Initiator', hashlib.sha256).digest()
    return base64.b64encode(user.strip().encode() + b'\0' + proof).decode()


def _repeat(args):
    times, text = args.split(',', 1)
    return unescape(text.lstrip()).decode() * int(times)


FUNCTIONS = {
    'base64': lambda args: base64.b64encode(unescape(args)).decode(),
    'sha1': lambda args: hashlib.sha1(unescape(args)).hexdigest(),
    'sha1_base64': lambda args: base64.b64encode(hashlib.sha1(unescape(args)).digest()).decode(),
    'sha256_base64': lambda args: base64.b64encode(hashlib.sha256(unescape(args)).digest()).decode(),
    'repeat': _repeat,
    'fast': _fast,      # {fast(user, token)}: HT-SHA-256-NONE, XEP-0484 over draft-schmaus-kitten-sasl-ht
}


def fill(text, names):
    """Every {name} and {function(…)} replaced; an unknown name is an error of the play."""
    def name(found):
        value = names.get(found.group(1))
        if value is None:
            raise Unknown('nothing is known as {%s}' % found.group(1))
        return str(value)

    def call(found):
        if found.group(1) not in FUNCTIONS:
            raise Unknown('no function {%s(…)}' % found.group(1))
        return FUNCTIONS[found.group(1)](found.group(2))
    return CALL.sub(call, NAME.sub(name, text))


def glob(text, names):
    """A pattern: `*` is anything, a known {name} its value, an unknown one is captured."""
    text = CALL.sub(lambda found: FUNCTIONS[found.group(1)](
        NAME.sub(lambda n: str(names.get(n.group(1), n.group(0))), found.group(2))), text)
    out, at, captured = '', 0, []
    for found in re.finditer(r'\\\*|\*|' + NAME.pattern, text):
        out += re.escape(text[at:found.start()])
        at = found.end()
        if found.group(0) == '\\*':
            out += r'\*'
        elif found.group(0) == '*':
            out += '.*'
        elif found.group(1) in names:
            out += re.escape(str(names[found.group(1)]))
        elif found.group(1) in captured:
            out += '(?P=%s)' % found.group(1)
        else:
            captured.append(found.group(1))
            out += '(?P<%s>.+?)' % found.group(1)
    return re.compile(out + re.escape(text[at:]), re.S)
