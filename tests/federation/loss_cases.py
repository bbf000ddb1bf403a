# SPDX-License-Identifier: Apache-2.0
"""What is seen of people whose server is gone, or comes back: rooms, presence, push."""
import asyncio
import hashlib

from theatre.stream import Connection

from bed import SECONDS, SECRET
from border_cases import (all_hear, befriend, end_of, enter, in_room, is_said, let_enter, open_room, part)
from cases import case, identity, listening
from neighbour import is_available, need, present
from peer import Peer

MUC = 'http://jabber.org/protocol/muc'
PUSH, PUBSUB = 'urn:xmpp:push:0', 'http://jabber.org/protocol/pubsub'


async def enter_by_hand(bed, room, owner):
    """Somebody of a server that is played by hand: (the server's stream to us, what it listens with)."""
    listener = await listening(bed, 'ghostly.example', identity(bed, 'ghostly', 'ghostly.example'))
    peer = Peer('ghostly.example', identity(bed, 'ghostly', 'ghostly.example'))
    await peer.sign_in(bed.a, room.partition('@')[2])
    peer.write("<presence from='x@ghostly.example/r' to='%s/ghost'><x xmlns='%s'/></presence>" % (room, MUC))
    await owner.one(in_room(room + '/ghost'))
    return peer, listener


@case
async def ghosts_by_error(bed):
    """An occupant whose server says that nobody is there is out at once; its own ping says so, too (XEP-0410)."""
    async with present(end_of(bed, 'a', 'ursula')) as owner:
        room = await open_room(owner)
        for kind in ('message', 'presence'):
            peer, listener = await enter_by_hand(bed, room, owner)
            peer.write("<%s from='x@ghostly.example/r' to='%s/ghost' type='error'><error type='cancel'><service-unavailable "
                       "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></%s>" % (kind, room, kind))
            await owner.one(in_room(room + '/ghost', 'unavailable', 333))
            peer.write("<iq type='get' id='self' from='x@ghostly.example/r' to='%s/ghost'><ping xmlns='urn:xmpp:ping'/></iq>"
                       % room)
            await has_come(listener, lambda e: e.get('id') == 'self' and e.find('.//{*}not-acceptable') is not None)
            peer.close()
            await listener.stop()
            for connection in listener.connections:
                connection.close()


async def has_come(listener, matches):
    async with asyncio.timeout(SECONDS):
        while not matches(await listener.stanzas.get()):
            pass


@case
async def ghosts_by_silence(bed):
    """An occupant whose server is not there any more is asked, and is out when that cannot be brought to it."""
    async with present(end_of(bed, 'a', 'ursula')) as owner:
        room = await open_room(owner)
        peer, listener = await enter_by_hand(bed, room, owner)
        peer.close()
        await listener.stop()
        for connection in listener.connections:
            connection.close()
        await owner.one(in_room(room + '/ghost', 'unavailable', 333), 20)


@case
async def a_server_is_killed(bed):
    """Who was there comes back to rooms and contacts as they are; until then rooms do not take it for being there."""
    ours, theirs = end_of(bed, 'a', 'ursula'), end_of(bed, 'c', 'viola')
    async with present(ours) as x:
        async with present(theirs) as y:
            await befriend(x, y)
            room = await open_room(x)
            await let_enter(room, x, y)
            await bed.c.kill()
        x.send_stanza("<message to='%s' type='groupchat' id='k'><body>anybody?</body></message>" % room)
        await bed.c.start()
        await x.every(is_said(room + '/owner', 'anybody?'), in_room(room + '/guest', 'unavailable', 333), seconds=20)
        async with present(theirs) as y:
            await x.one(is_available(y.jid))
            await y.one(is_available(x.jid))
            enter(y, room, 'guest')
            await y.every(in_room(room + '/owner'), in_room(room + '/guest', None, 110))
            y.send_stanza("<message to='%s' type='groupchat'><body>back</body></message>" % room)
            await all_hear(room + '/guest', 'back', x, y)
            await part(x, y)
        await x.one(in_room(room + '/guest', 'unavailable'))


async def push_service(bed):
    """An external component of a.example: (its domain, its connection)."""
    domain, connection = 'bot.' + bed.a.host, await Connection.open('127.0.0.1', bed.a.ports['component'])
    connection.header(domain, '', 'jabber:component:accept')
    header = await connection.next(SECONDS)
    digest = hashlib.sha1((header.get('id') + SECRET).encode()).hexdigest()
    connection.write(('<handshake>%s</handshake>' % digest).encode())
    await connection.next(SECONDS)
    return domain, connection


@case
async def pushed_over_the_border(bed):
    """A message from abroad for somebody who is away wakes a service that is itself abroad (XEP-0357)."""
    domain, service = await push_service(bed)
    async with present(end_of(bed, 'b', 'antonio')) as y:
        await y.iq(None, "<enable xmlns='%s' jid='%s' node='n'/>" % (PUSH, domain), 'set')
    async with present(end_of(bed, 'a', 'ursula')) as x:
        x.say(y.address, 'wake up')
        async with asyncio.timeout(SECONDS):
            while (element := await service.next(SECONDS)).find('.//{%s}notification' % PUSH) is None:
                pass
        need(element.get('from') == bed.b.host, 'it comes from %s' % element.get('from'))
        service.write(("<iq type='result' id='%s' from='%s' to='%s'/>" % (
            element.get('id'), domain, element.get('from'))).encode())
    async with present(end_of(bed, 'b', 'antonio')) as y:
        await y.iq(None, "<disable xmlns='%s' jid='%s'/>" % (PUSH, domain), 'set')
    service.write(b'</stream:stream>')
    await service.next(SECONDS)
    service.close()
