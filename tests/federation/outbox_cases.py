# SPDX-License-Identifier: Apache-2.0
"""What is kept until it has arrived: XEP-0198 between servers, and the outbox. Each case has two servers of its own,
with a wire between them that can be cut."""
import asyncio
import contextlib
import os
import sqlite3

from theatre.client import StageError

from bed import Person, Server, body_of
from cases import PING, case, identity, need
from peer import Listener, Peer
from proxy import Proxy

SM = 'urn:xmpp:sm:3'
RSM = 'http://jabber.org/protocol/rsm'


class Pair:
    """north.example with romeo, south.example with juliet; `north`, `south`: of their section federation."""

    def __init__(self, bed, name, north=None, south=None, also=()):
        quick = {'back-off': ' 200 ms', 'back-off-most': ' 500 ms', 'outbox-expiry': ' 10 minutes'}
        self.bed = bed
        self.north = Server(bed, 'north-' + name, {**quick, **(north or {})}, also=also)
        self.south = Server(bed, 'south-' + name, {**quick, **(south or {})}, also=also)
        self.servers = (self.north, self.south)
        self.to_south, self.to_north = Proxy(self.south.ports['s2s']), Proxy(self.north.ports['s2s'])
        for here, there, wire in ((self.north, self.south, self.to_south), (self.south, self.north, self.to_north)):
            here.federation['targets'] = '\n      - {domain: %s, host: 127.0.0.1, port: %d}' % (there.host, wire.port)
        self.romeo, self.juliet = Person(self.north, 'romeo'), Person(self.south, 'juliet')

    async def __aenter__(self):
        for server, person in zip(self.servers, (self.romeo, self.juliet)):
            await server.prepare()
            await server.start()
            await server.add_accounts([(person.address, person.password)])
        for wire in (self.to_south, self.to_north):
            await wire.open()
        await self.romeo.sign_in()
        await self.juliet.sign_in()
        return self

    async def __aexit__(self, kind, error, trace):
        problems = []
        for person in (self.romeo, self.juliet):
            with contextlib.suppress(AttributeError):
                person.connection.close()
        for server in self.servers:
            problems += [await server.stop(), *server.errors(0, ('certificate-expiry',))]
        for wire in (self.to_south, self.to_north):
            wire.close()
        problems = '\n'.join(p for p in problems if p)
        if kind:
            problems = '\n'.join([problems, *('%s:\n%s' % (s.host, s.tail(25)) for s in self.servers)])
            raise StageError('%s: %s\n%s' % (kind.__name__, error, problems)) from error
        if problems:
            raise StageError(problems)


async def expect(person, word, count, seconds=20.0, first=0):
    """`count` messages "word N", each once, and in order."""
    got = []
    while len(got) < count:
        try:
            element = await person.wait('messages', lambda e: (body_of(e) or '').startswith(word + ' '), seconds)
        except StageError as error:
            missing = [n for n in range(first, first + count) if '%s %d' % (word, n) not in got]
            raise StageError('%d of %d came; missing: %s; %s' % (len(got), count, missing[:20], error)) from error
        need(element.get('type') != 'error', 'an error came back')
        got.append(body_of(element))
    wanted = ['%s %d' % (word, n) for n in range(first, first + count)]
    wrong = next((n for n in range(count) if got[n] != wanted[n]), None)
    need(wrong is None, 'number %s: %s' % (wrong, got[max(0, (wrong or 0) - 3):(wrong or 0) + 10]))


@case
async def links_are_resumed(bed):
    """A wire that is cut again and again: the link is resumed, nothing is lost, doubled, or out of order."""
    async with Pair(bed, 'resumed') as pair:
        pair.romeo.say(pair.juliet.address, 'hello')
        await pair.juliet.message('hello')
        for first in range(0, 400, 100):
            for n in range(first, first + 100):
                pair.romeo.say(pair.juliet.address, 'cut %d' % n)
            await asyncio.sleep(0.02)       # so that some of it is under way
            pair.to_south.cut()
            await expect(pair.juliet, 'cut', 100, first=first)
        await pair.juliet.nothing('cut 399', 0.5)
        need(any(e.get('event') == 'resumed' for e in pair.north.log), 'nothing was resumed')


@case
async def links_that_go_dead(bed):
    """A wire on which nothing passes any more, and nobody is told: the link is given up, and resumed."""
    async with Pair(bed, 'dead', north={'acknowledgement-timeout': ' 1 second'}) as pair:
        pair.romeo.say(pair.juliet.address, 'dead 0')
        await expect(pair.juliet, 'dead', 1)
        pair.to_south.dead = True
        for n in range(1, 50):
            pair.romeo.say(pair.juliet.address, 'dead %d' % n)
        await pair.north.wait_log('not-acknowledged', since=0, seconds=10)
        pair.to_south.dead = False
        await expect(pair.juliet, 'dead', 49, first=1)
        await pair.north.wait_log('resumed', since=0)


@case
async def acknowledgements_with_both_ways(bed):
    """XEP-0288: one agreement for both directions; a cut loses nothing of either."""
    async with Pair(bed, 'bidi', also=('xep0288',)) as pair:
        pair.romeo.say(pair.juliet.address, 'hello')
        await pair.juliet.message('hello')
        for n in range(200):
            pair.romeo.say(pair.juliet.address, 'there %d' % n)
            pair.juliet.say(pair.romeo.address, 'back %d' % n)
            if n % 50 == 30:
                await asyncio.sleep(0.05)
                pair.to_south.cut()
                pair.to_north.cut()
        await expect(pair.juliet, 'there', 200)
        await expect(pair.romeo, 'back', 200)


# --- the outbox ---

def waiting(server):
    """Rows of its outbox."""
    with contextlib.closing(sqlite3.connect('file:%s/iris.db?mode=ro' % server.folder, uri=True)) as store:
        return store.execute('SELECT COUNT(*) FROM outbox').fetchone()[0]


def remembered(server):
    """The highest id of another's outbox that it has handled."""
    with contextlib.closing(sqlite3.connect('file:%s/iris.db?mode=ro' % server.folder, uri=True)) as store:
        return store.execute('SELECT MAX(handled) FROM outbox_readers').fetchone()[0] or 0


async def until_waiting(server, count, seconds=15.0):
    try:
        async with asyncio.timeout(seconds):
            while waiting(server) != count:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise StageError('%d rows instead of %d' % (waiting(server), count)) from None


@case
async def the_sender_dies(bed):
    """Killed with messages that wait: they go out after the start, in order, and their rows go."""
    async with Pair(bed, 'dies', north={'queue-stanzas': ' 30'}) as pair:
        pair.to_south.close()
        for n in range(150):
            pair.romeo.say(pair.juliet.address, 'kept %d' % n)
        await until_waiting(pair.north, 150)
        await pair.north.kill()
        await pair.to_south.open()
        await pair.north.start()
        await expect(pair.juliet, 'kept', 150)
        await until_waiting(pair.north, 0)
        await pair.romeo.sign_in()
        pair.romeo.say(pair.juliet.address, 'kept 150')
        await expect(pair.juliet, 'kept', 1, first=150)


@case
async def the_sender_dies_before_it_is_told(bed):
    """Everything has arrived, and nobody said so: after the start it is sent once more, known again, and dropped."""
    async with Pair(bed, 'untold', north={'acknowledgement-timeout': ' 1 minute'}) as pair:
        pair.romeo.say(pair.juliet.address, 'untold 0')
        await expect(pair.juliet, 'untold', 1)
        await until_waiting(pair.north, 0)
        pair.to_south.silent = True         # what comes back is lost
        for n in range(1, 80):
            pair.romeo.say(pair.juliet.address, 'untold %d' % n)
        await expect(pair.juliet, 'untold', 79, first=1)
        await until_waiting(pair.north, 79)
        await pair.north.kill()
        pair.to_south.cut()
        pair.to_south.silent = False
        await pair.north.start()
        await until_waiting(pair.north, 0)
        await pair.romeo.sign_in()
        pair.romeo.say(pair.juliet.address, 'untold 80')
        await expect(pair.juliet, 'untold', 1, first=80)
        await pair.south.stop()             # a reader remembers over its own restart, too
        await pair.south.start()
        need(remembered(pair.south) > 0, 'nothing is remembered')


@case
async def both_die_before_they_are_told(bed):
    """The receiver is started anew, the sender was killed: what is sent once more is dropped all the same."""
    async with Pair(bed, 'both', north={'acknowledgement-timeout': ' 1 minute'}) as pair:
        pair.romeo.say(pair.juliet.address, 'both 0')
        await expect(pair.juliet, 'both', 1)
        await until_waiting(pair.north, 0)
        pair.to_south.silent = True
        for n in range(1, 60):
            pair.romeo.say(pair.juliet.address, 'both %d' % n)
        await expect(pair.juliet, 'both', 59, first=1)
        await until_waiting(pair.north, 59)
        await pair.north.kill()
        pair.to_south.cut()
        pair.to_south.silent = False
        await pair.south.stop()
        await pair.south.start()
        await pair.juliet.sign_in()
        await pair.north.start()
        await until_waiting(pair.north, 0)
        await pair.romeo.sign_in()
        pair.romeo.say(pair.juliet.address, 'both 60')
        await expect(pair.juliet, 'both', 1, first=60)


@case
async def ids_that_clients_make_up(bed):
    """An id of the outbox from a client is taken out: nobody drops anything for it."""
    async with Pair(bed, 'made-up') as pair:
        pair.romeo.send_stanza("<message to='%s' type='chat' id='f'><body>made 0</body><outbox xmlns='urn:iris:outbox:0' "
                               "id='9223372036854775807'/></message>" % pair.juliet.address)
        element = await pair.juliet.message('made 0')
        need(element.find('{urn:iris:outbox:0}outbox') is None, 'the element came through')
        for n in range(1, 5):
            pair.romeo.say(pair.juliet.address, 'made %d' % n)
        await expect(pair.juliet, 'made', 4, first=1)


async def history(person, page=50):
    """Bodies of the whole archive, in order."""
    bodies, after = [], ''
    while True:
        person.send_stanza("<iq type='set' id='h%d'><query xmlns='urn:xmpp:mam:2'><set xmlns='%s'><max>%d</max>%s</set></query></iq>" % (
            len(bodies), RSM, page, after and '<after>%s</after>' % after))
        got, ident = [], 'h%d' % len(bodies)
        while True:
            element = await person.wait('a page', lambda e: e.get('id') == ident or e.find('{urn:xmpp:mam:2}result') is not None)
            if element.get('id') == ident:
                break
            got.append(element.find('.//{jabber:client}body').text)
        bodies += got
        last = element.find('.//{%s}last' % RSM)
        if len(got) < page or last is None:
            return bodies
        after = last.text


@case
async def the_receiver_is_killed(bed):
    """Killed while it reads, twice: everything is in its archive once, and in order."""
    async with Pair(bed, 'reads') as pair:
        for n in range(400):
            pair.romeo.send_stanza("<message to='%s' type='chat' id='k%d'><body>k %d</body><origin-id xmlns='urn:xmpp:sid:0' "
                                   "id='k%d'/></message>" % (pair.juliet.address, n, n, n))
            await asyncio.sleep(0.002)      # not all in one commit: of one, the archive finds the last 128
            if n in (130, 290):
                await pair.juliet.message('k %d' % (n - 20))
                await pair.south.kill()
                await pair.south.start()
                await pair.juliet.sign_in()
        await pair.juliet.message('k 399', 30)
        await until_waiting(pair.north, 0, 30)
        bodies = [b for b in await history(pair.juliet) if b.startswith('k ')]
        missing = [n for n in range(400) if 'k %d' % n not in bodies]
        need(not missing, '%d are missing: %s' % (len(missing), missing[:10]))
        need(len(bodies) == 400, '%d came twice' % (len(bodies) - 400))
        need(bodies == ['k %d' % n for n in range(400)], 'they are out of order')


@case
async def the_receiver_is_down(bed):
    """Down while more comes than the memory takes; what is no row waits as long as it may, in its place."""
    north = {'queue-stanzas': ' 40', 'expiry': ' 20 seconds'}
    async with Pair(bed, 'down', north=north) as pair:
        await pair.south.stop()
        for n in range(300):
            pair.romeo.say(pair.juliet.address, 'down %d' % n)
            if n in (10, 200):
                pair.romeo.send_stanza(PING % ('p%d' % n, pair.south.host))
        await until_waiting(pair.north, 300)
        await pair.south.start()
        for n in (10, 200):
            ident = 'p%d' % n
            await pair.romeo.wait('a pong', lambda e: e.get('id') == ident and e.get('type') == 'result', 20)
        await until_waiting(pair.north, 0)
        await pair.juliet.sign_in()
        await expect(pair.juliet, 'down', 300)


@case
async def what_waits_too_long(bed):
    """The sender hears of it, once, also where it was killed meanwhile; a subscription is kept, too."""
    async with Pair(bed, 'expires', north={'outbox-expiry': ' 4 seconds', 'queue-stanzas': ' 5'}) as pair:
        pair.to_south.close()
        for n in range(12):
            pair.romeo.say(pair.juliet.address, 'late %d' % n)
        pair.romeo.send_stanza("<presence type='subscribe' to='%s'/>" % pair.juliet.address)
        await until_waiting(pair.north, 13)
        await pair.north.kill()
        await pair.north.start()
        await pair.romeo.sign_in()
        for n in range(12):
            await pair.romeo.error('late %d' % n, 'remote-server-timeout')
        await until_waiting(pair.north, 0)
        await pair.to_south.open()
        pair.romeo.say(pair.juliet.address, 'in time')
        await pair.juliet.message('in time')
        for n in range(12):
            await pair.juliet.nothing('late %d' % n, 0.1)


@case
async def what_is_not_kept(bed):
    """Hints against it, what is of the moment, errors, what others send through us: no rows."""
    async with Pair(bed, 'fleeting') as pair:
        pair.to_south.close()
        for text in ("<message to='%s' type='chat'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>",
                     "<message to='%s' type='headline'><body>x</body></message>",
                     "<message to='%s' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
                     "<presence to='%s'/>", "<iq type='set' id='i' to='%s'><x xmlns='urn:x'/></iq>"):
            pair.romeo.send_stanza(text % pair.juliet.address)
        pair.romeo.say(pair.juliet.address, 'kept')
        await until_waiting(pair.north, 1)
        await pair.to_south.open()
        await pair.juliet.message('kept')
        await until_waiting(pair.north, 0)


# --- by hand ---

async def enabled(peer):
    """Stream management on a link of theirs."""
    peer.write("<enable xmlns='%s' resume='true'/>" % SM)
    return await peer.expect('{%s}enabled' % SM, '<enabled/>')


@case
async def what_is_handled_is_told(bed):
    """h counts what is committed; a broken link is resumed by the same domain only, and by nobody else's certificate."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.sign_in(bed.a)
    ident = (await enabled(peer)).get('id')
    need(ident and len(ident) >= 20, 'no id')
    for n in range(3):
        peer.message('x@peer.example', bed.romeo.address, 'told %d' % n)
    peer.write("<r xmlns='%s'/>" % SM)
    need((await peer.expect('{%s}a' % SM, '<a/>')).get('h') == '3', 'h is wrong')
    await expect(bed.romeo, 'told', 3)
    peer.connection.transport.abort()
    await bed.a.wait_log('lost', {'domain': 'peer.example', 'begun': 'there'})
    thief = Peer('wrong1.example', identity(bed, 'thief', 'wrong1.example'))
    await thief.sign_in(bed.a)
    thief.write("<resume xmlns='%s' previd='%s' h='0'/>" % (SM, ident))
    await thief.expect('{%s}failed' % SM, '<failed/>')
    thief.close()
    await peer.sign_in(bed.a)
    peer.write("<resume xmlns='%s' previd='%s' h='0'/>" % (SM, ident))
    resumed = await peer.expect('{%s}resumed' % SM, '<resumed/>')
    need(resumed.get('h') == '3' and resumed.get('previd') == ident, 'resumed: %s' % resumed.attrib)
    peer.message('x@peer.example', bed.romeo.address, 'told 3')
    peer.write("<r xmlns='%s'/>" % SM)
    need((await peer.expect('{%s}a' % SM, '<a/>')).get('h') == '4', 'h is wrong')
    await bed.romeo.message('told 3')
    peer.close()


@case
async def links_that_are_closed_are_not_resumed(bed):
    """Who says goodbye has nothing to come back to; two agreements on one link are one too many."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.sign_in(bed.a)
    ident = (await enabled(peer)).get('id')
    peer.write('</stream:stream>')
    await peer.next('the end')
    peer.close()
    await peer.sign_in(bed.a)
    peer.write("<resume xmlns='%s' previd='%s' h='0'/>" % (SM, ident))
    await peer.expect('{%s}failed' % SM, '<failed/>')
    await enabled(peer)
    peer.write("<enable xmlns='%s'/>" % SM)
    await peer.expect_error('policy-violation')
    peer.close()


async def lie(bed, name, say, condition):
    """A server that we dial, and that answers <enable/> and the first stanza as `say` does: what we think of it."""
    told = asyncio.Queue()

    async def agree(listener, connection, element):
        if element.tag == '{%s}enable' % SM:
            connection.write(("<enabled xmlns='%s' id='x' resume='true'/>" % SM).encode())
        elif element.tag.endswith('}message'):
            connection.write(say.encode())
        elif element.tag.endswith('}error'):
            await told.put([child.tag.rpartition('}')[2] for child in element])
    listener = Listener(name, identity(bed, name, name), bed.ports[name], offers="<sm xmlns='%s'/>" % SM, react=agree)
    await listener.start()
    bed.romeo.say('x@' + name, 'hello')
    try:
        async with asyncio.timeout(10):
            found = await told.get()
    finally:
        await listener.stop()
    need(condition in found, '%s: %s' % (name, found))


@case
async def peers_that_lie_about_h(bed):
    """More than was sent is acknowledged, or nothing that is a number: the stream ends."""
    await lie(bed, 'wrong2.example', "<a xmlns='%s' h='7'/>" % SM, 'handled-count-too-high')
    await lie(bed, 'wrong3.example', "<a xmlns='%s' h='-1'/>" % SM, 'invalid-xml')


@case
async def debian_prosody_acknowledges(bed):
    """prosody's mod_smacks, both ways, and with XEP-0288 on one stream: each side says what has arrived."""
    for name in ('prosody_smacks', 'prosody_bidi'):
        theirs, ours = bed.foreigners[name], bed.juliet
        ours.say(theirs.jid, 'first')       # so that the stream is ours: prosody asks for nothing on its own
        await theirs.message('first')
        for n in range(30):
            ours.say(theirs.jid, 'prosody %d' % n)
            theirs.say(ours.jid, 'iris %d' % n)
        await expect(theirs, 'prosody', 30)
        await expect(ours, 'iris', 30)
        missing = ['Enabling stream management', 'Received ack request'] if name == 'prosody_smacks' else []
        async with asyncio.timeout(10):
            while missing:
                with open(os.path.join(bed.folder, name.partition('_')[2], 'server.log'), encoding='utf-8') as f:
                    log = f.read()
                missing = [line for line in missing if line not in log]
                await asyncio.sleep(0.1)
