# SPDX-License-Identifier: Apache-2.0
"""A host with a certificate for clients and another one for servers: who sees which, by which door, and what renewal does."""
import asyncio
import os
import ssl

from theatre import place

from bed import SECONDS, Authority, Person, Server
from cases import case, identity, need
from peer import Listener, Peer, context

HAND = 'peer.example'


def der(path):
    with open(path, encoding='ascii') as f:
        return ssl.PEM_cert_to_DER_cert(f.read())


class TwoFaced(Server):
    """Its clients know the authority `authority`, other servers that of the bed."""

    def __init__(self, bed, name='faces'):
        self.for_clients = Authority(os.path.join(bed.folder, name + '-clients'))
        self.hand = place.free_port()
        super().__init__(bed, name, authority=self.for_clients, federation={
            'targets': '\n      - {domain: %s, host: 127.0.0.1, port: %d}' % (HAND, self.hand)})
        self.hosts = [name + '.example', 'other.' + name + '.example']
        self.ports['door'] = place.free_port()
        self.mistake = None      # the lines of the domain instead

    def base_config(self):
        config = super().base_config()
        self.crt, self.key = self.for_clients.issue_host(os.path.basename(self.folder), self.hosts)
        self.server_crt, self.server_key = self.bed.authority.issue_host('servers-of-' + self.host, self.hosts)
        lines = self.mistake or 'certificate: %s, key: %s, server-certificate: %s, server-key: %s' % (
            self.crt, self.key, self.server_crt, self.server_key)
        config['hosts']['domains'] = ''.join('\n      - {name: %s, %s}' % (host, lines) for host in self.hosts)
        config['listen']['listeners'] += (
            '\n      - {address: 127.0.0.1, port: %d, role: c2s, tls: direct, also: [s2s]}' % self.ports['door'])
        return config

    async def shown(self, port, offered, name, version):
        """The certificate of a handshake, in DER."""
        tls = context(None)
        tls.minimum_version = tls.maximum_version = version
        if offered:
            tls.set_alpn_protocols(offered)
        _, writer = await asyncio.wait_for(asyncio.open_connection(
            '127.0.0.1', self.ports[port], ssl=tls, server_hostname=name), SECONDS)
        found = writer.get_extra_info('ssl_object').getpeercert(True)
        writer.close()
        return found

    async def shown_by_starttls(self):
        """To another server, and to a client."""
        peer = Peer(HAND, identity(self.bed, 'faces-peer', HAND))
        await peer.start_tls(self)
        client = Person(self, 'lear')
        await client.open()
        await client.open_stream()
        await client.negotiate_tls()        # looks at its authority
        found = [end.connection.tls().getpeercert(True) for end in (peer, client)]
        for end in (peer, client):
            end.connection.close()
        return found

    async def check_faces(self):
        clients, servers = der(self.crt), der(self.server_crt)
        need(await self.shown_by_starttls() == [servers, clients], 'STARTTLS shows the wrong certificates')
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name in (*self.hosts, 'unknown.example', None):
                for port, offered, expected in (
                        ('direct', ['xmpp-client'], clients), ('direct', [], clients),
                        ('s2s_direct', ['xmpp-server'], servers), ('s2s_direct', [], servers),
                        ('door', ['xmpp-client'], clients), ('door', ['xmpp-server'], servers), ('door', [], clients),
                        ('door', ['h2', 'xmpp-server'], servers),
                        ('door', ['xmpp-server', 'xmpp-client'], clients)):     # ours is the choice
                    need(await self.shown(port, offered, name, version) == expected,
                         '%s shows the wrong certificate to %s asking for %s by %s' % (port, offered, name, version.name))


async def check_links(bed, server, lear):
    """Whom we dial knows the bed's authority only."""
    listener = Listener(HAND, identity(bed, 'faces-peer', HAND), server.hand)
    listener.context.load_verify_locations(bed.authority.certificate)
    listener.context.verify_mode = ssl.CERT_REQUIRED
    await listener.start()
    lear.say('x@' + HAND, 'out')
    element = await asyncio.wait_for(listener.stanzas.get(), SECONDS)
    need(element.get('to') == 'x@' + HAND, 'something else came')
    seen = listener.connections[-1].tls().getpeercert(True)
    need(seen == der(server.server_crt), 'whom we dial sees the wrong certificate')
    await listener.stop()


@case
async def host_certificates_by_audience(bed):
    """Clients are shown one certificate, other servers another, at each door, by TLS 1.2 and 1.3, also once both are renewed."""
    server = TwoFaced(bed)
    await server.prepare()
    await server.start()
    lear = None
    try:
        await server.add_accounts([('lear@' + server.host, 'lear-secret')])
        await server.check_faces()
        lear = await Person(server, 'lear').sign_in()
        await check_links(bed, server, lear)
        before = der(server.crt), der(server.server_crt)
        server.renew_certificate()
        bed.authority.issue_host('servers-of-' + server.host, server.hosts, again=True)
        need(not set(before) & {der(server.crt), der(server.server_crt)}, 'they are not new')
        since = len(server.log)
        server.reload()
        await server.wait_log('reloaded', since=since)
        await server.check_faces()
    finally:
        if lear:
            lear.connection.close()
        problem = await server.stop()
    need(not problem and not server.errors(0), problem or str(server.errors(0)))


@case
async def host_certificates_that_are_wrong(bed):
    """Half of a pair, a key of another certificate, or one for servers alone: the server does not start, and says which."""
    server = TwoFaced(bed, 'onefaced')
    await server.prepare()
    both = 'certificate: %s, key: %s, ' % (server.crt, server.key)
    pair = 'server-certificate: %s, server-key: %s'
    for mistake, expected in (
            (both + 'server-certificate: ' + server.server_crt, 'server-certificate and server-key belong together'),
            (both + 'server-key: ' + server.server_key, 'server-certificate and server-key belong together'),
            (both + pair % (server.server_crt, server.key), 'the private key'),
            (both + pair % (server.server_crt + '.gone', server.server_key), 'cannot read the certificate'),
            (pair % (server.server_crt, server.server_key), 'server-certificate is there without certificate')):
        server.mistake = mistake
        code, message = await server.fail_to_start({})
        need(code != 0 and expected in message, '%s: %s %s' % (mistake, code, message))
