# SPDX-License-Identifier: Apache-2.0
"""An actor on the stage: a client that can do each step of RFC 6120 alone, or all of them at once."""
import asyncio
import base64
import xml.etree.ElementTree as ET
from xml.sax.saxutils import quoteattr

from . import pattern, sasl, web
from .stream import CLOSED, GONE, Connection

NS_TLS = 'urn:ietf:params:xml:ns:xmpp-tls'
NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
NS_BIND = 'urn:ietf:params:xml:ns:xmpp-bind'
NS_SM = 'urn:xmpp:sm:3'
NS_CB = 'urn:xmpp:sasl-cb:0'
SECONDS = 5.0


class StageError(Exception):
    """What the play expected did not happen."""


def wrong(expected, came):
    return StageError('expected: %s\ncame:     %s' % (
        expected, 'nothing in %g s' % SECONDS if came is None else describe(came)))


def describe(element):
    names = {CLOSED: 'the closing tag of the stream', GONE: 'the end of the connection'}
    return names.get(element.tag) or pattern.show(element)


class Client:
    def __init__(self, name, place, besides):
        self.name, self.place = name, place   # place: where the server is (theatre.place.Place)
        self.besides = besides     # does a foreign server send this element besides what the RFC says?
        self.connection = None
        self.user = self.password = self.jid = None
        self.host = place.host
        self.ns = pattern.CLIENT
        self.silent = []           # connections that only exist
        self.mute = False          # not asked by fences
        self.features = None
        self.ignored = []          # patterns that never get into the inbox
        self.waiting = {}          # id of a fence's ping -> future
        self.pings = 0
        self.auto_sm = self.sm_on = False
        self.previd = None
        self.seen = 0              # stanzas received since <enabled/>
        self.unacked = []          # sent since <enable/> and not acknowledged
        self.acked = 0             # the last h of the server

    # --- what comes ---

    def _arrived(self, connection, element):
        if connection is not self.connection:
            return False    # of a connection that was given up: it must not be answered on the new one
        if element.tag == '{%s}features' % pattern.STREAMS:
            self.features = element
        if element.tag in pattern.STANZAS:
            self.seen += self.sm_on
            future = self.waiting.pop(element.get('id'), None)
            if future:
                future.set_result(element)
                return True
        elif self.auto_sm and element.tag == '{%s}r' % NS_SM:
            self.write("<a xmlns='%s' h='%d'/>" % (NS_SM, self.seen))
            return True
        elif self.auto_sm and element.tag == '{%s}a' % NS_SM:
            self.acknowledged(int(element.get('h')))
            return True
        elif element.tag == GONE:
            for future in self.waiting.values():
                if not future.done():
                    future.cancel()
        return self.besides(element) or any(pattern.match(p, element, {})[0] is None for p in self.ignored)

    def acknowledged(self, h):
        del self.unacked[:h - self.acked]
        self.acked = h

    def is_open(self):
        return self.connection is not None and not self.connection.gone

    async def next(self, expected):
        """The next element; a failure that says what was expected when there is none."""
        element = await self.connection.next(SECONDS)
        if element is None:
            raise wrong(expected, None)
        return element

    async def expect(self, tag, expected):
        element = await self.next(expected)
        if element.tag != tag:
            raise wrong(expected, element)
        return element

    # --- what goes ---

    def write(self, text):
        self.connection.write(text if isinstance(text, bytes) else text.encode())

    def send_stanza(self, text):
        if self.sm_on:
            self.unacked.append(text)
        self.write(text)

    # --- step by step ---

    async def open(self, direct=False, port=None, certificate=None):
        tls = self.place.tls(certificate) if direct else None
        if direct:
            tls.set_alpn_protocols(['xmpp-client'])
        self.connection = None
        self.connection = await Connection.open(
            self.place.address, port or self.place.ports['direct' if direct else 'c2s'],
            self._arrived, tls, self.host)
        self.sm_on = False

    async def open_web(self, kind=web.WebConnection, port='web', tls=True):
        """A connection of HTTP; of a kind that carries XMPP, ready for its header."""
        context = self.place.tls() if tls else None
        if tls:
            context.set_alpn_protocols(['http/1.1'])
        self.connection = None
        self.connection = await kind.open(self.place.address, self.place.ports[port], self._arrived, context, self.host)
        self.sm_on = False

    async def open_websocket(self, port='web'):
        await self.open_web(web.WebSocketConnection, port)
        async with asyncio.timeout(SECONDS):
            await self.connection.upgrade(self.host, loop=asyncio.get_running_loop())

    async def open_bosh(self, port='web'):
        async def opener(session):
            context = self.place.tls()
            context.set_alpn_protocols(['http/1.1'])
            connection = await web.WebConnection.open(self.place.address, self.place.ports[port], None, context,
                                                      self.host)
            connection.bosh = session
            connection.arrived = lambda _, element: True    # its end is not the session's
            return connection
        self.connection = None
        self.connection = await web.BoshConnection.begin(opener, self.host)
        self.connection.arrived = self._arrived
        self.sm_on = False

    def send_header(self, to=None, attributes='', ns=pattern.CLIENT):
        self.connection.header(to or self.host, attributes, ns)

    async def open_stream(self, attributes=''):
        self.send_header(attributes=attributes)
        await self.expect('{%s}stream' % pattern.STREAMS, 'a stream header')
        await self.expect('{%s}features' % pattern.STREAMS, 'stream features')

    def offers(self, ns, name):
        return self.features.find('{%s}%s' % (ns, name)) is not None

    async def start_tls(self, certificate=None):
        """After <proceed/>."""
        await self.connection.start_tls(self.place.tls(certificate), self.host)

    async def negotiate_tls(self, certificate=None):
        if not self.offers(NS_TLS, 'starttls'):
            raise wrong('STARTTLS', self.features)
        self.write("<starttls xmlns='%s'/>" % NS_TLS)
        await self.expect('{%s}proceed' % NS_TLS, '<proceed/>')
        await self.start_tls(certificate)

    def _binding(self, kind):
        tls = self.connection.tls()
        if tls is None:
            return None
        if kind is None:
            named = [b.get('type') for b in self.features.iter('{%s}channel-binding' % NS_CB)]
            kind = 'tls-server-end-point' if 'tls-server-end-point' in named else 'tls-unique'
        if kind == 'tls-unique':
            return kind, tls.get_channel_binding('tls-unique')
        return kind, sasl.end_point(tls.getpeercert(True))

    def mechanisms(self):
        return [m.text for m in self.features.iter('{%s}mechanism' % NS_SASL)]

    async def try_authenticate(self, mechanism=None, password=None, binding=None, authzid=''):
        """None on success, else the <failure/>."""
        offered = self.mechanisms()
        mechanism = mechanism or next((m for m in sasl.PREFERENCE if m in offered), None)
        if mechanism is None:
            raise wrong('a mechanism that the runner speaks', self.features)
        side = sasl.start(mechanism, self.user, password or self.password,
                          self._binding(binding) if mechanism.endswith('-PLUS') else None, authzid)
        self.write("<auth xmlns='%s' mechanism='%s'>%s</auth>" % (
            NS_SASL, mechanism, base64.b64encode(side.first).decode() or '='))
        while True:
            element = await self.next('an answer of SASL')
            data = base64.b64decode(element.text or '')
            if element.tag == '{%s}challenge' % NS_SASL:
                self.write("<response xmlns='%s'>%s</response>" % (
                    NS_SASL, base64.b64encode(side.challenge(data)).decode()))
            elif element.tag == '{%s}success' % NS_SASL:
                side.success(data)
                return None
            elif element.tag == '{%s}failure' % NS_SASL:
                return element
            else:
                raise wrong('an answer of SASL', element)

    async def authenticate(self, **options):
        failure = await self.try_authenticate(**options)
        if failure is not None:
            raise wrong('<success/>', failure)

    async def ask(self, text, ident):
        """Sends an iq and takes its answer out of whatever comes meanwhile."""
        future = asyncio.get_running_loop().create_future()
        self.waiting[ident] = future
        self.send_stanza(text)
        try:
            async with asyncio.timeout(SECONDS):
                return await future
        except TimeoutError:
            raise wrong('an answer to ' + text, None)
        except asyncio.CancelledError:
            if not self.connection.gone:
                raise
            raise wrong('an answer to ' + text, ET.Element(GONE))

    async def bind(self, resource=None):
        asked = '<resource>%s</resource>' % resource if resource else ''
        answer = await self.ask("<iq type='set' id='bind'><bind xmlns='%s'>%s</bind></iq>" % (NS_BIND, asked), 'bind')
        jid = answer.find('{%s}bind/{%s}jid' % (NS_BIND, NS_BIND))
        if answer.get('type') != 'result' or jid is None:
            raise wrong('the bound address', answer)
        self.jid = jid.text

    async def enable_sm(self, by_hand=False):
        self.auto_sm = not by_hand
        self.unacked, self.acked = [], 0
        self.write("<enable xmlns='%s' resume='true'/>" % NS_SM)
        enabled = await self.expect('{%s}enabled' % NS_SM, '<enabled/>')
        self.previd, self.seen, self.sm_on = enabled.get('id'), 0, True

    async def resume(self):
        """On an authenticated stream; sends again what was not acknowledged."""
        self.sm_on = True     # what comes in one piece with <resumed/> counts
        self.write("<resume xmlns='%s' previd=%s h='%d'/>" % (NS_SM, quoteattr(self.previd or ''), self.seen))
        resumed = await self.expect('{%s}resumed' % NS_SM, '<resumed/>')
        self.acknowledged(int(resumed.get('h')))
        for text in self.unacked:
            self.write(text)

    async def become_available(self, roster=True, presence=True, priority=None):
        if roster:
            answer = await self.ask("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>", 'roster')
            if answer.get('type') != 'result':
                raise wrong('the roster', answer)
        if not presence:
            return
        inner = '<priority>%d</priority>' % priority if priority is not None else ''
        self.send_stanza('<presence>%s</presence>' % inner)
        await self.fence()
        own = pattern.parse("<presence from=%s/>" % quoteattr(self.jid))[0]
        for element in self.connection.inbox:
            if pattern.match(own, element, {})[0] is None:
                self.connection.inbox.remove(element)
                return
        raise wrong('the own presence (RFC 6121 §4.2.2)', None)

    async def fence(self):
        """What was sent before is done when this returns; its own answer is not seen by the play."""
        self.pings += 1
        ident = 'fence-%d' % self.pings
        await self.ask("<iq type='get' id='%s' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (ident, self.host), ident)

    # --- leaving ---

    def forget_silent(self):
        for _, writer in self.silent:
            writer.close()
        self.silent = []

    async def disconnect(self):
        self.write(self.connection.closing)
        while True:
            element = await self.next('the closing tag of the stream')
            if element.tag in (CLOSED, GONE):
                break
        self.connection.close()
        self.connection = None
        self.sm_on = False
