# SPDX-License-Identifier: Apache-2.0
"""A client that writes, reads and acknowledges all the time, and enters all of it in the ledger."""
import asyncio
from xml.sax.saxutils import quoteattr

from theatre.client import NS_SM, Client, StageError, describe, wrong
from theatre.pattern import CLIENT

from ledger import Entry

NS_MAM = 'urn:xmpp:mam:2'
NS_SID = 'urn:xmpp:sid:0'
MESSAGE = '{%s}message' % CLIENT
WINDOW = 150            # unacknowledged messages: then wait
BURST = 20              # messages that are written together
PAGE = 100              # of the archive


class Sent(str):
    """The text of a message that was sent, with its line in the ledger."""
    send = None


class Actor(Client):
    def __init__(self, user, place, ledger, dice):
        super().__init__(user, place, self._take)
        self.user, self.password = user, user + '-secret'
        self.address = '%s@%s' % (user, place.host)
        self.ledger, self.dice = ledger, dice
        self.auto_sm = True
        self.writing = False     # signed in, and not on the way to another connection
        self.archive = []        # read back so far
        self.page = None         # of the archive, while it comes
        self.stream_error = None
        self.drained = asyncio.Event()

    # --- what comes ---

    def _arrived(self, connection, element):
        if connection is not self.connection:
            return True
        # Counting starts with the very next stanza, which may be in the same record.
        if element.tag == '{%s}enabled' % NS_SM:
            self.previd, self.seen, self.sm_on = element.get('id'), 0, True
            self.ledger.sessions[self.user].append([])
        elif element.tag == '{%s}resumed' % NS_SM:
            self.sm_on = True
        elif element.tag == '{http://etherx.jabber.org/streams}error':
            self.stream_error = describe(element)
        return super()._arrived(connection, element)

    def _take(self, element):
        """Messages and presences never wait in the inbox."""
        if element.tag == MESSAGE:
            self._take_message(element)
        return element.tag in (MESSAGE, '{%s}presence' % CLIENT)

    def _take_message(self, element):
        result = element.find('{%s}result' % NS_MAM)
        if result is not None:
            message = result.find('.//' + MESSAGE)
            self.page.append(Entry(result.get('id'), message.get('id') or describe(message)))
        elif element.get('type') == 'error':
            send = self.ledger.sends.get(element.get('id'))
            if send:
                send.refused = True
        else:
            ids = [i.get('id') for i in element.findall('{%s}stanza-id' % NS_SID) if i.get('by') == self.address]
            self.ledger.receive(self.user, element.get('id'), ids[0] if ids else None)

    def acknowledged(self, h):
        count = (h - self.acked) & 0xffffffff
        if count > len(self.unacked):
            raise StageError('%s: h=%d, but only %d were sent' % (self.user, h, self.acked + len(self.unacked)))
        for text in self.unacked[:count]:
            if isinstance(text, Sent):
                text.send.acknowledged = True
        super().acknowledged(h)
        if not self.unacked:
            self.drained.set()

    # --- connecting ---

    async def _sign_in(self):
        self.writing = False
        self.stream_error = None
        await self.open(direct=self.dice.random() < 0.5)
        await self.open_stream()
        if self.connection.tls() is None:
            await self.negotiate_tls()
            await self.open_stream()
        await self.authenticate()
        await self.open_stream()

    async def begin(self):
        """A new session; the first of what waited offline has come when this returns."""
        await self._sign_in()
        await self.bind('main')
        self.unacked, self.acked = [], 0
        self.write("<enable xmlns='%s' resume='true'/>" % NS_SM)
        await self.expect('{%s}enabled' % NS_SM, '<enabled/>')
        self.send_stanza('<presence/>')
        self.writing = True
        await self.fence()

    async def resume(self):
        """The same session on a new connection."""
        await self._sign_in()
        self.write("<resume xmlns='%s' previd=%s h='%d'/>" % (NS_SM, quoteattr(self.previd), self.seen))
        resumed = await self.expect('{%s}resumed' % NS_SM, '<resumed/>')
        self.acknowledged(int(resumed.get('h')))
        for text in self.unacked:
            self.write(text)
        self.writing = True

    async def is_forgotten(self):
        """After a crash nobody knows the session: <failed/>, and the stream goes on."""
        await self._sign_in()
        self.write("<resume xmlns='%s' previd=%s h='%d'/>" % (NS_SM, quoteattr(self.previd), self.seen))
        await self.expect('{%s}failed' % NS_SM, '<failed/>, the server having been restarted')
        self.connection.drop()

    def drop(self):
        """A reset, without a word."""
        self.writing = False
        self.connection.drop()

    def leave_open(self):
        """As drop(), but the server does not learn of it: what still comes is as if lost on the way."""
        self.writing = False
        self.connection = None

    # --- writing ---

    def send_message(self, recipient):
        send = self.ledger.send(self.user, recipient)
        text = Sent("<message type='chat' id='%s' to='%s@%s'><body>%s %s</body></message>" % (
            send.ident, recipient, self.host, send.ident, 'x' * self.dice.randrange(200)))
        text.send = send
        self.send_stanza(text)

    async def write_on(self, peers, pace):
        """Bursts of messages for as long as there is a connection; ends when it is cancelled."""
        while True:
            if self.writing and self.is_open() and len(self.unacked) < WINDOW:
                for _ in range(self.dice.randint(1, BURST)):
                    self.send_message(self.dice.choice(peers))
                self.write("<r xmlns='%s'/>" % NS_SM)
            await asyncio.sleep(self.dice.uniform(0, 2 * pace))

    async def drain(self, seconds=5.0):
        """Until the server has acknowledged everything."""
        self.drained.clear()
        self.write("<r xmlns='%s'/>" % NS_SM)
        if self.unacked:
            try:
                async with asyncio.timeout(seconds):
                    await self.drained.wait()
            except TimeoutError:
                raise StageError('%s: %d stanzas are not acknowledged after %g s%s' % (
                    self.user, len(self.unacked), seconds, ': ' + self.stream_error if self.stream_error else ''))

    # --- reading back: XEP-0313 ---

    async def read_archive(self, anew=False):
        """All of it; what came since the last time is asked for, unless anew."""
        if anew:
            self.archive = []
        while True:
            after = '<after>%s</after>' % self.archive[-1].archive_id if self.archive else ''
            self.page = []
            self.pings += 1
            ident = 'archive-%d' % self.pings
            fin = await self.ask(
                "<iq type='set' id='%s'><query xmlns='%s'><set xmlns='http://jabber.org/protocol/rsm'>"
                "<max>%d</max>%s</set></query></iq>" % (ident, NS_MAM, PAGE, after), ident)
            found = fin.find('{%s}fin' % NS_MAM)
            if found is None:
                raise wrong('<fin/>', fin)
            if not self.page and found.get('complete') != 'true':
                raise wrong('a page, or the end', fin)
            self.archive += self.page
            if found.get('complete') == 'true':
                return self.archive

    def close(self):
        self.writing = False
        if self.connection:
            self.connection.close()
