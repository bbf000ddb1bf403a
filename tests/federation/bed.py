# SPDX-License-Identifier: Apache-2.0
"""What federates: a DNS of our own, an authority, servers of Iris, clients on them."""
import asyncio
import contextlib
import os
import socket
import subprocess

from theatre import iris, place
from theatre.client import Client, StageError, describe

SECRET = 'of components only'
LABELS = ('rooms.', 'bubbles.', 'pubsub.', 'bot.')    # of services beside a domain
SECONDS = 10.0      # the first stanza has two connections to make


class Dns:
    """dnsmasq; what it is not told does not exist."""
    address = '127.0.0.1'

    def __init__(self, folder):
        self.folder, self.port, self.records, self.process = folder, place.free_port(), [], None

    def add_server(self, domain, port, direct=None):
        for name in (domain, *(label + domain for label in LABELS)):
            self.records.append('srv-host=_xmpp-server._tcp.%s,localhost,%d,10,10' % (name, port))
            if direct:
                self.records.append('srv-host=_xmpps-server._tcp.%s,localhost,%d,5,10' % (name, direct))

    async def start(self):
        path = os.path.join(self.folder, 'dnsmasq.conf')
        lines = ['port=%d' % self.port, 'listen-address=' + self.address, 'bind-interfaces', 'no-resolv', 'no-hosts',
                 'pid-file=', 'user=', 'local=/example/', 'address=/localhost/127.0.0.1', *self.records]
        with open(path, 'w', encoding='utf-8') as f:
            f.write('\n'.join(lines) + '\n')
        self.process = subprocess.Popen(['dnsmasq', '--keep-in-foreground', '-C', path], stdin=subprocess.DEVNULL)
        async with asyncio.timeout(SECONDS):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def _answers(self):
        with socket.socket() as s:
            return s.connect_ex((self.address, self.port)) == 0

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
        self.process = None


class Authority(place.Authority):
    """One that also makes what is not valid."""

    CONFIG = '[ca]\ndefault_ca = d\n[d]\ndatabase = {0}/index.txt\ndefault_md = sha256\ndefault_crl_days = 30\n' \
             'rand_serial = yes\npolicy = p\nnew_certs_dir = {0}\nunique_subject = no\n[p]\ncommonName = supplied\n'

    def _ca(self, *args):
        config = self._path('ca.cnf')
        with open(config, 'w', encoding='utf-8') as f:
            f.write(self.CONFIG.format(self.folder))
        with open(self._path('index.txt'), 'a', encoding='utf-8'):
            pass
        self._openssl('ca', '-batch', '-config', config, '-keyfile', self.key, '-cert', self.certificate, *args)

    def issue_expired(self, name, *domains):
        crt, key = self.issue(name, domains[0], ['DNS:' + d for d in domains])
        self._ca('-notext', '-in', self._path(name + '.csr'), '-out', crt, '-extfile', self._path(name + '.ext'),
                 '-startdate', '20200101000000Z', '-enddate', '20210101000000Z')
        return crt, key

    def issue_revoked(self, name, *domains):
        crt, key = self.issue(name, domains[0], ['DNS:' + d for d in domains])
        self._ca('-revoke', crt)
        return crt, key

    def list_revoked(self):
        self._ca('-gencrl', '-out', self._path('revoked.pem'))
        return self._path('revoked.pem')


class Server(iris.Iris):
    """With streams to others. `federation`: lines of its section beside the usual ones; `regions`: a map, to be signed."""

    def __init__(self, bed, name, federation=None, authority=None, also=(), regions=None):
        self.bed, self.modules, self.regions = bed, ['federation', *also], regions
        self.resolver = {'servers': ' ["127.0.0.1:%d"]' % bed.dns.port} if bed.dns else {}
        super().__init__(os.path.join(bed.folder, name), bed.build, authority or bed.authority,
                         [name + '.example'], bed.workers)
        self.ports.update(s2s=place.free_port(), s2s_direct=place.free_port(), component=place.free_port())
        self.federation = {'open': ' true', 'back-off': ' 500 ms', 'back-off-most': ' 2 seconds', 'expiry': ' 5 seconds',
                           'outbox-expiry': ' 5 seconds', **(federation or {})}
        self.host = self.hosts[0]

    def base_config(self):
        config = super().base_config()
        config['modules'] = {'load': ' [%s]' % ', '.join(self.modules)}
        config['resolver'] = {'timeout': ' 2 seconds', **self.resolver}
        config['listen']['listeners'] += (
            '\n      - {address: 127.0.0.1, port: %d, role: s2s, tls: starttls}'
            '\n      - {address: 127.0.0.1, port: %d, role: s2s, tls: direct}'
            '\n      - {address: 127.0.0.1, port: %d, role: component, tls: none}' % (
                self.ports['s2s'], self.ports['s2s_direct'], self.ports['component']))
        config['xep0114'] = {'components': '\n      - {domain: bot.%s, secret: %s}' % (self.host, SECRET)}
        if self.regions:
            config['regions'] = {'map': ' ' + self._path('map'), 'key': ' ' + self._path('key.pub'), 'id': ' emea'}
        config['rooms'] = {'label': ' bubbles', 'plain-label': ' rooms', 'ping-after': ' 1 second'}
        config['federation'] = {'authorities': ' ' + self.bed.authority.certificate, **self.federation}
        return config

    def _path(self, name):
        return os.path.join(self.folder, name)

    async def prepare(self):
        if self.regions:
            with open(self._path('map'), 'w', encoding='utf-8') as f:
                f.write(self.regions)
            await self.must('irisctl', 'region', 'init', self._path('map'), self._path('key'))
            await self.must('irisctl', 'region', 'sign', self._path('map'), self._path('key'))
        await super().prepare()


class Person(Client):
    def __init__(self, server, user):
        super().__init__(user, server.place(server.host), lambda element: False)
        self.user, self.password = user, user + '-secret'
        self.address = '%s@%s' % (user, server.host)

    async def sign_in(self, presence=True, resource='main'):
        await self.open(direct=True)
        await self.open_stream()
        await self.authenticate()
        await self.open_stream()
        await self.bind(resource)
        await self.become_available(presence=presence)
        return self

    async def wait(self, what, wanted, seconds=SECONDS):
        """The first element for which `wanted(element)` holds; others are passed over."""
        passed = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    element = await self.connection.next(seconds)
                    if element is None:
                        break
                    if wanted(element):
                        return element
                    passed.append(describe(element))
        except TimeoutError:
            pass
        raise StageError('%s waits for %s; came: %s' % (self.user, what, '\n'.join(passed) or 'nothing'))

    async def message(self, body, seconds=SECONDS):
        return await self.wait('a message "%s"' % body, lambda e: body_of(e) == body and e.get('type') != 'error',
                               seconds)

    async def error(self, ident, condition, seconds=SECONDS):
        element = await self.wait('an error to %s' % ident,
                                  lambda e: e.get('id') == ident and e.get('type') == 'error', seconds)
        found = [c.tag.rpartition('}')[2] for c in element.find('{jabber:client}error')]
        if condition not in found:
            raise StageError('%s: %s instead of %s' % (ident, found, condition))
        return element

    async def nothing(self, body, seconds=1.0):
        try:
            await self.message(body, seconds)
        except StageError:
            return
        raise StageError('%s got "%s"' % (self.user, body))

    def say(self, to, body, ident=None):
        self.send_stanza("<message to='%s' type='chat' id='%s'><body>%s</body></message>" % (to, ident or body, body))


def body_of(element):
    body = element.find('{jabber:client}body')
    return body.text if body is not None else None


class Bed:
    def __init__(self, folder, build, workers):
        self.folder, self.build, self.workers = folder, build, workers
        self.authority = Authority(os.path.join(folder, 'authority'))
        self.dns = Dns(folder)
        self.servers, self.others = [], []
        self.foreigners = {}    # people on servers of Debian
        self.ports = {}     # of domains that are played by hand
        self.dane = None    # see dane_cases.py
        self.ends = []      # coroutines for the end

    def add_by_hand(self, *domains):
        for domain in domains:
            self.ports[domain] = place.free_port()
            self.dns.add_server(domain, self.ports[domain])

    def add(self, name, federation=None, users=('romeo',), **more):
        """An irisd, with people."""
        server = Server(self, name, federation, **more)
        self.dns.add_server(server.host, server.ports['s2s'])
        self.servers.append(server)
        server.people = {user: Person(server, user) for user in users}
        return server

    def add_other(self, server, *users):
        self.others.append(server)
        server.people = {user: Person(server, user) for user in users}
        for person in server.people.values():
            person.place.authority = None      # it shows what it likes
        return server

    async def start(self):
        await self.dns.start()
        for server in self.servers:
            await server.prepare()
        for server in self.servers + self.others:
            await server.start()
            await server.add_accounts([(p.address, p.password) for p in server.people.values()])

    async def stop(self):
        """What went wrong on the way, as text."""
        problems = []
        for server in self.servers + self.others:
            with contextlib.suppress(AttributeError):
                for person in server.people.values():
                    if person.connection:
                        person.connection.close()
            problems.append(await server.stop())
            problems += server.errors(0, ('certificate-expiry',))
        for end in self.ends:
            await end()
        self.dns.stop()
        return '\n'.join(p for p in problems if p)
