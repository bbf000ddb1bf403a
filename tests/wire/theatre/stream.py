# SPDX-License-Identifier: Apache-2.0
"""One connection: bytes and TLS below, an inbox of elements above.  Knows nothing of sessions."""
import asyncio
import collections
import socket
import struct
import xml.etree.ElementTree as ET
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from . import pattern

CLOSED = '{%s}closed' % pattern.PLAY   # in the inbox: </stream:stream>
GONE = '{%s}gone' % pattern.PLAY       # in the inbox: the connection is closed
BROKEN = '{%s}broken' % pattern.PLAY   # in the inbox: what came is not XML


class Parser:
    """Bytes to elements below the stream's root."""

    def __init__(self, deliver):
        self.deliver = deliver
        self.open = []
        self.held = b''
        self.expat = expat.ParserCreate('UTF-8', '\n')
        self.expat.buffer_text = True
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end
        self.expat.CharacterDataHandler = self._text

    @staticmethod
    def _clark(name):
        ns, _, local = name.rpartition('\n')
        return '{%s}%s' % (ns, local) if ns else local

    def _start(self, name, attributes):
        element = ET.Element(self._clark(name), {self._clark(k): v for k, v in attributes.items()})
        if len(self.open) > 1:
            self.open[-1].append(element)
        self.open.append(element)
        if len(self.open) == 1:
            self.deliver(element)

    def _end(self, name):
        element = self.open.pop()
        if len(self.open) == 1:
            self.deliver(element)
        elif not self.open:
            self.deliver(ET.Element(CLOSED))

    def _text(self, text):
        if len(self.open) < 2:
            return
        parent = self.open[-1]
        if len(parent):
            parent[-1].tail = (parent[-1].tail or '') + text
        else:
            parent.text = (parent.text or '') + text

    def feed(self, data):
        # Whole tokens only: expat's reparse deferral would sit on a tag that came in two pieces.
        data = self.held + data
        cut = data.rfind(b'>') + 1
        self.held = data[cut:]
        try:
            self.expat.Parse(data[:cut], False)
        except expat.ExpatError as error:
            broken = ET.Element(BROKEN)
            broken.text = '%s in %r' % (error, data[:300])
            self.deliver(broken)


class Connection(asyncio.Protocol):
    """`arrived(connection, element)` may take an element (True) before it gets into the inbox."""

    def __init__(self, arrived=None):
        self.inbox = collections.deque()
        self.arrived = arrived or (lambda connection, element: False)
        self.news = asyncio.Event()
        self.transport = None
        self.gone = False
        self.parser = Parser(self._deliver)
        self.bytes = 0            # that came, as the client reads them
        self.unparsed = None      # they are kept here, of a connection that does not speak XML
        self.raw = bytearray()    # everything that came, for the report of a failure

    closing = '</stream:stream>'

    def header(self, to, attributes, ns):
        self.restart()
        self.write(("<?xml version='1.0'?><stream:stream to=%s version='1.0' xmlns='%s' xmlns:stream='%s' %s>" % (
            quoteattr(to), ns, pattern.STREAMS, attributes)).encode())

    @classmethod
    async def open(cls, address, port, arrived=None, tls=None, name=None):
        loop = asyncio.get_running_loop()
        _, self = await loop.create_connection(lambda: cls(arrived), address, port, ssl=tls,
                                               server_hostname=name if tls else None)
        return self

    def connection_made(self, transport):
        self.transport = transport
        sock = transport.get_extra_info('socket')
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.bytes += len(data)
        self.raw += data[-65536:]
        del self.raw[:-65536]
        if self.unparsed is not None:
            self.unparsed += data
            self.news.set()
            return
        self.parser.feed(data)

    def eof_received(self):
        return False

    def connection_lost(self, error):
        self.gone = True
        self._deliver(ET.Element(GONE))

    def _deliver(self, element):
        if not self.arrived(self, element):
            self.inbox.append(element)
            self.news.set()

    def restart(self):
        """A new stream on this connection: a new document."""
        self.parser = Parser(self._deliver)

    def write(self, data):
        if not self.gone:
            self.transport.write(data)

    async def start_tls(self, context, name):
        self.restart()
        loop = asyncio.get_running_loop()
        self.transport = await loop.start_tls(self.transport, self, context, server_hostname=name)

    def tls(self):
        return self.transport.get_extra_info('ssl_object')

    async def next(self, seconds):
        """The next element, or None when none came in time."""
        try:
            async with asyncio.timeout(seconds):
                while not self.inbox:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            return None
        return self.inbox.popleft()

    async def take(self, count, seconds):
        """So many bytes of a connection that does not speak XML; fewer when they did not come in time."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.unparsed) < count and not self.gone:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            pass
        taken = bytes(self.unparsed[:count])
        del self.unparsed[:count]
        return taken

    def drop(self):
        """As a cut cable does it, or nearly: a reset, nothing said."""
        if self.gone:
            return
        sock = self.transport.get_extra_info('socket')
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.transport.abort()

    def close(self):
        if self.transport and not self.gone:
            self.transport.close()
