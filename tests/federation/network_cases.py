# SPDX-License-Identifier: Apache-2.0
"""Resolvers that lie or say nothing, zones that lead astray, clocks that are wrong, a server that forgets: errors come in
time, dials are few, and all is well again once what was wrong is right."""
import asyncio
import contextlib
import re
import struct

from theatre import place

from bed import SECONDS, Person, Server
from cases import DIALBACK, PING, case, identity, listening, need
from dane_cases import places
from peer import SERVER, Peer


class Resolver(asyncio.DatagramProtocol):
    """Between a server and the DNS: passes on, says nothing, answers too late, or something else."""

    def __init__(self, upstream):
        self.port, self.upstream = place.free_port(), upstream
        self.mood = self.passes
        self.asked = 0
        self.transport = None
        self.tasks = set()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        self.asked += 1
        task = asyncio.ensure_future(self.mood(data, source))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def ask(self, data):
        loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        class Question(asyncio.DatagramProtocol):
            def datagram_received(self, data, source):
                if not answer.done():
                    answer.set_result(data)
        transport, _ = await loop.create_datagram_endpoint(Question, remote_addr=('127.0.0.1', self.upstream))
        transport.sendto(data)
        try:
            async with asyncio.timeout(SECONDS):
                return await answer
        finally:
            transport.close()

    async def passes(self, data, source):
        self.transport.sendto(await self.ask(data), source)

    async def says_nothing(self, data, source):
        pass

    async def is_late(self, data, source):
        await asyncio.sleep(3)      # a second more than it is waited for
        await self.passes(data, source)

    def leads_to(self, real, other):
        """The service at port `real` is said to be at `other`."""
        async def lies(data, source):
            answer = await self.ask(data)
            name = b'\x09localhost'
            self.transport.sendto(answer.replace(struct.pack('>H', real) + name, struct.pack('>H', other) + name), source)
        return lies

    async def start(self):
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=('127.0.0.1', self.port))

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.transport.close()


@contextlib.asynccontextmanager
async def guest(bed, name, federation=None, dns=None, prepare=None, **more):
    """A server for one case, and somebody on it."""
    server = Server(bed, name, federation, **more)
    if dns:
        server.resolver = {'servers': ' ["127.0.0.1:%d"]' % dns.port}
    if prepare:
        prepare(server)
    person = Person(server, 'guest')
    person.server = server
    await server.prepare()
    await server.start()
    try:
        await server.add_accounts([(person.address, person.password)])
        await person.sign_in()
        yield person
    finally:
        person.connection.close()
        problem = await server.stop()
    found = server.errors(0, ('certificate-expiry',))
    need(not problem and not found, '\n'.join([problem, *found]))


@contextlib.asynccontextmanager
async def asking(bed, name, mood):
    """A guest that asks a resolver of this mood."""
    dns = Resolver(bed.dns.port)
    dns.mood = getattr(dns, mood)
    await dns.start()
    try:
        async with guest(bed, name, dns=dns) as person:
            yield person, dns
    finally:
        await dns.stop()


@contextlib.asynccontextmanager
async def open_listener(bed, domain, shown=None, **more):
    listener = await listening(bed, domain, shown or identity(bed, domain.partition('.')[0], domain), **more)
    try:
        yield listener
    finally:
        await listener.stop()


async def dials(person):
    """How often others were dialled."""
    reader, writer = await asyncio.open_connection(person.place.address, person.place.ports['admin'])
    writer.write(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    async with asyncio.timeout(SECONDS):
        text = await reader.read()
    writer.close()
    return int(re.search(rb'^iris_federation_dials_total (\d+)', text, re.M).group(1))


async def arrives(person, listener, body, seconds=SECONDS):
    """Sends once more what came back meanwhile, as a person would."""
    async with asyncio.timeout(seconds):
        while True:
            person.say('x@' + listener.domain, body)
            with contextlib.suppress(TimeoutError):
                element = await asyncio.wait_for(listener.stanzas.get(), 2)
                found = element.find('{%s}body' % SERVER)
                need(found is not None and found.text == body, 'came: %s' % element.tag)
                return


async def fails_quietly(person, listener):
    """Errors come in time, everybody else is served meanwhile, and nobody is dialled over and over."""
    for n in range(3):
        person.say('x@' + listener.domain, 'in vain', 'v%d' % n)
    person.send_stanza(PING % ('vp', listener.domain))
    await person.fence()
    due = {'v0', 'v1', 'v2', 'vp'}      # messages and questions expire by themselves: in any order
    while due:
        element = await person.wait('errors to %s' % due, lambda e: e.get('id') in due and e.get('type') == 'error', 9)
        need(element.find('.//{urn:ietf:params:xml:ns:xmpp-stanzas}remote-server-timeout') is not None,
             'another error: %s' % element.get('id'))
        due.remove(element.get('id'))
    need(listener.dialled == 0 or listener.stanzas.empty(), 'it got something')
    count = await dials(person)
    need(count <= 5, 'dialled %d times in six seconds' % count)


@case
async def dns_that_says_nothing(bed):
    """A resolver that never answers: errors in time; when it speaks again all is well."""
    async with asking(bed, 'mute', 'says_nothing') as (person, dns), open_listener(bed, 'quiet.example') as listener:
        await fails_quietly(person, listener)
        need(listener.dialled == 0 and 0 < dns.asked < 100, 'dialled %d, asked %d times' % (listener.dialled, dns.asked))
        dns.mood = dns.passes
        await arrives(person, listener, 'it speaks', 20)


@case
async def dns_that_is_late(bed):
    """Answers that come when nobody waits for them any more do no harm, and are good for the next one who asks."""
    async with asking(bed, 'tardy', 'is_late') as (person, dns), open_listener(bed, 'quiet.example') as listener:
        person.send_stanza(PING % ('late', 'quiet.example'))
        await person.error('late', 'remote-server-timeout', 9)
        need(0 < dns.asked < 100, 'asked %d times' % dns.asked)
        dns.mood = dns.passes
        await arrives(person, listener, 'in time', 20)


@case
async def dns_that_lies(bed):
    """It leads to another server, which is no proof of anything: nothing is handed over; the truth is found later."""
    async with asking(bed, 'misled', 'passes') as (person, dns), open_listener(bed, 'quiet.example') as listener:
        dns.mood = dns.leads_to(listener.port, bed.b.ports['s2s'])
        await fails_quietly(person, listener)
        need(listener.dialled == 0, 'it was dialled')
        dns.mood = dns.passes
        await arrives(person, listener, 'the truth', 20)


@case
async def dane_zones_that_lead_astray(bed):
    """No server at all, an alias of itself, a machine that is one, a thousand machines: bounded, and answered."""
    here = await places(bed)
    viola, before = here.viola, await dials(here.viola)
    for domain, condition in (('never.example', 'remote-server-not-found'), ('loop.example', 'remote-server-timeout'),
                              ('alias.example', 'remote-server-timeout'), ('many.insecure.example', 'remote-server-timeout')):
        viola.say('x@' + domain, 'in vain', domain)
        await viola.error(domain, condition, 9)
    many, count = here.listeners['many.insecure.example'].dialled, await dials(viola) - before
    need(count <= 16, 'dialled %d times' % count)
    need(0 < many <= 8 * 5, 'one of a thousand was connected to %d times' % many)
    await viola.fence()


@case
async def a_clock_that_is_slow(bed):
    """An hour behind, no certificate is valid yet: refused at once; with the right time all is well."""
    def be_slow(server):
        server.give_clock()
        server.clock.step(-3600)
    fresh = bed.authority.issue('fresh', 'quiet.example', ['DNS:quiet.example'], again=True)
    async with open_listener(bed, 'quiet.example', shown=fresh) as listener, guest(bed, 'slow', prepare=be_slow) as person:
        person.say('x@quiet.example', 'too early', 'early')
        await person.error('early', 'remote-server-timeout', 4)
        need(listener.dialled == 1 and listener.stanzas.empty(), 'dialled %d times' % listener.dialled)
        person.server.clock.step(3600)
        await arrives(person, listener, 'just in time', 20)


@case
async def keys_after_a_restart(bed):
    """Who asks about a key of dialback after a restart is told the truth."""
    taken = asyncio.get_running_loop().create_future()

    async def ask(listener, connection):
        listener.answer(connection, "<dialback xmlns='urn:xmpp:features:dialback'/>")
        result = await connection.next(SECONDS)
        taken.set_result((result, 'peer-%d' % listener.dialled))
        await connection.next(SECONDS)
    async with open_listener(bed, 'quiet.example', then=ask), guest(bed, 'forgetful', also=('xep0220',)) as person:
        person.say('x@quiet.example', 'hello')
        result, ident = await asyncio.wait_for(taken, SECONDS)
        need(result.tag == '{%s}result' % DIALBACK, 'came: %s' % result.tag)
        server = person.server
        problem = await server.stop()
        need(not problem, problem)
        await server.start()
        for key, kind in ((result.text, 'valid'), ('0' * 64, 'invalid')):
            peer = Peer('quiet.example', identity(bed, 'quiet', 'quiet.example'))
            await peer.start_tls(server)
            peer.write("<db:verify xmlns:db='%s' from='quiet.example' to='%s' id='%s'>%s</db:verify>" % (
                DIALBACK, server.host, ident, key))
            element = await peer.expect('{%s}verify' % DIALBACK, 'a verdict')
            need(element.get('type') == kind, 'type %s instead of %s' % (element.get('type'), kind))
            peer.close()
