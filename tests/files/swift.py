# SPDX-License-Identifier: Apache-2.0
"""OpenStack Swift of Debian's packages on loopback, in a folder of its own: one disk, one replica, TempAuth."""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from theatre.place import free_port

SERVERS = ('account', 'container', 'object')
STORAGE = '''[DEFAULT]
bind_ip = 127.0.0.1
bind_port = %(port)d
workers = 0
user = %(user)s
swift_dir = %(folder)s
devices = %(folder)s/node
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = %(name)s-server
[app:%(name)s-server]
use = egg:swift#%(name)s
'''
PROXY = '''[DEFAULT]
bind_ip = 127.0.0.1
bind_port = %(port)d
workers = 0
user = %(user)s
swift_dir = %(folder)s
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache tempauth proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:%(memcached)d
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:catch_errors]
use = egg:swift#catch_errors
'''


def is_there():
    return all(shutil.which(name) for name in ('memcached', 'swift-proxy-server', 'swift-object-server',
                                               'swift-ring-builder'))


class Swift:
    def __init__(self, folder):
        self.folder = folder
        self.ports = {name: free_port() for name in (*SERVERS, 'proxy', 'memcached')}
        self.processes = []
        self.url = 'http://127.0.0.1:%d/auth/v1.0' % self.ports['proxy']

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), 'w', encoding='utf-8') as f:
            f.write(text)

    def _ring(self, name):
        builder = os.path.join(self.folder, name + '.builder')
        for arguments in (('create', '6', '1', '1'),
                          ('add', 'r1z1-127.0.0.1:%d/d1' % self.ports[name], '1'), ('rebalance',)):
            subprocess.run(('swift-ring-builder', builder, *arguments), stdout=subprocess.DEVNULL, check=False)

    def _spawn(self, *command):
        with open(os.path.join(self.folder, 'log'), 'ab') as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def start(self):
        os.makedirs(os.path.join(self.folder, 'node', 'd1'))
        user = pwd.getpwuid(os.getuid()).pw_name
        self._write('swift.conf', '[swift-hash]\nswift_hash_path_suffix = iris\nswift_hash_path_prefix = test\n')
        for name in SERVERS:
            self._ring(name)
            self._write(name + '.conf', STORAGE % {'name': name, 'port': self.ports[name], 'user': user,
                                                   'folder': self.folder})
        self._write('proxy.conf', PROXY % {'port': self.ports['proxy'], 'memcached': self.ports['memcached'],
                                           'user': user, 'folder': self.folder})
        self._spawn('memcached', '-l', '127.0.0.1', '-p', str(self.ports['memcached']), '-u', 'nobody')
        for name in (*SERVERS, 'proxy'):
            self._spawn('swift-%s-server' % name, os.path.join(self.folder, name + '.conf'))
        until = time.monotonic() + 30
        while True:
            try:
                for port in self.ports.values():
                    socket.create_connection(('127.0.0.1', port), timeout=2).close()
                with urllib.request.urlopen('http://127.0.0.1:%d/healthcheck' % self.ports['proxy'], timeout=2):
                    return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def forget_tokens(self):
        """No token that was given out is good any more."""
        with socket.create_connection(('127.0.0.1', self.ports['memcached']), timeout=5) as memcached:
            memcached.sendall(b'flush_all\r\n')
            assert memcached.recv(100) == b'OK\r\n'

    def objects(self):
        return [os.path.join(d, f) for d, _, files in os.walk(os.path.join(self.folder, 'node'))
                for f in files if f.endswith('.data')]

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait()
