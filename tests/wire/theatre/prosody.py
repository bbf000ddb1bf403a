# SPDX-License-Identifier: Apache-2.0
"""Debian's prosody as a second opinion: are the plays right, or only like Iris?"""
import asyncio
import os
import re
import signal
import socket

from .iris import Foreign, ServerError
from .place import free_port

CONFIG = '''
pidfile = "%(folder)s/prosody.pid"
data_path = "%(folder)s/data"
log = { info = "%(folder)s/prosody.log" }
daemonize = false
run_as_root = true
interfaces = { "127.0.0.1" }
c2s_ports = { %(c2s)d }
c2s_direct_tls_ports = { %(direct)d }
s2s_ports = {}
http_ports = {}
https_ports = {}
component_ports = { %(component)d }
ssl = { key = "%(key)s"; certificate = "%(crt)s"; }
c2s_direct_tls_ssl = { key = "%(key)s"; certificate = "%(crt)s"; }
c2s_require_encryption = true
authentication = "internal_hashed"
storage = "internal"
allow_registration = true
registration_throttle_max = 100000
smacks_hibernation_time = 60
modules_disabled = { "s2s"; "presence_dedup" }
modules_enabled = { "roster"; "saslauth"; "tls"; "disco"; "carbons"; "private"; "blocklist"; "vcard_legacy";
  "uptime"; "time"; "ping"; "csi"; "csi_simple"; "smacks"; "lastactivity"; "offline"; "server_contact_info";
  "register"; "register_ibr"; }
contact_info = { abuse = { "mailto:abuse@example.org" }; admin = { "mailto:admin@example.org" } }
'''


def _file_name(text):
    """As prosody names files."""
    return re.sub(r'[^A-Za-z0-9]', lambda found: '%%%02x' % ord(found.group(0)), text)


class Prosody(Foreign):
    """Started with one virtual host for each play; accounts are written into its data beforehand."""

    def __init__(self, folder, authority, accounts_by_host):
        self.folder = folder
        ports = {'c2s': free_port(), 'direct': free_port(), 'component': free_port()}
        super().__init__('127.0.0.1', ports, list(accounts_by_host), '')
        os.makedirs(folder + '/data', exist_ok=True)
        crt, key = authority.issue_host('prosody', self.hosts)
        with open(folder + '/prosody.cfg.lua', 'w', encoding='utf-8') as f:
            f.write(CONFIG % dict(ports, folder=folder, crt=crt, key=key))
            for host in self.hosts:
                f.write('VirtualHost "%s"\n' % host)
        for host, accounts in accounts_by_host.items():
            store = '%s/data/%s/accounts' % (folder, _file_name(host))
            os.makedirs(store)
            for user, password in accounts:
                with open('%s/%s.dat' % (store, _file_name(user)), 'w', encoding='utf-8') as f:
                    f.write('return { ["password"] = "%s" };\n' % password)
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            'prosody', '--config', self.folder + '/prosody.cfg.lua', '-F', stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex((self.address, self.ports['c2s'])) == 0:
                    return
            await asyncio.sleep(0.05)    # prosody has no other way to say that it is ready
        raise ServerError('prosody does not start: see %s/prosody.log' % self.folder)

    @staticmethod
    def besides(element):
        """It acknowledges a subscription request with unavailable presence of the bare address."""
        return element.tag == '{jabber:client}presence' and element.get('type') == 'unavailable' \
            and '/' not in element.get('from', '/')

    async def add_accounts(self, accounts):
        pass

    async def stop(self):
        self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        return ''
