# SPDX-License-Identifier: Apache-2.0
"""What crosses between regions, in the clear: a proxy in front of each, with the certificates of both sides.

Possible only for who owns the keys of the regions, as these tests do. Who dials proves its region by its certificate; the proxy
dials on with that region's own.
"""
import asyncio
import ssl

from theatre.place import free_port

ALPN = ['xmpp-server']


def region_of(certificate):
    return next((value.rpartition(':')[2] for kind, value in certificate.get('subjectAltName', ()) if kind == 'URI'), None)


class Tap:
    def __init__(self, bed):
        """Before the bed starts: the map and the DNS then name the proxies."""
        self.bed, self.servers, self.tasks = bed, [], set()
        self.streams = {}       # (who sends, who receives) -> what was said, of all connections
        self.regions = [region for region in bed.regions.values() if not region.isolated]
        for region in self.regions:
            region.endpoint = region.address, free_port()

    def _context(self, purpose, region, trusted):
        context = ssl.SSLContext(purpose)
        context.check_hostname = False      # of a proxy; the servers check what they see
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted)
        context.load_cert_chain(*region.authority.issue_host(region.name, region.hosts))
        context.set_alpn_protocols(ALPN)
        return context

    async def start(self):
        for region in self.regions:
            self.servers.append(await asyncio.start_server(
                lambda reader, writer, region=region: self._serve(region, reader, writer), *region.endpoint,
                ssl=self._context(ssl.PROTOCOL_TLS_SERVER, region, self.bed.authorities)))

    async def _serve(self, region, reader, writer):
        self.tasks.add(asyncio.current_task())
        dialler = self.bed[region_of(writer.get_extra_info('peercert'))]
        try:
            onward = await asyncio.open_connection(
                region.address, region.ports['s2s'], server_hostname=region.host,
                ssl=self._context(ssl.PROTOCOL_TLS_CLIENT, dialler, region.authority.certificate))
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, onward[1], (dialler.name, region.name)),
                             self._pump(onward[0], writer, (region.name, dialler.name)))

    async def _pump(self, reader, writer, way):
        heard = self.streams.setdefault(way, bytearray())
        try:
            while data := await reader.read(65536):
                heard += data
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def carried(self, sender, receiver):
        return bytes(self.streams.get((sender, receiver), b''))

    async def stop(self):
        for server in self.servers:
            server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
