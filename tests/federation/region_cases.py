# SPDX-License-Identifier: Apache-2.0
"""Regions: what a certificate must be to speak for a domain of the map, what refusals look like, what a new map ends."""
import contextlib
import hashlib
import os
import ssl
import xml.etree.ElementTree as ET

from theatre import place
from theatre.client import StageError

from bed import Authority, Person, Server
from cases import DIALBACK, case, need
from peer import Listener, Peer

NA, APAC, OUTSIDE = 'n.example', 'p.example', 'outside.example'
OOB = "<x xmlns='jabber:x:oob'><url>https://n.example/secret</url></x>"
MAP = """map: {name: cases, serial: %d, issued: 2026-01-01T00:00:00Z}
regions:
  list:
    - {id: emea, domains: [ward.example], rooms: [rooms.ward.example], external: true, ca: %s}
    - {id: na, domains: [n.example], rooms: [rooms.n.example], ca: %s}
    - {id: apac, domains: [p.example], ca: %s}
policy:
  rules:
%s
"""
OPEN = """    - {from: "*", to: "*", categories: [message, presence, service], verdict: deliver}"""
NA_SHUT = """    - {from: na, to: emea, categories: [message], verdict: deny}
    - {from: emea, to: na, categories: [message, presence, service], verdict: deny}
    - {from: na, to: emea, categories: [presence, service], verdict: deny}
""" + OPEN


class Ward(Server):
    """ward.example in emea, with the authorities of three regions and a fourth that has none."""

    def __init__(self, bed, name='ward', openly='', also=()):
        super().__init__(bed, name, also=also)
        self.hosts, self.host, self.openly, self.serial = ['ward.example'], 'ward.example', openly, 0
        self.cas = {region: Authority(os.path.join(self.folder, 'ca-' + region)) for region in ('emea', 'na', 'apac', 'none')}
        self.authority = self.cas['emea']
        self.peers = {domain: place.free_port() for domain in (NA, APAC, OUTSIDE)}
        bundle = self._path('authorities.pem')
        with open(bundle, 'w', encoding='ascii') as out:
            for ca in self.cas.values():
                with open(ca.certificate, encoding='ascii') as one:
                    out.write(one.read())
        self.federation.update({
            'authorities': ' ' + bundle, 'expiry': ' 60 seconds',
            'targets': ''.join('\n      - {domain: %s, host: 127.0.0.1, port: %d}' % item for item in self.peers.items())})

    def base_config(self):
        config = super().base_config()
        config['regions'] = {'map': ' ' + self._path('map'), 'key': ' ' + self._path('key.pub'), 'id': ' emea',
                             'refuse-openly': ' [%s]' % self.openly}
        return config

    def fingerprint(self, region):
        with open(self.cas[region].certificate, encoding='ascii') as f:
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()

    async def give_map(self, rules, serial=None):
        self.serial = serial or self.serial + 1
        if not os.path.exists(self._path('key')):
            await self.must('irisctl', 'region', 'init', self._path('map'), self._path('key'))
        with open(self._path('map'), 'w', encoding='utf-8') as f:
            f.write(MAP % (self.serial, *(self.fingerprint(region) for region in ('emea', 'na', 'apac')), rules))
        await self.must('irisctl', 'region', 'sign', self._path('map'), self._path('key'))

    async def prepare(self):
        self.write_config()
        await self.give_map(OPEN)
        await super().prepare()

    def identity(self, ca, domain, *regions):
        """A certificate for the domain by the authority of `ca`, with these regions among its names."""
        name = '-'.join((domain, *regions))
        return self.cas[ca].issue(name, domain, ['DNS:' + domain, *('URI:urn:iris:region:' + r for r in regions)])


@contextlib.asynccontextmanager
async def ward_of(bed, name='ward', allowed=(), **more):
    """A running server with lear on it, who is signed in."""
    ward = Ward(bed, name, **more)
    await ward.prepare()
    await ward.start()
    lear = None
    try:
        await ward.wait_log('map-in-force', since=0)
        await ward.add_accounts([('lear@' + ward.host, 'lear-secret')])
        lear = await Person(ward, 'lear').sign_in()
        yield ward, lear
    except StageError as error:
        raise StageError('%s\n%s' % (error, ward.tail(20))) from error
    finally:
        if lear:
            lear.connection.close()
        problem = await ward.stop()
    need(not problem and not ward.errors(0, allowed), problem or str(ward.errors(0, allowed)))


async def is_refused(ward, domain, identity, condition='not-authorized'):
    peer = Peer(domain, identity)
    features = await peer.start_tls(ward)
    need(not list(features.iter('{urn:ietf:params:xml:ns:xmpp-sasl}mechanism')), 'it is offered EXTERNAL')
    await peer.expect_error(condition)
    peer.close()


async def is_not_dialled(ward, lear, domain, identity, ident):
    """Whom we dial has to be of the region, too."""
    listener = Listener(domain, identity, ward.peers[domain])
    await listener.start()
    lear.say('x@' + domain, 'for nobody else', ident)
    await lear.error(ident, 'remote-server-timeout')
    need(listener.dialled > 0 and listener.stanzas.empty(), 'it was handed over')
    await listener.stop()


@case
async def regions_are_proven_by_certificates(bed):
    """A certificate of the region under its authority speaks for its domains; one of another, of none, of two, by another's, does not."""
    async with ward_of(bed) as (ward, lear):
        for domain, ca, region in ((NA, 'na', 'na'), (APAC, 'apac', 'apac')):
            peer = Peer(domain, ward.identity(ca, domain, region))
            await peer.sign_in(ward)
            peer.message('x@' + domain, lear.jid, 'from ' + region)
            await lear.message('from ' + region)
            peer.close()
        peer = Peer(OUTSIDE, ward.identity('none', OUTSIDE))
        await peer.sign_in(ward)
        peer.message('x@' + OUTSIDE, lear.jid, 'from outside')
        await lear.message('from outside')
        peer.close()
        for domain, ca, regions in (
                (APAC, 'na', ['na']),       # region A's certificate for a domain of B
                (APAC, 'na', ['apac']),     # it says B, under the authority of A
                (APAC, 'none', ['apac']), (APAC, 'none', []), (APAC, 'apac', []),
                (NA, 'na', ['na', 'apac']), (NA, 'na', ['na', 'na']), (NA, 'na', ['NA']), (NA, 'na', ['mars']), (NA, 'na', ['']),
                (OUTSIDE, 'na', ['na']), (OUTSIDE, 'none', ['na']), (OUTSIDE, 'emea', ['emea'])):
            await is_refused(ward, domain, ward.identity(ca, domain, *regions))


@case
async def regions_are_proven_to_us(bed):
    """Whom we dial has to be of the region that the map has for the domain."""
    async with ward_of(bed, 'warddial') as (ward, lear):
        await is_not_dialled(ward, lear, APAC, ward.identity('na', APAC, 'na'), 'd1')
        await is_not_dialled(ward, lear, OUTSIDE, ward.identity('na', OUTSIDE, 'na'), 'd2')
        listener = Listener(NA, ward.identity('na', NA, 'na'), ward.peers[NA])
        await listener.start()
        lear.say('x@' + NA, 'for na')
        need((await listener.stanzas.get()).get('to') == 'x@' + NA, 'something else came')
        await listener.stop()


@case
async def regions_are_not_proven_by_dialback(bed):
    """The DNS proves no domain that has a region, nor any on a stream whose certificate has one."""
    async with ward_of(bed, 'wardback', also=['xep0220']) as (ward, _):
        await is_refused(ward, NA, ward.identity('none', NA))
        await is_refused(ward, OUTSIDE, ward.identity('na', OUTSIDE, 'na'))
        peer = Peer(NA, ward.identity('na', NA, 'na'))
        await peer.sign_in(ward)
        for domain in (APAC, OUTSIDE):      # another pair on its stream
            peer.write("<db:result xmlns:db='%s' from='%s' to='%s'>key</db:result>" % (DIALBACK, domain, ward.host))
            answer = await peer.next('an answer about ' + domain)
            need(answer.get('type') in ('invalid', 'error'), 'it was believed: %s' % answer.attrib)
        peer.close()


def text_of(element, user):
    """As it came, but for who it is about."""
    text = ET.tostring(element, encoding='unicode')
    return text.replace(user, 'SOMEBODY')


@case
async def refusals_look_like_nobody(bed):
    """Both ways, what the map refuses is answered word for word as by an address, or a domain, that does not exist; errors not at all."""
    async with ward_of(bed, 'wardmute') as (ward, lear):
        listener = Listener(NA, ward.identity('na', NA, 'na'), ward.peers[NA])
        await listener.start()
        peer = Peer(NA, ward.identity('na', NA, 'na'))
        await peer.sign_in(ward)
        for kind, allowed, refused in (
                ('message', '<body>hi</body>', '<body>secret</body>' + OOB),
                ('iq', "<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='jabber:iq:private'/>")):
            texts = []
            for user, inner in (('nobody', allowed), ('lear', refused)):
                peer.write("<%s from='x@n.example/r' to='%s@ward.example' id='1' type='%s'>%s</%s>" % (
                    kind, user, 'get' if kind == 'iq' else 'chat', inner, kind))
                texts.append(text_of(await listener.stanzas.get(), user))
            need(texts[0] == texts[1], 'they differ: %s' % texts)
            need('secret' not in texts[1], 'it has the content')
        peer.write("<message from='x@n.example' to='lear@ward.example' id='2' type='error'>%s</message>" % OOB)
        peer.write("<presence from='x@n.example' to='nobody@ward.example' type='subscribe'/>")
        peer.message('x@n.example', 'nobody@ward.example', 'the last')
        need((await listener.stanzas.get()).get('id') == 'the last', 'an error, or a request to nobody, was answered')
        texts = []
        for ident, domain, inner in (('o1', 'nowhere.example', ''), ('o2', NA, OOB)):
            lear.send_stanza("<message to='x@%s' id='%s' type='chat'><body>out</body>%s</message>" % (domain, ident, inner))
            texts.append(text_of(await lear.error(ident, 'remote-server-not-found'), domain).replace(ident, 'ID'))
        need(texts[0] == texts[1], 'they differ: %s' % texts)
        line = await ward.wait_log('refused', {'area': 'gate', 'direction': 'entering'}, since=0)
        need((line['categories'], line['from'], line['to'], line['theirs']) == ('file-link', 'na', 'emea', NA), 'logged: %s' % line)
        need(not any('secret' in str(entry) or 'x@' in str(entry) for entry in ward.log if entry.get('area') == 'gate'),
             'the log says who, or what')
        peer.close()
        await listener.stop()


@case
async def refusals_by_name(bed):
    """Categories of refuse-openly are refused with policy-violation, both ways; the others as before."""
    async with ward_of(bed, 'wardopen', openly='file-link') as (ward, lear):
        listener = Listener(NA, ward.identity('na', NA, 'na'), ward.peers[NA])
        await listener.start()
        peer = Peer(NA, ward.identity('na', NA, 'na'))
        await peer.sign_in(ward)
        for ident, inner, condition in (('n1', '<body>x</body>' + OOB, 'policy-violation'),
                                        ('n2', "<propose xmlns='urn:xmpp:jingle-message:0' id='a'/>", 'service-unavailable')):
            peer.write("<message from='x@n.example' to='lear@ward.example' id='%s'>%s</message>" % (ident, inner))
            answer = await listener.stanzas.get()
            need(answer.get('id') == ident and condition in text_of(answer, 'lear'), 'came: %s' % text_of(answer, 'lear'))
        lear.send_stanza("<message to='x@n.example' id='n3'><body>x</body>%s</message>" % OOB)
        await lear.error('n3', 'policy-violation')
        peer.close()
        await listener.stop()


@case
async def a_new_map_ends_what_it_forbids(bed):
    """Links of a region that is shut out end at once, what waits for it comes back, others stay; an older map is refused."""
    async with ward_of(bed, 'wardmap', allowed=('map-refused', 'reload-refused')) as (ward, lear):
        na, apac = Peer(NA, ward.identity('na', NA, 'na')), Peer(APAC, ward.identity('apac', APAC, 'apac'))
        for peer in (na, apac):
            await peer.sign_in(ward)
            peer.message('x@' + peer.domain, lear.jid, 'before, from ' + peer.domain)
            await lear.message('before, from ' + peer.domain)
        lear.say('x@' + NA, 'waits', 'w1')      # nobody listens there
        await ward.wait_log('unreachable', {'domain': NA}, since=0)
        await ward.give_map(NA_SHUT)
        ward.reload()
        await na.expect_error('policy-violation')
        await lear.error('w1', 'remote-server-not-found')
        apac.message('x@' + APAC, lear.jid, 'after')
        await lear.message('after')
        lear.say('x@' + NA, 'is not queued', 'w2')
        await lear.error('w2', 'remote-server-not-found', 2)
        since = len(ward.log)
        await ward.give_map(OPEN, serial=1)
        ward.reload()
        await ward.wait_log('map-refused', since=since)
        lear.say('x@' + NA, 'is still closed', 'w3')
        await lear.error('w3', 'remote-server-not-found', 2)
        apac.close()


@case
async def presence_crosses_between_contacts_only(bed):
    """Over the boundary nobody shows presence to, or sees it of, somebody who is no contact."""
    async with ward_of(bed, 'wardseen') as (ward, lear):
        listener = Listener(NA, ward.identity('na', NA, 'na'), ward.peers[NA])
        await listener.start()
        peer = Peer(NA, ward.identity('na', NA, 'na'))
        await peer.sign_in(ward)
        lear.send_stanza("<presence to='x@n.example'><status>hidden</status></presence>")
        peer.write("<presence from='x@n.example/r' to='%s'><status>unseen</status></presence>" % lear.address)
        peer.message('x@n.example', lear.jid, 'a mark')
        seen = await lear.wait('the mark', lambda e: e.get('from', '').startswith('x@n.example'))
        need(seen.tag.endswith('}message'), 'a stranger was seen')
        lear.send_stanza("<presence to='x@n.example' type='subscribe'/>")
        first = await listener.stanzas.get()
        need(first.get('type') == 'subscribe', 'a stranger was shown presence: %s' % first.attrib)
        peer.write("<presence from='x@n.example' to='%s' type='subscribed'/>" % lear.address)
        peer.write("<presence from='x@n.example/r' to='%s'><status>seen</status></presence>" % lear.address)
        await lear.wait('presence of a contact', lambda e: e.get('from') == 'x@n.example/r')
        peer.write("<presence from='x@n.example' to='%s' type='subscribe'/>" % lear.address)
        await lear.wait('the request', lambda e: e.get('type') == 'subscribe')
        lear.send_stanza("<presence to='x@n.example'><status>shown</status></presence>")
        shown = await listener.stanzas.get()
        need(shown.find('{jabber:server}status') is not None, 'came: %s' % shown.attrib)
        peer.close()
        await listener.stop()
