# SPDX-License-Identifier: Apache-2.0
"""Peers that take their time, on both sides, and headers without an end: what cuts each of them.  Before authentication
it is `stream.negotiation-timeout` (theirs) or `federation.negotiation-timeout` (ours), afterwards the silence that counts
in stanzas (`federation.idle-timeout`); sizes are those of `stanza-size-before-auth`."""
import asyncio

from theatre import pattern
from theatre.client import NS_SASL, StageError
from theatre.stream import CLOSED, GONE, Connection

from bed import SECONDS
from cases import case, identity, need
from network_cases import guest, open_listener
from peer import SERVER, Peer

HEADER = ("<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='%s' from='quiet.example' %%s version='1.0'>" % (
    SERVER, pattern.STREAMS)).encode()


def quickly(server):
    server.extra = {'stream': {'negotiation-timeout': ' 2 seconds', 'close-timeout': ' 500 ms'}}


async def trickle(connection, text, until=9.0):
    """A byte at a time, for as long as it is taken; how long that was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for at in range(len(text)):
        if connection.gone:
            break
        need(loop.time() - began < until, 'it is still taken after %g s' % until)
        connection.write(text[at:at + 1])
        await asyncio.sleep(0.1)
    need(connection.gone, 'all of it was taken')
    return loop.time() - began


async def trickle_hello(port):
    """The beginning of TLS, from who speaks only that."""
    connection = await Connection.open('127.0.0.1', port)
    connection.unparsed = bytearray()
    await trickle(connection, b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'\x00' * 200)


async def trickle_header(port, to):
    connection = await Connection.open('127.0.0.1', port)
    await trickle(connection, HEADER % (b"to='%s'" % to.encode()) + b' ' * 200)


async def trickle_auth(bed, server):
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.start_tls(server)
    await trickle(peer.connection, b"<auth xmlns='%s' mechanism='EXTERNAL'>" % NS_SASL.encode() + b'=' * 200)


@case
async def slow_before_authentication(bed):
    """A byte at a time of TLS, of a header, of what follows it: the time for all of it together is over soon."""
    async with guest(bed, 'hasty', prepare=quickly) as person:
        server = person.server
        await asyncio.gather(trickle_hello(server.ports['s2s_direct']), trickle_header(server.ports['s2s'], server.host),
                             trickle_auth(bed, server))


@case
async def slow_within_a_stanza(bed):
    """Bytes that never become a stanza do not keep a stream."""
    async with guest(bed, 'strict', {'idle-timeout': ' 2 seconds'}, prepare=quickly) as person:
        peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
        await peer.sign_in(person.server)
        peer.message('x@peer.example', person.jid, 'whole')
        await person.message('whole')
        await trickle(peer.connection, b"<message from='x@peer.example' to='%s'><body>" % person.jid.encode() + b'z' * 200)
        await person.fence()


async def says_nothing(listener, connection):
    while (await connection.next(60)).tag != GONE:
        pass
    raise OSError


async def trickles(listener, connection):
    await trickle(connection, HEADER % b"id='slow'" + b' ' * 200)
    raise OSError


@case
async def slow_answers(bed):
    """Whom we dial takes us in and says nothing, or a byte at a time: given up, answered, and not dialled in a storm."""
    federation = {'negotiation-timeout': ' 1 second', 'connect-timeout': ' 1 second'}
    async with guest(bed, 'brief', federation, prepare=quickly) as person:
        for number, then in enumerate((says_nothing, trickles)):
            domain = ('quiet.example', 'calm.example')[number]
            async with open_listener(bed, domain, then=then) as listener:
                person.say('x@' + domain, 'in vain', 's%d' % number)
                await person.error('s%d' % number, 'remote-server-timeout', 9)
                need(0 < listener.dialled <= 6, 'dialled %d times' % listener.dialled)
                await person.fence()


async def answers_at_length(listener, connection):
    connection.write(HEADER % (b"id='long' more='%s'" % (b'x' * 20000)))
    await error_comes(connection, 'policy-violation')
    listener.refused = True
    raise OSError


async def offers_too_much(listener, connection):
    listener.send_header(connection)
    connection.write(b"<stream:features><mechanisms xmlns='%s'>" % NS_SASL.encode()
                     + b'<mechanism>PLAIN</mechanism>' * 1000 + b'</mechanisms></stream:features>')
    await error_comes(connection, 'policy-violation')
    listener.refused = True
    raise OSError


async def error_comes(connection, condition):
    while (element := await connection.next(SECONDS)) is not None and element.tag not in (CLOSED, GONE):
        if element.tag == '{%s}error' % pattern.STREAMS:
            found = [c.tag.rpartition('}')[2] for c in element]
            need(condition in found, 'stream error %s' % found)
            return
    raise StageError('no stream error')


@case
async def headers_without_an_end(bed):
    """20 KiB in a header, theirs and the answer to ours, or in features: no more is taken than before authentication."""
    connection = await Connection.open('127.0.0.1', bed.a.ports['s2s'])
    connection.write(HEADER % (b"to='a.example' more='%s'" % (b'x' * 20000)))
    await error_comes(connection, 'policy-violation')
    connection.close()
    connection = await Connection.open('127.0.0.1', bed.a.ports['s2s'])
    connection.write(HEADER % (b"to='a.example' " + b' '.join(b"a%d=''" % n for n in range(500))))
    await error_comes(connection, 'policy-violation')
    connection.close()
    async with guest(bed, 'curt') as person:
        for domain, then in (('quiet.example', answers_at_length), ('calm.example', offers_too_much)):
            async with open_listener(bed, domain, then=then) as listener:
                listener.refused = False
                person.say('x@' + domain, 'in vain', domain)
                await person.error(domain, 'remote-server-timeout', 9)
                need(listener.refused and listener.dialled <= 6, '%s: dialled %d times' % (domain, listener.dialled))
