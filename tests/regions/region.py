# SPDX-License-Identifier: Apache-2.0
"""How a region is configured: its authority, its certificate, its server; the map; the DNS; all of them as one bed.

For the tests and for the demonstration. Everything lies in one folder and may be found there again: what is made once is not made
twice, and a map that changes gets a higher serial.
"""
import asyncio
import base64
import hashlib
import json
import os
import re
import secrets
import socket
import ssl
import subprocess

import bed as federation
from theatre import iris, place

CLASSES = {'emea': 'federated', 'na': 'federated', 'apac': 'federated', 'hds': 'isolated'}
NUMBERS = {name: number for number, name in enumerate(CLASSES, 1)}     # the region's address is 127.0.1.NUMBER
RESOLVER = '127.0.1.100'
BY_DNS = ('na',)      # the map has no endpoint of these: they are found in the DNS
STANDARD = {'c2s': 5222, 'direct': 5223, 's2s': 5270, 'web': 443, 'admin': 9105}
CATEGORIES = ('presence', 'message', 'bubble', 'conference', 'directory', 'profile', 'file-link', 'service')


def rule(sender, receiver, verdict, *categories):
    return sender, receiver, categories or CATEGORIES, verdict


# What the demonstration shows: two regions that work together, a third that may be reached, and keeps nothing.
POLICY = (
    rule('emea', 'na', 'deliver'),
    rule('na', 'emea', 'deliver'),
    rule('*', 'apac', 'transit', 'presence', 'message', 'service'),
    rule('apac', '*', 'transit', 'presence', 'message', 'service'),
)


def port_for(address, name, standard):
    """The standard one, if it can be had."""
    if standard:
        with socket.socket() as s:
            try:
                s.bind((address, STANDARD[name]))
                return STANDARD[name]
            except OSError:
                pass
    return place.free_port()


class Authority(place.Authority):
    """A region's own: its certificates say which region they are of."""

    def __init__(self, folder, region, address):
        super().__init__(folder)
        self.region, self.address = region, address

    def issue_host(self, name, hosts, again=False):
        return self.issue(name, hosts[0], ['DNS:' + pattern for h in hosts for pattern in (h, '*.' + h)] +
                          ['IP:' + self.address, 'URI:urn:iris:region:' + self.region], again)

    def fingerprint(self):
        with open(self.certificate, encoding='ascii') as f:
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


class Map:
    """The signed file. Whoever signs needs no server."""

    def __init__(self, folder, build):
        os.makedirs(folder, exist_ok=True)
        self.path, self.key = os.path.join(folder, 'regions.map'), os.path.join(folder, 'signing.key')
        self.secret = self.key + '.secret'      # of the federated regions
        self.build, self.serial = build, 0
        if not os.path.exists(self.key):
            sample = self.path + '.sample'
            self._irisctl('init', sample, self.key)
            os.remove(sample)

    def make_secret(self, path):
        self._irisctl('secret', self.path, path)

    def renew_secret(self):
        os.remove(self.secret)
        self.make_secret(self.secret)

    def _digest(self):
        """Of the secret, as the map names it."""
        with open(self.secret, encoding='ascii') as f:
            return hashlib.sha256(base64.b64decode(f.read())).hexdigest()

    def _irisctl(self, verb, *args):
        done = subprocess.run((os.path.join(self.build, 'irisctl'), 'region', verb) + args, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise iris.ServerError('irisctl region %s: %s' % (verb, done.stdout.decode(errors='replace')))

    def _there(self):
        """(serial, text without serial and signature) of the map that is there."""
        try:
            with open(self.path, encoding='utf-8') as f:
                text = f.read()
        except FileNotFoundError:
            return 0, ''
        serial = int(re.search(r'serial: (\d+)', text).group(1))
        return serial, text.partition('# signature: ')[0].replace('serial: %d' % serial, 'serial: %d')

    def write(self, regions, policy):
        """True when it is another one than before."""
        lines = ['map: {name: bed, serial: %%d, issued: 2026-01-01T00:00:00Z, secret: %s}' % self._digest(), 'regions:',
                 '  list:']
        lines += ['    - {%s}' % ', '.join('%s: %s' % field for field in region.in_map().items()) for region in regions]
        lines += ['policy:', '  rules:']
        lines += ['    - {from: "%s", to: "%s", categories: [%s], verdict: %s}' % (
            sender, receiver, ', '.join(categories), verdict) for sender, receiver, categories, verdict in policy]
        text = '\n'.join(lines) + '\n'
        self.serial, before = self._there()
        if text == before:
            return False
        self.serial += 1
        fresh = self.path + '.next'
        with open(fresh, 'w', encoding='utf-8') as f:
            f.write(text % self.serial)
        self._irisctl('sign', fresh, self.key)
        os.replace(fresh, self.path)
        return True


class Region(iris.Iris):
    person_class = federation.Person

    def __init__(self, bed, name, store=None):
        self.bed, self.name, self.isolated = bed, name, CLASSES[name] == 'isolated'
        self.address = '127.0.1.%d' % NUMBERS[name]
        self.host = name + '.example'
        self.rooms = ['%s.%s' % (label, self.host) for label in ('rooms', 'conference')]    # bubbles, and rooms without rules
        self.log_path = os.path.join(bed.folder, name, 'irisd.log')
        folder = os.path.join(bed.folder, name)
        authority = Authority(os.path.join(bed.folder, 'authorities', name), name, self.address)
        super().__init__(folder, bed.build, authority, [self.host], bed.workers, store=store)
        self.ports = bed.state['ports'].setdefault(
            name, {kind: port_for(self.address, kind, bed.standard) for kind in STANDARD})
        self.endpoint = self.address, self.ports['s2s']     # where others find it
        self.people = {}

    # --- what is written of it ---

    def in_map(self):
        fields = {'id': self.name, 'class': CLASSES[self.name], 'domains': '[%s, pubsub.%s]' % (self.host, self.host),
                  'rooms': '[%s]' % ', '.join(self.rooms), 'ca': self.authority.fingerprint()}
        if not self.isolated and self.name not in BY_DNS:
            fields['endpoints'] = '["%s:%d"]' % self.endpoint
        return fields

    def in_dns(self):
        if self.isolated:
            return []
        machine = 'xmpp.' + self.host
        return ['host-record=%s,%s' % (machine, self.endpoint[0])] + [
            'srv-host=_xmpps-server._tcp.%s,%s,%d,5,10' % (domain, machine, self.endpoint[1])
            for domain in (self.host, 'pubsub.' + self.host, *self.rooms)]

    def base_config(self):
        config = super().base_config()
        config['regions'] = {'map': ' ' + self.bed.map.path, 'key': ' ' + self.bed.map.key + '.pub', 'id': ' ' + self.name}
        config['modules'] = {'load': ' [files, xep0363%s]' % ('' if self.isolated else ', federation')}
        config['rooms'] = {'plain-label': ' conference'}
        config['files'] = {'scan': ' off', 'directory': ' files'}
        config['xep0363'] = {'url': ' "https://%s:%d"' % (self.host, self.ports['web'])}
        if not self.isolated:       # a region without others has no way to them
            config['listen']['listeners'] += self.listener('s2s', 'role: s2s, tls: direct')
            config['regions']['secret'] = ' ' + self.bed.map.secret
            config['resolver'] = {'servers': ' ["%s:%d"]' % (RESOLVER, self.bed.dns.port), 'timeout': ' 2 seconds'}
            config['federation'] = {'open': ' true', 'authorities': ' ' + self.bed.authorities, 'back-off': ' 500 ms',
                                    'expiry': ' 5 seconds'}
        return config

    # --- its process ---

    async def prepare(self):
        if os.path.exists(os.path.join(self.folder, 'prepared')):
            self.write_config()
            await self.must('irisctl', 'db', 'upgrade')     # the program may be a newer one
            return
        await super().prepare()
        with open(os.path.join(self.folder, 'prepared'), 'w', encoding='ascii'):
            pass

    async def start(self):
        await super().start()
        await self.map_in_force(0)

    async def map_in_force(self, since):
        await self.wait_log('map-in-force', {'serial': str(self.bed.map.serial)}, since, 10.0)

    async def _read(self):
        """The log is a file, too: for people, and for those who search it."""
        with open(self.log_path, 'ab', buffering=0) as log:
            await super()._read(log.write)

    def person(self, user):
        self.people[user] = person = self.person_class(self, user)
        person.password = self.bed.state['accounts'].setdefault(person.address, 'Iris-%s-1' % secrets.token_hex(8))
        return person


class Dns(federation.Dns):
    """It knows the regions that others may find, and nobody else."""
    address = RESOLVER

    def __init__(self, folder, port):
        super().__init__(folder)
        self.port = port


class Bed:
    """`standard`: ports that people expect; `stores`: where a region keeps its data, by name (SQLite)."""

    def __init__(self, folder, build, workers=2, standard=False, stores=None, kind=Region):
        self.folder, self.build, self.workers, self.standard = folder, build, workers, standard
        os.makedirs(folder, exist_ok=True)
        self.state_path = os.path.join(folder, 'bed.json')
        self.state = {'ports': {}, 'dns': None, 'accounts': {}, 'made': []}
        if os.path.exists(self.state_path):
            with open(self.state_path, encoding='utf-8') as f:
                self.state.update(json.load(f))
        self.state['dns'] = self.state['dns'] or place.free_port()
        self.dns, self.map = Dns(folder, self.state['dns']), Map(os.path.join(folder, 'map'), build)
        self.authorities = os.path.join(folder, 'authorities.crt')
        self.regions = {name: kind(self, name, (stores or {}).get(name)) for name in CLASSES}
        self._trust()

    def __getitem__(self, name):
        return self.regions[name]

    def save(self):
        with open(os.open(self.state_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w', encoding='utf-8') as f:
            json.dump(self.state, f, indent=1)

    def _trust(self):
        """Those whose links the map allows know each other's authorities; the isolated one's nobody."""
        with open(self.authorities, 'w', encoding='ascii') as out:
            for region in self.regions.values():
                if not region.isolated:
                    with open(region.authority.certificate, encoding='ascii') as f:
                        out.write(f.read())

    async def start(self, policy=POLICY):
        self.map.write(self.regions.values(), policy)
        self.dns.records = [record for region in self.regions.values() for record in region.in_dns()]
        await self.dns.start()
        for region in self.regions.values():
            await region.prepare()
        await asyncio.gather(*(region.start() for region in self.regions.values()))
        for region in self.regions.values():
            fresh = [p for p in region.people.values() if p.address not in self.state['made']]
            await region.add_accounts([(p.address, p.password) for p in fresh])
            self.state['made'] += [p.address for p in fresh]
        self.save()

    async def change_policy(self, policy):
        """A new map, signed and in force everywhere when this returns."""
        since = {region: len(region.log) for region in self.regions.values()}
        self.map.write(self.regions.values(), policy)
        for region in self.regions.values():
            region.reload()
        for region, index in since.items():
            await region.map_in_force(index)

    async def stop(self):
        """What went wrong on the way, as text."""
        for region in self.regions.values():
            for person in region.people.values():
                if person.connection:
                    person.connection.close()
        problems = await asyncio.gather(*(region.stop() for region in self.regions.values()))
        self.dns.stop()
        for region in self.regions.values():
            problems += region.errors(0, ('certificate-expiry',))
        return '\n'.join(p for p in problems if p)
