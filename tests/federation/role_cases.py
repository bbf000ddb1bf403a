# SPDX-License-Identifier: Apache-2.0
"""Regions that the map has isolated, or as an edge: what is not there, and what is refused before it is."""
import asyncio
import contextlib
import os
import ssl

from theatre import iris, language
from theatre.client import StageError

from bed import SECONDS, Person, Server
from cases import PING, case, need

MAP = """map: {name: classes, serial: %d, issued: 2026-01-01T00:00:00Z}
regions:
  list:
    - {id: own, class: %s, domains: [%s], ca: %s, external: %s}
policy:
  rules:
    - {from: "*", to: "*", categories: [message, service], verdict: deliver}
"""
ISOLATED_MISTAKES = {      # section, option, value -> what is said of it
    ('modules', 'load', '[federation]'): 'modules.load: federation: the region map has this region isolated',
    ('modules', 'load', '[xep0220]'): 'modules.load: xep0220: the region map has this region isolated',
    ('federation', 'open', 'true'): 'federation: the region map has this region isolated',
    ('resolver', 'timeout', '2 seconds'): 'resolver: the region map has this region isolated',
    ('listen', 'listeners', '[{address: 127.0.0.1, port: 5269, role: s2s}]'): 'remove the listener',
    ('listen', 'listeners', '[{address: 127.0.0.1, port: 5270, tls: direct, role: c2s, also: [s2s]}]'): 'remove the listener',
    ('files', 'swift-url', 'https://swift.example/auth/v1.0'): 'by address only',
    ('modules', 'skip', '[regions]'): '"regions" cannot be skipped',
}
POSTGRESQL_MISTAKES = {
    ('postgresql', 'connect', '"host=db.example dbname=iris"'): 'by address only',
    ('postgresql', 'connect', '"service=iris"'): 'by address only',
}
EDGE_MISTAKES = {
    ('sqlite', 'path', 'iris.db'): 'sqlite: the region map has this region as an edge',
    ('vault', 'master-key', 'master.key'): 'vault: the region map has this region as an edge',
    ('files', 'directory', 'files'): 'files: the region map has this region as an edge',
    ('accounts', 'password-min-length', '8'): 'accounts: the region map has this region as an edge',
    ('modules', 'load', '[federation]'): 'modules.load: federation: the region map has this region as an edge',
    ('listen', 'listeners', '[{address: 127.0.0.1, port: 5222, role: c2s}]'): 'which serves the web only',
}


class Classed(Server):
    """Not one of the bed's: its region has this class."""

    def __init__(self, bed, name, class_, federates=False):
        super().__init__(bed, name)
        self.class_, self.federates, self.serial = class_, federates, 0

    def base_config(self):
        config = super().base_config()
        if not self.federates:
            for section in ('modules', 'resolver', 'federation', 'xep0114'):
                del config[section]
            config['listen'] = iris.Iris.base_config(self)['listen']
        config['regions'] = {'map': ' ' + self._path('map'), 'key': ' ' + self._path('key.pub'), 'id': ' own'}
        return config

    async def give_map(self, class_):
        self.serial += 1
        if self.serial == 1:
            await self.must('irisctl', 'region', 'init', self._path('map'), self._path('key'))
        with open(self._path('map'), 'w', encoding='utf-8') as f:
            f.write(MAP % (self.serial, class_, self.host, '0' * 64, str(class_ == 'federated').lower()))
        await self.must('irisctl', 'region', 'sign', self._path('map'), self._path('key'))

    async def prepare(self):
        self.write_config()
        await self.give_map(self.class_)
        await iris.Iris.prepare(self)

    async def mistake(self, place, expected):
        """Checked with this beside the rest: refused, and told why."""
        path, config = self._path('mistake.yaml'), self.base_config()
        section, option, value = place
        config[section] = {**config.get(section, {}), option: ' ' + value}
        if section == 'files':
            config['modules'] = {'load': ' [files]'}
        with open(path, 'w', encoding='utf-8') as f:
            f.write(language.write_config(config))
        right, self.config_path = self.config_path, path
        try:
            for program, *arguments in (('irisctl', 'config', 'check'), ('irisd',)):
                code, _, err = await self.run(program, *arguments)
                need(code == 78 and expected in err, '%s with %s ends with %d: %s' % (program, place, code, err))
        finally:
            self.config_path = right

    def sockets(self):
        """[(protocol, local port, remote port, is it listening)] of the process."""
        folder = '/proc/%d/fd' % self.process.pid
        links = []
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):    # it was closed meanwhile
                links.append(os.readlink(os.path.join(folder, fd)))
        mine = {link[8:-1] for link in links if link.startswith('socket:[')}
        found = []
        for protocol in ('tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6'):
            with open('/proc/net/' + protocol, encoding='ascii') as f:
                rows = [line.split() for line in f.readlines()[1:]]
            found += [(protocol, *(int(row[n].split(':')[1], 16) for n in (1, 2)), row[3] == '0A')
                      for row in rows if row[9] in mine]
        return found


@case
async def isolated_has_no_way_out(bed):
    """An isolated region has no socket but those of its clients, whatever they ask for; nor can one be configured."""
    server = Classed(bed, 'hds', 'isolated')
    await server.prepare()
    for place, expected in ISOLATED_MISTAKES.items():
        await server.mistake(place, expected)
    if b'postgresql' in (await server.must('irisd', '--print-manual')).encode():
        for place, expected in POSTGRESQL_MISTAKES.items():
            await server.mistake(place, expected)
    await server.start()
    try:
        await server.wait_log('map-in-force', {'class': 'isolated'}, since=0)
        await server.add_accounts([('lear@' + server.host, 'lear-secret')])
        lear = await Person(server, 'lear').sign_in()
        lear.send_stanza(PING % ('out', 'b.example'))
        await lear.error('out', 'remote-server-not-found', 3)
        ports = {server.ports[name] for name in ('c2s', 'direct', 'web', 'admin')}
        for protocol, local, remote, listening in server.sockets():
            need(protocol == 'tcp' and local in ports, 'a socket of %s: port %d to %d' % (protocol, local, remote))
        need({local for _, local, _, listening in server.sockets() if listening} == ports, 'it listens elsewhere')
        lear.connection.close()
    finally:
        problem = await server.stop()
    need(not problem and not server.errors(0), problem or str(server.errors(0)))


@case
async def a_map_isolates_at_once(bed):
    """A new map that isolates a running server closes its links and listeners for servers, and nobody is dialled any more."""
    server = Classed(bed, 'late', 'federated', federates=True)
    await server.prepare()
    await server.start()
    try:
        await server.wait_log('map-in-force', {'serial': '1'}, since=0)
        need(server.ports['s2s'] in {s[1] for s in server.sockets() if s[3]}, 'it does not listen')
        await server.add_accounts([('edgar@' + server.host, 'edgar-secret')])
        edgar = await Person(server, 'edgar').sign_in()
        edgar.say(bed.juliet.jid, 'before')
        await bed.juliet.message('before')
        need([s for s in server.sockets() if s[2] == bed.b.ports['s2s']], 'there is no link')
        await server.give_map('isolated')
        server.reload()
        await server.wait_log('class-changed')
        async with asyncio.timeout(SECONDS):
            while [s for s in server.sockets() if s[2] == bed.b.ports['s2s']]:
                await asyncio.sleep(0.05)
        listening = {s[1] for s in server.sockets() if s[3]}
        need(not listening & {server.ports['s2s'], server.ports['s2s_direct']}, 'it listens for servers: %s' % listening)
        need(server.ports['c2s'] in listening, 'clients are not let in any more')
        edgar.send_stanza(PING % ('out', 'b.example'))
        await edgar.error('out', 'remote-server-not-found')
        need(not [s for s in server.sockets() if s[2] == bed.b.ports['s2s']], 'somebody was dialled')
        edgar.connection.close()
    finally:
        problem = await server.stop()
    need(not problem and not server.errors(0), problem or str(server.errors(0)))


class Edge(Classed):
    """A TLS front with static files, and nothing else."""

    def __init__(self, bed, name):
        super().__init__(bed, name, 'edge')
        self.files = os.path.join(self.folder, 'files')
        os.makedirs(self.files)
        with open(os.path.join(self.files, 'page.txt'), 'w', encoding='utf-8') as f:
            f.write('at the edge')

    def base_config(self):
        config = super().base_config()
        kept = {name: config[name] for name in ('worker', 'log', 'admin', 'hosts', 'regions')}
        return {**kept, 'web': {'folders': '\n      - {path: /, folder: %s}' % self.files},
                'listen': {'listeners': '\n      - {address: 127.0.0.1, port: %d, role: web, tls: direct}' %
                           self.ports['web']}}

    async def prepare(self):
        self.write_config()
        await self.give_map(self.class_)

    async def fetch(self, path):
        trust = ssl.create_default_context(cafile=self.authority.certificate)
        reader, writer = await asyncio.open_connection('127.0.0.1', self.ports['web'], ssl=trust,
                                                       server_hostname='localhost')
        writer.write(('GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' % path).encode())
        async with asyncio.timeout(SECONDS):
            answer = await reader.read()
        writer.close()
        return answer.decode()


def tree(folder):
    return sorted(os.path.join(d, f) for d, _, files in os.walk(folder) for f in files)


@case
async def an_edge_keeps_nothing(bed):
    """An edge serves files by HTTPS without a vault, writes no file, and does not start where a store is configured."""
    edge = Edge(bed, 'edge')
    await edge.prepare()
    for place, expected in EDGE_MISTAKES.items():
        await edge.mistake(place, expected)
    code, _, err = await edge.run('irisctl', 'init')
    need(code == 1 and 'keeps nothing' in err, 'irisctl init ends with %d: %s' % (code, err))
    code, _, err = await edge.run('irisctl', 'server', 'status')
    need(code != 0 and 'nobody can sign in' in err, 'irisctl server status ends with %d: %s' % (code, err))
    before = tree(edge.folder)
    await edge.start()
    try:
        await edge.wait_log('map-in-force', {'older': 'not remembered at an edge'}, since=0)
        need('at the edge' in await edge.fetch('/page.txt'), 'the file is not served')
        need('404' in (await edge.fetch('/nothing')).splitlines()[0], 'what is not there is')
        edge.reload()
        await edge.wait_log('reloaded')
    finally:
        problem = await edge.stop()
    need(tree(edge.folder) == before, 'files were made: %s' % (set(tree(edge.folder)) - set(before)))
    need(not problem and not edge.errors(0), problem or str(edge.errors(0)))
