# SPDX-License-Identifier: Apache-2.0
"""DANE (RFC 7671, RFC 7673): what signed records of the DNS say of certificates. The server asks by dialback where it
may, so that a certificate that is refused is refused for good."""
import asyncio
import os

from theatre import place

from bed import SECONDS
from cases import case, need
from peer import SERVER, Listener
from zone import Zone, digest

DIALBACK = "<dialback xmlns='urn:xmpp:features:dialback'/>"


class Places:
    """Domains, each with a listener of its own, and what the zone says of them."""

    def __init__(self, bed):
        self.bed, self.zone, self.listeners = bed, Zone(os.path.join(bed.folder, 'zone')), {}
        self.strange = type(bed.authority)(os.path.join(bed.folder, 'dane-authority'))

    def signed_by_strange(self, domain, *names):
        return self.strange.issue('x-' + domain, 'nobody', ['DNS:' + name for name in names])

    def signed_by_ours(self, domain):
        return self.bed.authority.issue('x-' + domain, 'nobody', ['DNS:' + domain])

    def with_authority(self, domain, *names):
        """The authority goes along: who is only told of it must see it."""
        crt, key = self.signed_by_strange(domain, *names)
        chain = crt + '.chain'
        with open(chain, 'w', encoding='ascii') as f:
            for path in (crt, self.strange.certificate):
                with open(path, encoding='ascii') as part:
                    f.write(part.read())
        return chain, key

    def add(self, domain, identity, *tlsas):
        port = place.free_port()
        self.listeners[domain] = Listener(domain, identity, port, more=DIALBACK)
        self.zone.add_server(domain, port, *tlsas)
        return port

    def lay_out(self):
        authority = '2 0 1 ' + digest(self.strange.certificate, 0)
        nothing = 'ab' * 32

        def ee(crt, usage=3):
            return '%d 1 1 %s' % (usage, digest(crt, 1))
        expired = self.strange.issue_expired('x-ee', 'somebody.else')
        self.add('ee.example', expired, '3 1 1 ' + nothing, ee(expired[0]))
        self.add('ta.example', self.with_authority('ta.example', 'ta.example'), authority)
        self.add('machine.example', self.with_authority('machine.example', 'host.machine.example'), authority)
        self.add('nameless.example', self.with_authority('nameless.example', 'other.example'), authority)
        self.add('wrong.example', self.signed_by_ours('wrong.example'), '3 1 1 ' + nothing)
        crt = self.signed_by_ours('both.example')
        self.add('both.example', crt, ee(crt[0], 1))
        crt = self.signed_by_strange('half.example', 'half.example')
        self.add('half.example', crt, ee(crt[0], 1))
        self.add('unusable.example', self.signed_by_ours('unusable.example'), '3 1 9 ' + nothing, '7 1 1 ' + nothing,
                 '3 1 1 abcd')
        self.add('x.insecure.example', self.signed_by_ours('x.insecure.example'), '3 1 1 ' + nothing)
        port = self.add('bogus.example', self.signed_by_ours('bogus.example'), '3 1 1 ' + nothing)
        self.zone.forge('_%d._tcp.host.bogus.example' % port, 'TLSA', nothing, 'cd' * 32)
        self.add('misled.example', self.signed_by_ours('misled.example'))
        self.zone.forge('_xmpp-server._tcp.misled.example', 'SRV', 'host.misled', 'host.wrong')

    def lead_astray(self):
        lines = self.zone.lines['example']
        lines.append('_xmpp-server._tcp.never.example. 3600 IN SRV 0 0 0 .')
        for one, other in (('one', 'other'), ('other', 'one')):
            lines.append('%s.loop.example. 3600 IN CNAME %s.loop.example.' % (one, other))
        lines.append('_xmpp-server._tcp.loop.example. 3600 IN CNAME one.loop.example.')
        lines.append('_xmpp-server._tcp.alias.example. 3600 IN SRV 0 0 5269 one.loop.example.')
        # Not signed: the library's validator takes no set of records as large as that.
        domain = 'many.insecure.example'
        port = self.add(domain, self.signed_by_strange(domain, domain))
        self.zone.lines['insecure.example'] += [
            '_xmpp-server._tcp.%s. 3600 IN SRV 0 %d %d host.%s.' % (domain, n, port, domain) for n in range(1, 1000)]

    async def start(self):
        self.lay_out()
        self.lead_astray()
        await self.zone.start()
        for listener in self.listeners.values():
            await listener.start()
        server = self.bed.add('dane', users=('viola',), also=('xep0220',))
        server.resolver = {'servers': ' ["127.0.0.1:%d"]' % self.zone.port, 'trust-anchors': ' ' + self.zone.anchor}
        self.bed.ends.append(self.stop)
        await server.prepare()
        await server.start()
        self.viola = server.people['viola']
        await server.add_accounts([(self.viola.address, self.viola.password)])
        await self.viola.sign_in()

    async def stop(self):
        for listener in self.listeners.values():
            await listener.stop()
        self.zone.stop()

    async def arrives(self, domain):
        self.viola.say('x@' + domain, 'to ' + domain)
        element = await asyncio.wait_for(self.listeners[domain].stanzas.get(), SECONDS)
        body = element.find('{%s}body' % SERVER)
        need(body is not None and body.text == 'to ' + domain, 'came: %s' % element.tag)

    async def comes_back(self, domain, dialled):
        """At once where it was refused, and nothing is said by dialback; after the time where nobody may be asked."""
        listener = self.listeners[domain]
        self.viola.say('x@' + domain, 'secret', domain)
        await self.viola.error(domain, 'remote-server-timeout', 9)
        need(listener.stanzas.empty(), '%s got something' % domain)
        need(bool(listener.dialled) == dialled, '%s was dialled %d times' % (domain, listener.dialled))
        need('{jabber:server:dialback}result' not in listener.asked_for, '%s was asked by dialback' % domain)


async def places(bed):
    if not bed.dane:
        bed.dane = Places(bed)
        await bed.dane.start()
    return bed.dane


@case
async def dane_proves(bed):
    """A key that the zone names (also of an expired certificate of nobody), an authority that it names."""
    here = await places(bed)
    for domain in ('ee.example', 'ta.example', 'machine.example'):
        await here.arrives(domain)


@case
async def dane_refuses(bed):
    """Another key, another name under the authority: not by a public authority, nor by dialback."""
    here = await places(bed)
    for domain in ('wrong.example', 'nameless.example', 'half.example'):
        await here.comes_back(domain, True)
    await here.arrives('both.example')


@case
async def dane_that_is_not_signed(bed):
    """Records without signatures, and such that nobody can use, are as if they were not there."""
    here = await places(bed)
    for domain in ('x.insecure.example', 'unusable.example'):
        await here.arrives(domain)


@case
async def dane_that_is_forged(bed):
    """Where a signature does not hold, of the machine or of its certificate, nobody is dialled."""
    here = await places(bed)
    for domain in ('bogus.example', 'misled.example'):
        await here.comes_back(domain, False)
