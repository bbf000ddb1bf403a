# SPDX-License-Identifier: Apache-2.0
"""The wire between two servers, which can be cut, or go dead without a word."""
import asyncio

from theatre import place


class Half(asyncio.Protocol):
    """One of the two connections of a pair; what comes goes to the other."""

    def __init__(self, proxy):
        self.proxy, self.other, self.transport, self.waiting = proxy, None, None, []
        self.is_far = False     # towards the target

    def connection_made(self, transport):
        self.transport = transport
        self.proxy.halves.add(self)
        for data in self.waiting:
            transport.write(data)

    def data_received(self, data):
        if self.proxy.dead or self.proxy.silent and self.is_far:
            return
        self.proxy.passed += len(data)
        if self.other.transport:
            self.other.transport.write(data)
        else:
            self.other.waiting.append(data)

    def connection_lost(self, error):
        self.proxy.halves.discard(self)
        if self.other and self.other.transport and not self.proxy.dead:
            self.other.transport.close()


class Proxy:
    def __init__(self, port):
        self.target, self.port = port, place.free_port()
        self.halves, self.listener = set(), None
        self.dead = False       # nothing passes any more, and nobody is told
        self.silent = False     # nothing comes back
        self.passed = self.connections = 0

    async def open(self):
        """Lets connections through from now on."""
        self.dead = False
        self.listener = await asyncio.get_running_loop().create_server(self._accepted, '127.0.0.1', self.port)

    def _accepted(self):
        half = Half(self)
        half.other = Half(self)
        half.other.other, half.other.is_far = half, True
        self.connections += 1
        asyncio.ensure_future(self._connect(half))
        return half

    async def _connect(self, half):
        try:
            await asyncio.get_running_loop().create_connection(lambda: half.other, '127.0.0.1', self.target)
        except OSError:
            if half.transport:
                half.transport.abort()

    def cut(self):
        """What is under way is lost; new connections are taken, if it is open."""
        for half in list(self.halves):
            half.transport.abort()
        self.halves.clear()

    def close(self):
        """Nobody gets through."""
        if self.listener:
            self.listener.close()
        self.listener = None
        self.cut()
