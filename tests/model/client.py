# SPDX-License-Identifier: Apache-2.0
"""A client of the model: signs in by each way there is, says what it saw, and reads its archive."""
import asyncio
import base64
import uuid
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from theatre import pattern
from theatre.client import NS_SM, Client, StageError, describe, wrong

NS_MAM, NS_SID, NS_CARBONS = 'urn:xmpp:mam:2', 'urn:xmpp:sid:0', 'urn:xmpp:carbons:2'
NS_SASL2, NS_BIND2, NS_CSI = 'urn:xmpp:sasl:2', 'urn:xmpp:bind:0', 'urn:xmpp:csi:0'
NS_DELAY, NS_HINTS, NS_PING = 'urn:xmpp:delay', 'urn:xmpp:hints', 'urn:xmpp:ping'
MESSAGE = '{%s}message' % pattern.CLIENT
PAGE = 30       # of the archive: some reads have several
SECONDS = 10.0

BODY = '<body>%s</body>'
STATE = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
HINT = "<%%s xmlns='%s'/>" % NS_HINTS
PAYLOADS = {
    'state': STATE,
    'private': BODY + "<private xmlns='%s'/>" % NS_CARBONS,
    'no-copy': BODY + HINT % 'no-copy',
    'no-store': BODY + HINT % 'no-store',
    'unkept': BODY + HINT % 'no-permanent-store',
    'store': STATE + HINT % 'store',
}


@dataclass
class Event:
    """A message that came: `form` says how."""
    ident: str
    form: str           # 'direct', 'later' (XEP-0203), 'received' or 'sent' (XEP-0280), 'error'
    stanza_id: str | None


class Modelled(Client):
    def __init__(self, name, place, account):
        super().__init__(name, place, lambda element: True)
        self.user, self.password = account, account + '-secret'
        self.address = '%s@%s' % (account, place.host)
        self.agent = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.events = []        # since somebody looked
        self.page = []          # of the archive
        self.archive_id = None  # how far it has read
        self.refusal = None     # the stream error, when one came
        self.acknowledged_all = asyncio.Event()
        self.ended = asyncio.Event()
        self.left_open = []     # connections that were given up without closing them
        self.context = place.tls()
        self.context.set_alpn_protocols(['xmpp-client'])

    # --- what comes ---

    def _arrived(self, connection, element):
        if connection is not self.connection:
            return True
        # Counting starts with the very next stanza, which may be in the same record.
        enabled = next(element.iter('{%s}enabled' % NS_SM), None)
        if enabled is not None:
            self.previd, self.seen, self.sm_on = enabled.get('id'), 0, True
        if next(element.iter('{%s}resumed' % NS_SM), None) is not None:
            self.sm_on = True
        if element.tag == '{http://etherx.jabber.org/streams}error':
            self.refusal = describe(element)
        if element.tag == '{%s}a' % NS_SM:
            self.acknowledged(int(element.get('h')))
        if element.tag == MESSAGE:
            self.take_message(element)
        super()._arrived(connection, element)
        if element.tag.endswith('}gone') or element.tag.endswith('}closed'):
            self.ended.set()
        wanted = element.tag.startswith('{%s}' % NS_SASL2) or element.tag.startswith('{%s}' % pattern.STREAMS) or \
            element.tag.endswith(('-sasl}success', '-sasl}failure', '-sasl}challenge', '}gone')) or \
            element.tag in ('{%s}%s' % (NS_SM, n) for n in ('enabled', 'resumed', 'failed'))
        return not wanted

    def take_message(self, element):
        result = element.find('{%s}result' % NS_MAM)
        if result is not None:
            self.page.append((result.get('id'), result.find('.//' + MESSAGE).get('id')))
            return
        form, message = 'later' if element.find('{%s}delay' % NS_DELAY) is not None else 'direct', element
        if element.get('type') == 'error':
            form = 'error'
        for direction in ('sent', 'received'):
            if element.find('{%s}%s' % (NS_CARBONS, direction)) is not None:
                form, message = direction, element.find('.//{urn:xmpp:forward:0}forwarded/' + MESSAGE)
        ids = [i.get('id') for i in message.findall('{%s}stanza-id' % NS_SID) if i.get('by') == self.address]
        self.events.append(Event(message.get('id'), form, ids[0] if ids else None))

    def acknowledged(self, h):
        count = (h - self.acked) & 0xffffffff
        if count > len(self.unacked):
            raise StageError('%s: h=%d, but only %d were sent' % (self.name, h, self.acked + len(self.unacked)))
        super().acknowledged(h)
        if not self.unacked:
            self.acknowledged_all.set()

    def take_events(self):
        events, self.events = self.events, []
        return events

    # --- signing in ---

    async def connect(self):
        self.refusal = None
        self.ended.clear()
        self.connection, self.sm_on, self.events = None, False, []
        self.connection = await self.open_connection()
        await self.open_stream()

    async def open_connection(self):
        from theatre.stream import Connection
        return await Connection.open(self.place.address, self.place.ports['direct'], self._arrived, self.context,
                                     self.host)

    async def sign_in(self, way, inside=''):
        """`inside` goes into <authenticate/>; the <success/> of SASL2."""
        await self.connect()
        if way == 'classic':
            await self.authenticate()
            await self.open_stream()
            return None
        initial = base64.b64encode(('\0%s\0%s' % (self.user, self.password)).encode()).decode()
        self.write("<authenticate xmlns='%s' mechanism='PLAIN'><initial-response>%s</initial-response>"
                   "<user-agent id='%s'/>%s</authenticate>" % (NS_SASL2, initial, self.agent, inside))
        success = await self.expect('{%s}success' % NS_SASL2, '<success/>')
        await self.expect('{%s}features' % pattern.STREAMS, 'stream features')
        return success

    def enable_element(self, sm):
        return "<enable xmlns='%s' resume='%s'/>" % (NS_SM, 'false' if sm == 'plain' else 'true')

    async def begin_bind2(self, sm, carbons, inactive):
        inside = "<bind xmlns='%s'><tag>%s</tag>%s%s%s</bind>" % (
            NS_BIND2, self.name, "<enable xmlns='%s'/>" % NS_CARBONS if carbons else '',
            self.enable_element(sm) if sm else '', "<inactive xmlns='%s'/>" % NS_CSI if inactive else '')
        self.forget_sm()
        success = await self.sign_in('sasl2', inside)
        if success.find('{%s}bound' % NS_BIND2) is None:
            raise wrong('<bound/>', success)
        self.jid = success.findtext('{%s}authorization-identifier' % NS_SASL2)
        if sm and not self.sm_on:
            raise wrong('<enabled/>', success)

    async def begin(self, way, sm, carbons, inactive):
        self.forget_sm()
        await self.sign_in(way)
        await self.bind(self.name)
        if sm:
            self.write(self.enable_element(sm))
            await self.expect('{%s}enabled' % NS_SM, '<enabled/>')
        if carbons:
            await self.set_carbons(True)
        if inactive:
            self.set_active(False)

    def forget_sm(self):
        self.unacked, self.acked, self.previd, self.seen = [], 0, None, 0

    async def try_resume(self, inline, previd=None, h=None):
        """True when it was resumed, and what the server did not have is sent again."""
        element = "<resume xmlns='%s' previd=%s h='%d'/>" % (
            NS_SM, quoteattr(previd or self.previd), self.seen if h is None else h)
        resumed = None
        if inline:
            success = await self.sign_in('sasl2', element)
            resumed = success.find('{%s}resumed' % NS_SM)
        else:
            await self.sign_in('classic')
            self.write(element)
            answer = await self.next('<resumed/> or <failed/>')
            resumed = answer if answer.tag == '{%s}resumed' % NS_SM else None
        if resumed is None:
            return False
        self.acknowledged(int(resumed.get('h')))
        for text in self.unacked:
            self.write(text)
        return True

    # --- what a client says ---

    async def set_carbons(self, on):
        self.pings += 1
        ident = 'carbons-%d' % self.pings
        await self.ask("<iq type='set' id='%s'><%s xmlns='%s'/></iq>" % (
            ident, 'enable' if on else 'disable', NS_CARBONS), ident)

    def set_active(self, active):
        self.write("<%s xmlns='%s'/>" % ('active' if active else 'inactive', NS_CSI))

    def set_presence(self, priority):
        """None: unavailable."""
        self.send_stanza("<presence type='unavailable'/>" if priority is None else
                         '<presence><priority>%d</priority></presence>' % priority)

    def message_text(self, message, to):
        payload = PAYLOADS.get(message.kind, BODY)
        payload = payload % message.ident if '%s' in payload else payload
        return "<message type='%s' id='%s' to='%s'>%s<origin-id xmlns='%s' id='%s'/></message>" % (
            message.type, message.ident, to, payload, NS_SID, message.ident)

    def acknowledge(self):
        if self.sm_on:
            self.write("<a xmlns='%s' h='%d'/>" % (NS_SM, self.seen))

    async def drained(self):
        """Until the server has acknowledged all that was sent."""
        self.acknowledged_all.clear()
        if not self.sm_on or not self.unacked:
            return
        self.write("<r xmlns='%s'/>" % NS_SM)
        try:
            async with asyncio.timeout(SECONDS):
                await self.acknowledged_all.wait()
        except TimeoutError:
            raise StageError('%s: %d stanzas are not acknowledged after %g s' % (
                self.name, len(self.unacked), SECONDS))

    async def read_archive(self, after=None):
        """[(id, ident)] behind `after`, page by page."""
        entries = []
        while True:
            self.page = []
            self.pings += 1
            ident = 'archive-%d' % self.pings
            place = '<after>%s</after>' % after if after else ''
            answer = await self.ask(
                "<iq type='set' id='%s'><query xmlns='%s'><set xmlns='http://jabber.org/protocol/rsm'>"
                '<max>%d</max>%s</set></query></iq>' % (ident, NS_MAM, PAGE, place), ident)
            fin = answer.find('{%s}fin' % NS_MAM)
            if fin is None or (not self.page and fin.get('complete') != 'true'):
                raise wrong('a page of the archive', answer)
            entries += self.page
            if fin.get('complete') == 'true':
                return entries
            self.acknowledge()      # before it is more than the server keeps for us
            after = self.page[-1][0]

    # --- leaving ---

    def drop(self):
        """A reset, without a word.  What came meanwhile counts."""
        for connection in self.left_open:
            connection.drop()
        self.left_open = []
        if self.connection:
            self.connection.drop()
        self.connection, self.sm_on = None, False
        self.give_up_asking()

    def hang(self):
        """The server does not learn of it."""
        if self.connection:
            self.left_open.append(self.connection)
        self.connection, self.sm_on = None, False
        self.give_up_asking()

    def give_up_asking(self):
        for future in self.waiting.values():
            future.cancel()
        self.waiting = {}

    async def leave(self):
        """An orderly end: everything that the server sent before its own is taken in."""
        self.acknowledge()
        self.write('</stream:stream>')
        await self.wait_end()

    async def wait_end(self):
        try:
            async with asyncio.timeout(SECONDS):
                await self.ended.wait()
        except TimeoutError:
            raise StageError(self.name + ': the stream does not end')
        if self.connection:
            self.connection.close()
        self.connection, self.sm_on = None, False
