# SPDX-License-Identifier: Apache-2.0
"""Another server, played by hand: it connects to a server of Iris, or is connected to, and does what it likes."""
import asyncio
import base64
import ssl

from theatre import pattern
from theatre.client import NS_SASL, NS_TLS, StageError, describe
from theatre.stream import CLOSED, GONE, Connection

SERVER = 'jabber:server'
SECONDS = 10.0


def context(identity, server_side=False):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    if not server_side:
        made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if identity:
        made.load_cert_chain(*identity)
    return made


class Peer:
    """`identity`: (certificate, key), or None."""

    def __init__(self, domain, identity):
        self.domain, self.identity = domain, identity
        self.connection = None

    # --- steps ---

    def write(self, text):
        self.connection.write(text.encode())

    async def next(self, expected, seconds=SECONDS):
        element = await self.connection.next(seconds)
        if element is None:
            raise StageError('%s waits for %s' % (self.domain, expected))
        return element

    async def expect(self, tag, expected):
        element = await self.next(expected)
        if element.tag != tag:
            raise StageError('%s waits for %s; came: %s' % (self.domain, expected, describe(element)))
        return element

    async def expect_error(self, condition):
        """A stream error, and the end."""
        while True:
            element = await self.next('the stream error ' + condition)
            if element.tag == '{%s}error' % pattern.STREAMS:
                found = [c.tag.rpartition('}')[2] for c in element]
                if condition not in found:
                    raise StageError('stream error %s instead of %s' % (found, condition))
            elif element.tag == GONE:
                raise StageError('no stream error, just the end')
            elif element.tag == CLOSED:
                return

    async def open(self, server, direct=False):
        tls = context(self.identity) if direct else None
        if direct:
            tls.set_alpn_protocols(['xmpp-server'])
        self.connection = await Connection.open('127.0.0.1', server.ports['s2s_direct' if direct else 's2s'], None,
                                                tls, server.host)

    async def header(self, to, sender=None):
        self.connection.header(to, "from='%s'" % (sender or self.domain), SERVER)
        await self.expect('{%s}stream' % pattern.STREAMS, 'a stream header')
        return await self.next('stream features')

    async def start_tls(self, server, to=None, sender=None):
        await self.open(server)
        await self.header(to or server.host, sender)
        self.write("<starttls xmlns='%s'/>" % NS_TLS)
        await self.expect('{%s}proceed' % NS_TLS, '<proceed/>')
        await self.connection.start_tls(context(self.identity), server.host)
        return await self.header(to or server.host, sender)

    async def external(self, authzid=None):
        """The answer to EXTERNAL."""
        text = base64.b64encode((authzid or self.domain).encode()).decode()
        self.write("<auth xmlns='%s' mechanism='EXTERNAL'>%s</auth>" % (NS_SASL, text))
        return await self.next('an answer of SASL')

    async def sign_in(self, server, to=None):
        features = await self.start_tls(server, to)
        mechanisms = [m.text for m in features.iter('{%s}mechanism' % NS_SASL)]
        if mechanisms != ['EXTERNAL']:
            raise StageError('mechanisms: %s' % mechanisms)
        answer = await self.external()
        if answer.tag != '{%s}success' % NS_SASL:
            raise StageError('no success: %s' % describe(answer))
        await self.header(to or server.host)

    def message(self, sender, to, body):
        self.write("<message from='%s' to='%s' type='chat' id='%s'><body>%s</body></message>" % (
            sender, to, body[:20], body))

    def close(self):
        if self.connection:
            self.connection.close()


class Listener:
    """Takes in who dials `domain`, up to a point, and goes on as `then(peer)` says."""

    def __init__(self, domain, identity, port, then=None, more='', offers='', react=None):
        self.domain, self.identity, self.port, self.then, self.more = domain, identity, port, then, more
        self.offers, self.react = offers, react     # features once signed in; what comes then
        self.context = context(identity, True)
        self.asked = False      # for both ways
        self.asked_for = []     # what came where SASL was offered
        self.server = None
        self.tasks, self.connections, self.dialled = [], [], 0
        self.stanzas = asyncio.Queue()

    async def start(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self._accepted, '127.0.0.1', self.port)

    def _accepted(self):
        connection = Connection()
        self.dialled += 1
        self.connections.append(connection)
        self.tasks.append(asyncio.ensure_future(self._serve(connection)))
        return connection

    def send_header(self, connection):
        connection.write(("<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='%s' from='%s' id='peer-%d' "
                          "version='1.0'>" % (SERVER, pattern.STREAMS, self.domain, self.dialled)).encode())

    def answer(self, connection, features):
        self.send_header(connection)
        connection.write(('<stream:features>%s</stream:features>' % features).encode())

    async def _serve(self, connection):
        async def until(tag):
            while (element := await connection.next(SECONDS)) is not None and element.tag != GONE:
                if element.tag == tag:
                    return element
            raise StageError('no %s' % tag)
        header = '{%s}stream' % pattern.STREAMS
        try:
            await until(header)
            self.answer(connection, "<starttls xmlns='%s'/>" % NS_TLS)
            await until('{%s}starttls' % NS_TLS)
            connection.write(("<proceed xmlns='%s'/>" % NS_TLS).encode())
            connection.restart()
            loop = asyncio.get_running_loop()
            connection.transport = await loop.start_tls(connection.transport, connection,
                                                        self.context, server_side=True)
            await until(header)
            if self.then:
                await self.then(self, connection)
            self.answer(connection, "<mechanisms xmlns='%s'><mechanism>EXTERNAL</mechanism></mechanisms>%s" % (
                NS_SASL, self.more))
            while (element := await connection.next(SECONDS)).tag != '{%s}auth' % NS_SASL:
                self.asked_for.append(element.tag)
                self.asked = self.asked or element.tag == '{urn:xmpp:bidi}bidi'
            connection.write(("<success xmlns='%s'/>" % NS_SASL).encode())
            connection.restart()
            await until(header)
            self.answer(connection, self.offers)
            while (element := await connection.next(60)) is not None and element.tag != GONE:
                await self.stanzas.put(element)
                if self.react:
                    await self.react(self, connection, element)
        except (StageError, OSError, ssl.SSLError):
            pass

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.server.close()
