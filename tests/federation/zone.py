# SPDX-License-Identifier: Apache-2.0
"""A signed DNS: the zone "example" with its keys, and "insecure.example" below it that is not signed; nsd serves both."""
import asyncio
import hashlib
import os
import re
import shutil
import socket
import subprocess

from theatre import place

SECONDS = 10.0
HEAD = '%s. 3600 IN SOA ns.example. root.example. 1 3600 600 86400 60\n%s. 3600 IN NS ns.example.\n'


def is_there():
    return shutil.which('nsd', path='/usr/sbin:' + os.environ['PATH']) and shutil.which('ldns-signzone')


def digest(certificate, selector):
    """SHA-256 of a certificate (0), or of its key (1)."""
    def openssl(*args, given=None):
        return subprocess.run(('openssl',) + args, input=given, stdout=subprocess.PIPE, check=True).stdout
    if selector == 0:
        der = openssl('x509', '-in', certificate, '-outform', 'DER')
    else:
        der = openssl('pkey', '-pubin', '-outform', 'DER', given=openssl('x509', '-in', certificate, '-noout', '-pubkey'))
    return hashlib.sha256(der).hexdigest()


class Zone:
    def __init__(self, folder):
        os.makedirs(folder)
        self.folder, self.port, self.process = folder, place.free_port(), None
        self.lines = {'example': ['ns.example. 3600 IN A 127.0.0.1', 'insecure.example. 3600 IN NS ns.example.'],
                      'insecure.example': []}
        self.forged = []    # names whose records are changed after they were signed

    def _path(self, name):
        return os.path.join(self.folder, name)

    @property
    def anchor(self):
        return self._path('anchor')

    def add_server(self, domain, port, *tlsas):
        """Served by host.DOMAIN at this port, whose certificates are said to be like this: "3 1 1 HEX"."""
        zone = 'insecure.example' if domain.endswith('.insecure.example') else 'example'
        self.lines[zone] += ['_xmpp-server._tcp.%s. 3600 IN SRV 0 0 %d host.%s.' % (domain, port, domain),
                             'host.%s. 3600 IN A 127.0.0.1' % domain]
        self.lines[zone] += ['_%d._tcp.host.%s. 3600 IN TLSA %s' % (port, domain, tlsa) for tlsa in tlsas]

    def forge(self, name, kind, old, new):
        """The record of this name and kind says something else than what was signed."""
        self.forged.append((re.compile(r'^(%s\.\s+\d+\s+IN\s+%s\s.*)%s' % (re.escape(name), kind, old), re.M), new))

    def _run(self, *command):
        return subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, check=True, text=True).stdout

    def _write(self):
        for zone, lines in self.lines.items():
            with open(self._path(zone), 'w', encoding='ascii') as f:
                f.write(HEAD % (zone, zone) + '\n'.join(lines) + '\n')
        key = self._run('ldns-keygen', '-a', 'ECDSAP256SHA256', '-k', 'example').strip()
        shutil.copy(self._path(key + '.key'), self.anchor)
        self._run('ldns-signzone', '-f', 'signed', 'example', key)
        with open(self._path('signed'), encoding='ascii') as f:
            text = f.read()
        for pattern, new in self.forged:
            text, count = pattern.subn(r'\g<1>' + new, text)
            if count != 1:
                raise RuntimeError('%s is %d times in the zone' % (pattern.pattern, count))
        with open(self._path('signed'), 'w', encoding='ascii') as f:
            f.write(text)
        with open(self._path('nsd.conf'), 'w', encoding='ascii') as f:
            f.write('server:\n ip-address: 127.0.0.1@%d\n username: ""\n zonesdir: "%s"\n database: ""\n pidfile: ""\n'
                    ' xfrdfile: "xfrd"\n zonelistfile: "zones"\n xfrdir: "%s"\n server-count: 1\n'
                    'remote-control:\n control-enable: no\n' % (self.port, self.folder, self.folder))
            f.write('zone:\n name: example\n zonefile: signed\nzone:\n name: insecure.example\n zonefile: insecure.example\n')

    async def start(self):
        self._write()
        self.process = subprocess.Popen(['nsd', '-d', '-c', self._path('nsd.conf')], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env={**os.environ, 'PATH': '/usr/sbin:' + os.environ['PATH']})
        async with asyncio.timeout(SECONDS):
            while not self._answers():
                await asyncio.sleep(0.02)

    def _answers(self):
        with socket.socket() as s:
            return s.connect_ex(('127.0.0.1', self.port)) == 0

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
        self.process = None
