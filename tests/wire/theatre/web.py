# SPDX-License-Identifier: Apache-2.0
"""Connections of HTTP: plain requests, XMPP over WebSocket (RFC 7395), and BOSH (XEP-0124, XEP-0206).

The two that carry XMPP look to a client like one of TCP: what it writes becomes frames or bodies,
what comes gets into the inbox as elements.
"""
import base64
import collections
import hashlib
import os
import re
import struct
import xml.etree.ElementTree as ET
from xml.sax.saxutils import quoteattr

from . import pattern
from .stream import BROKEN, CLOSED, GONE, Connection

FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing'
NS_BOSH = 'http://jabber.org/protocol/httpbind'
ANSWER = '{%s}answer' % pattern.PLAY       # in the inbox of a web connection: status, fields, body
GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
WEBSOCKET_PATH, BOSH_PATH = '/xmpp-websocket', '/http-bind'


class Response:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def get(self, name):
        return ', '.join(value for key, value in self.fields if key.lower() == name.lower())


def read_response(data, head_only):
    """(Response, bytes used), or None while it is not whole."""
    end = data.find(b'\r\n\r\n')
    if end < 0:
        return None
    status_line, *lines = data[:end].decode('latin-1').split('\r\n')
    fields = [tuple(line.split(': ', 1)) for line in lines]
    status = int(status_line.split(' ')[1])
    response = Response(status, fields, b'')
    at = end + 4
    if head_only or status in (100, 101, 204, 304):
        return response, at
    if response.get('Transfer-Encoding') == 'chunked':
        while True:
            line = data.find(b'\r\n', at)
            if line < 0:
                return None
            size = int(data[at:line], 16)
            if len(data) < line + 2 + size + 2:
                return None
            response.body += data[line + 2:line + 2 + size]
            at = line + 2 + size + 2
            if size == 0:
                return response, at
    size = int(response.get('Content-Length') or 0)
    if len(data) < at + size:
        return None
    response.body = bytes(data[at:at + size])
    return response, at + size


class WebConnection(Connection):
    """Requests and answers."""
    bosh = None     # whose request it carries

    def __init__(self, arrived=None):
        super().__init__(arrived)
        self.data = bytearray()
        self.heads = collections.deque()    # of the requests that wait: is the answer one to HEAD?
        self.answers = collections.deque()  # in the order of the inbox

    def data_received(self, data):
        self.bytes += len(data)
        self.data += data
        while self.data:
            found = read_response(self.data, bool(self.heads and self.heads[0]))
            if found is None:
                return
            response, used = found
            del self.data[:used]
            if response.status != 100 and self.heads:
                self.heads.popleft()
            self.answered(response)

    def answered(self, response):
        if self.bosh:
            self.bosh.came(response)
            return
        element = ET.Element(ANSWER, {'status': str(response.status)})
        element.text = response.body.decode(errors='replace')
        self.answers.append(response)
        self._deliver(element)

    def ask(self, method, path, host, fields='', body=b''):
        self.heads.append(method == 'HEAD')
        length = 'Content-Length: %d\r\n' % len(body) if body or method in ('POST', 'PUT') else ''
        self.write(('%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n' % (method, path, host, length, fields)).encode() + body)


def declare(text):
    """RFC 7395 §3.3.3: a frame is a document of its own."""
    return re.sub(r'^<(message|presence|iq)(?![^>]*\sxmlns=)', r"<\1 xmlns='%s'" % pattern.CLIENT, text)


class FramedConnection(WebConnection):
    """What WebSocket and BOSH have in common: complete elements, <open/> and <close/>."""
    ready = False

    def header(self, to, attributes, ns):
        raise NotImplementedError

    def restart(self):
        """Each element is a document anyway."""

    def element(self, text):
        try:
            element = ET.fromstring(text)
        except ET.ParseError as error:
            element = ET.Element(BROKEN)
            element.text = '%s in %r' % (error, text[:300])
        if element.tag == '{%s}open' % FRAMING:
            element = ET.Element('{%s}stream' % pattern.STREAMS, element.attrib)
        elif element.tag == '{%s}close' % FRAMING:
            element = ET.Element(CLOSED)
        self._deliver(element)


class WebSocketConnection(FramedConnection):
    closing = "<close xmlns='%s'/>" % FRAMING

    def __init__(self, arrived=None):
        super().__init__(arrived)
        self.upgraded = None      # a future, while the handshake is under way
        self.message = b''
        self.codes = []           # of the close frames that came
        self.pongs = []

    async def upgrade(self, host, fields='', loop=None):
        key = base64.b64encode(os.urandom(16)).decode()
        self.expected = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        self.upgraded = loop.create_future()
        self.ask('GET', WEBSOCKET_PATH, host,
                 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                 'Sec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Key: %s\r\n%s' % (key, fields))
        await self.upgraded
        self.ready = True

    def answered(self, response):
        if response.status == 101 and response.get('Sec-WebSocket-Accept') == self.expected and \
                response.get('Sec-WebSocket-Protocol') == 'xmpp':
            self.ready = True
            self.upgraded.set_result(None)
        else:
            self.upgraded.set_exception(OSError('no WebSocket: %d' % response.status))

    def data_received(self, data):
        if not self.ready:
            super().data_received(data)
            data = b''
        if self.ready:
            self.bytes += len(data)
            self.data += data
            while self._frame():
                pass

    def _frame(self):
        if len(self.data) < 2:
            return False
        length, at = self.data[1], 2
        if length == 126:
            length, at = struct.unpack('>H', self.data[2:4].ljust(2, b'\0'))[0], 4
        elif length == 127:
            length, at = struct.unpack('>Q', self.data[2:10].ljust(8, b'\0'))[0], 10
        if len(self.data) < at + length:
            return False
        first, payload = self.data[0], bytes(self.data[at:at + length])
        del self.data[:at + length]
        if first == 0x81:
            self.element(payload.decode())
        elif first == 0x88:
            self.codes.append(struct.unpack('>H', payload[:2])[0] if payload else 0)
            self.frame(payload, 0x88)
            self.transport.close()
        elif first == 0x89:
            self.frame(payload, 0x8a)
        elif first == 0x8a:
            self.pongs.append(payload)
        return True

    def frame(self, payload, first=0x81, masked=True):
        mask = os.urandom(4) if masked else b''
        size = len(payload)
        head = bytes([first])
        bit = 0x80 if masked else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += bytes([bit | 126]) + struct.pack('>H', size)
        else:
            head += bytes([bit | 127]) + struct.pack('>Q', size)
        if masked:
            whole = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, 'big') ^ int.from_bytes(whole, 'big')).to_bytes(size, 'big')
        super().write(head + mask + payload)

    def write(self, data):
        if not self.ready:
            super().write(data)
        else:
            text = data.decode() if isinstance(data, bytes) else data
            self.frame(declare(text).encode())

    def header(self, to, attributes, ns):
        self.write("<open xmlns='%s' to=%s version='1.0' %s/>" % (FRAMING, quoteattr(to), attributes))


class BoshConnection(FramedConnection):
    """A session of BOSH: one request is held, what is written goes by another; on one connection for
    each, both made when they are needed."""
    closing = 'terminate'

    def __init__(self, arrived=None):
        super().__init__(arrived)
        self.sid = None
        self.rid = int.from_bytes(os.urandom(6), 'big')
        self.host = self.to = None
        self.path = BOSH_PATH
        self.more = []            # connections besides this one
        self.waiting = 0          # requests without an answer
        self.over = False
        self.queue = []           # what is written while no request may be sent

    @classmethod
    async def begin(cls, opener, host):
        """`opener(arrived)` makes a WebConnection."""
        self = cls()
        self.opener, self.host = opener, host
        for _ in range(2):
            self.more.append(await opener(self))
        self.transport = self.more[0].transport
        return self

    def header(self, to, attributes, ns):
        if self.sid:
            self.restarting = True
            self.post("xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh' to=%s %s" % (quoteattr(to), attributes))
        else:
            self.post("to=%s ver='1.11' wait='5' hold='1' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh' %s" % (
                quoteattr(to), attributes))

    def post(self, attributes='', payload='', rid=None, on=None):
        if rid is None:
            self.rid += 1
            rid = self.rid
        sid = "sid=%s" % quoteattr(self.sid) if self.sid else ''
        body = "<body xmlns='%s' rid='%d' %s %s>%s</body>" % (NS_BOSH, rid, sid, attributes, payload)
        connection = on or min((c for c in self.more if not c.gone), key=lambda c: len(c.heads), default=None)
        if connection:
            self.waiting += 1
            connection.ask('POST', self.path, self.host, 'Content-Type: text/xml; charset=utf-8\r\n', body.encode())

    def came(self, response):
        self.waiting -= 1
        self.bytes += len(response.body)
        body = ET.fromstring(response.body)
        self.sid = body.get('sid', self.sid)
        if body.get('sid'):
            self._deliver(ET.Element('{%s}stream' % pattern.STREAMS, {'from': body.get('from', '')}))
        if body.get('sid') is None and self.restarting:
            self.restarting = False
            self._deliver(ET.Element('{%s}stream' % pattern.STREAMS, {'from': self.host}))
        for child in body:
            self._deliver(child)
        if body.get('type') == 'terminate':
            self.condition = body.get('condition')
            self.over = True
            self._deliver(ET.Element(CLOSED))
            self.gone = True
            self._deliver(ET.Element(GONE))
            return
        self.push()
        if self.waiting == 0 and self.sid:
            self.post()

    restarting = False
    condition = None

    def write(self, data):
        text = data.decode() if isinstance(data, bytes) else data
        if text == self.closing:
            if not self.over:
                self.post("type='terminate'")
        else:
            self.queue.append(declare(text))
            self.push()

    def push(self):
        """No more requests than the server allows are without an answer."""
        if self.queue and self.waiting < 2 and self.sid:
            payload, self.queue = ''.join(self.queue), []
            self.post(payload=payload)

    def drop(self):
        self.over = True
        for connection in self.more:
            connection.drop()

    def close(self):
        for connection in self.more:
            connection.close()
