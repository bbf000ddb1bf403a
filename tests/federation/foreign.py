# SPDX-License-Identifier: Apache-2.0
"""prosody and ejabberd of Debian as other servers, with people on them."""
import asyncio
import json
import os
import shutil
import urllib.request

from theatre.iris import Foreign, ServerError
from theatre.place import free_port

PROSODY = '''
pidfile = "%(folder)s/prosody.pid"
data_path = "%(folder)s/data"
log = { debug = "%(folder)s/server.log" }
daemonize = false
run_as_root = true
unbound = { forward = "127.0.0.1@%(dns)d", resolvconf = false, hoststxt = false }
interfaces = { "127.0.0.1" }
c2s_ports = { %(c2s)d }
c2s_direct_tls_ports = { %(direct)d }
s2s_ports = { %(s2s)d }
http_ports = {}
https_ports = {}
ssl = { key = "%(key)s"; certificate = "%(crt)s"; cafile = "%(ca)s"; }
c2s_direct_tls_ssl = { key = "%(key)s"; certificate = "%(crt)s"; }
s2s_require_encryption = true
s2s_secure_auth = %(secure)s
authentication = "internal_hashed"
storage = "internal"
modules_enabled = { "roster"; "saslauth"; "tls"; "dialback"; "disco"; "ping"; "s2s_auth_certs";
  "pep"; "vcard_legacy"; "time"; "lastactivity"; "uptime"; "carbons"; "mam"; "blocklist"%(more)s }
admins = { "lucio@%(host)s" }
VirtualHost "%(host)s"
Component "rooms.%(host)s" "muc"
  modules_enabled = { "muc_mam" }
Component "pubsub.%(host)s" "pubsub"
'''

EJABBERD = '''
loglevel: debug
hosts: ["%(host)s"]
certfiles: ["%(pem)s"]
ca_file: "%(ca)s"
listen:
  - {port: %(c2s)d, ip: "127.0.0.1", module: ejabberd_c2s}
  - {port: %(direct)d, ip: "127.0.0.1", module: ejabberd_c2s, tls: true}
  - {port: %(s2s)d, ip: "127.0.0.1", module: ejabberd_s2s_in}
  - {port: %(http)d, ip: "127.0.0.1", module: ejabberd_http, request_handlers: {/api: mod_http_api}}
s2s_use_starttls: required
auth_password_format: scram
acl: {loopback: {ip: [127.0.0.0/8]}}
api_permissions: {loopback: {who: {acl: loopback}, what: "*"}}
modules:
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_http_api: {}
  mod_last: {}
  mod_mam: {assume_mam_usage: true, default: always}
  mod_muc:
    host: "rooms.%(host)s"
    access_mam: [{allow: all}]
    default_room_options: {mam: true}
  mod_ping: {}
  mod_privacy: {}
  mod_pubsub: {host: "pubsub.%(host)s", access_createnode: all, plugins: [flat, pep]}
  mod_roster: {}
  mod_s2s_dialback: {}
  mod_time: {}
  mod_vcard: {}
'''


class Other(Foreign):
    """`identity`: (certificate, key). What is to be trusted by it is the bed's authority."""

    def __init__(self, bed, name, identity, **values):
        ports = {kind: free_port() for kind in ('c2s', 'direct', 's2s', 'http')}
        super().__init__('127.0.0.1', ports, [name + '.example'], '')
        self.folder, self.host, self.process = os.path.join(bed.folder, name), self.hosts[0], None
        crt, key = identity
        self.values = dict(ports, folder=self.folder, host=self.host, crt=crt, key=key, dns=bed.dns.port,
                           ca=bed.authority.certificate, **values)
        bed.dns.add_server(self.host, ports['s2s'])

    async def launch(self, *program, **environment):
        with open(self.folder + '/output', 'wb') as output:
            self.process = await asyncio.create_subprocess_exec(
                *program, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                env={**os.environ, **environment})
        for port in ('direct', 's2s'):
            for _ in range(600):
                try:
                    _, writer = await asyncio.open_connection('127.0.0.1', self.ports[port])
                except OSError:
                    await asyncio.sleep(0.05)    # they have no other way to say that they are ready
                    continue
                writer.close()
                break
            else:
                raise ServerError('%s does not start: see %s' % (self.host, self.folder))

    async def stop(self):
        if self.process and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()
        return ''


class Prosody(Other):
    def __init__(self, bed, name, identity, secure=True, also=()):
        super().__init__(bed, name, identity, secure=str(secure).lower(),
                         more=''.join('; "%s"' % module for module in also))

    async def start(self):
        os.makedirs(self.folder + '/data')
        with open(self.folder + '/prosody.cfg.lua', 'w', encoding='utf-8') as f:
            f.write(PROSODY % self.values)
        await self.launch('prosody', '--config', self.folder + '/prosody.cfg.lua', '-F')

    async def add_accounts(self, accounts):
        for jid, password in accounts:
            process = await asyncio.create_subprocess_exec(
                'prosodyctl', '--config', self.folder + '/prosody.cfg.lua', 'register', *jid.split('@'), password,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
            if await process.wait():
                raise ServerError('no account %s' % jid)


class Ejabberd(Other):
    async def start(self):
        os.makedirs(self.folder + '/db')
        pem = self.folder + '/server.pem'
        with open(pem, 'w', encoding='utf-8') as f:
            for name in ('key', 'crt'):
                with open(self.values[name], encoding='utf-8') as part:
                    f.write(part.read())
        with open(self.folder + '/ejabberd.yml', 'w', encoding='utf-8') as f:
            f.write(EJABBERD % dict(self.values, pem=pem))
        with open(self.folder + '/inetrc', 'w', encoding='utf-8') as f:
            f.write('{lookup,[dns,file]}.\n{resolv_conf,""}.\n{nameserver,{127,0,0,1},%d}.\n'
                    '{host,{127,0,0,1},["localhost"]}.\n' % self.values['dns'])
        await self.launch('erl', '-noinput', '+K', 'true', '-mnesia', 'dir', '"%s/db"' % self.folder, '-s', 'ejabberd',
                          EJABBERD_CONFIG_PATH=self.folder + '/ejabberd.yml', HOME=self.folder,
                          EJABBERD_LOG_PATH=self.folder + '/server.log', ERL_INETRC=self.folder + '/inetrc',
                          ERL_LIBS=os.environ.get('ERL_LIBS', '/usr/lib/x86_64-linux-gnu'))

    async def add_accounts(self, accounts):
        for jid, password in accounts:
            user, host = jid.split('@')
            request = urllib.request.Request(
                'http://127.0.0.1:%d/api/register' % self.ports['http'],
                json.dumps({'user': user, 'host': host, 'password': password}).encode(),
                {'Content-Type': 'application/json'})
            await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=20).close())


def are_there():
    return shutil.which('prosody') and shutil.which('erl')
