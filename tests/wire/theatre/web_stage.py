# SPDX-License-Identifier: Apache-2.0
"""The verbs of HTTP and WebSocket.  Each is a function of the stage; `run` imports them all."""
import asyncio
import re

from . import script
from .client import GONE, SECONDS, StageError, wrong
from .stage import verb
from .web import ANSWER

FIELD = re.compile(r'no [A-Za-z-]+$|[A-Za-z-]+: ')


def split(block):
    """Fields and body of a request or an answer: an empty line is between them, where there are both."""
    lines = (block or '').splitlines()
    at = next((i for i, line in enumerate(lines) if not FIELD.match(line.strip())), len(lines))
    return [line.strip() for line in lines[:at]], '\n'.join(lines[at:]).lstrip('\n')


@verb('opens a web connection[ to port PORT][ WITHOUT tls]', 'HTTP by ALPN; port NAME is one of the configuration')
async def opens_web(stage, client, block, port=None, without=None):
    await client.open_web(port=port or 'web', tls=not without)


@verb('opens a websocket[ to port PORT]', 'TLS and the handshake, no stream yet')
async def opens_websocket(stage, client, block, port=None):
    client.user = client.user or re.sub(r'\d+$', '', client.name).lower()
    client.password = stage.passwords.get(client.user, '')
    await client.open_websocket(port or 'web')


@verb('asks METHOD PATH', 'a request; the block has more fields, an empty line, the body')
async def asks(stage, client, block, method, path):
    fields, body = split(stage.fill(block) if block else '')
    host = stage.place.host
    for field in list(fields):
        if field.lower().startswith('host:'):
            host = field[5:].strip()
            fields.remove(field)
    client.connection.ask(method, stage.fill(path), host, ''.join(f + '\r\n' for f in fields), body.encode())


@verb('is answered STATUS', 'lines of the block: a field with its value, "no NAME"; an empty line; lines of the body; * is anything')
async def is_answered(stage, client, block, status):
    element = await client.next('an answer of HTTP')
    if element.tag != ANSWER:
        raise wrong('an answer of HTTP', element)
    response = client.connection.answers.popleft()
    shown = 'HTTP %d\n%s\n\n%s' % (response.status, '\n'.join('%s: %s' % f for f in response.fields),
                                   element.text[:2000])
    if str(response.status) != status:
        raise StageError('not %s but %s' % (status, shown))
    fields, body = split(block)
    for line in fields:
        name, _, value = line.partition(': ')
        if line.startswith('no '):
            if response.get(line[3:]):
                raise StageError('there is %s in %s' % (line, shown))
            continue
        found = script.glob(value, stage.names()).fullmatch(response.get(name))
        if not found:
            raise StageError('no "%s" in %s' % (line, shown))
        stage.captured.update(found.groupdict())
    lines, at = [' '.join(line.split()) for line in element.text.splitlines()], 0
    for line in filter(str.strip, body.splitlines()):
        glob = script.glob(' '.join(line.split()), stage.names())
        while at < len(lines) and not glob.fullmatch(lines[at]):
            at += 1
        if at == len(lines):
            raise StageError('no line "%s" in %s' % (line, shown))
        stage.captured.update(glob.fullmatch(lines[at]).groupdict())


@verb('is told to go on', 'the answer is 100, the request goes on')
async def is_told_to_go_on(stage, client, block):
    await is_answered(stage, client, block, '100')


@verb('sends frame OPCODE[ TEXT…]', 'a frame of this first byte (hex), masked; the text as with "sends bytes"')
async def sends_frame(stage, client, block, opcode, text=None):
    client.connection.frame(script.unescape(stage.fill(text or '')), int(opcode, 16))


@verb('sends unmasked frame OPCODE[ TEXT…]', 'the same without a mask')
async def sends_unmasked(stage, client, block, opcode, text=None):
    client.connection.frame(script.unescape(stage.fill(text or '')), int(opcode, 16), masked=False)


@verb('sends raw[ BYTES…]', 'bytes below the frames, as with "sends bytes"')
async def sends_raw(stage, client, block, bytes=None):
    client.connection.transport.write(script.unescape(stage.fill(bytes or ''.join(block.splitlines()))))


@verb('is closed with CODE', 'the last frame of the WebSocket, then the end of the connection')
async def is_closed_with(stage, client, block, code):
    element = await client.next('the end of the connection')
    while element.tag != GONE:
        element = await client.next('the end of the connection')
    codes = client.connection.codes
    if [str(c) for c in codes] != [code]:
        raise StageError('the codes of close frames: %s' % codes)
    client.jid = None


@verb('has heard a pong[ of TEXT…]', 'an answer to a frame 89')
async def has_heard_a_pong(stage, client, block, text=None):
    async with asyncio.timeout(SECONDS):
        while not client.connection.pongs:
            await asyncio.sleep(0.01)
    if client.connection.pongs.pop(0) != (text or '').encode():
        raise StageError('another pong')

