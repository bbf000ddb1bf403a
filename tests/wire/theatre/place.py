# SPDX-License-Identifier: Apache-2.0
"""Where the server is, as one play sees it; certificates; free ports."""
import contextlib
import os
import random
import socket
import ssl
import subprocess
from dataclasses import dataclass, field

_taken = {}


def _take(port):
    """From all runs on this machine, until this process ends; None: another has it."""
    taken = socket.socket(socket.AF_UNIX)
    try:
        taken.bind('\0iris-test-port-%d' % port)
        return taken
    except OSError:
        taken.close()
        return None


def free_port():
    """Below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        taken = None if port in _taken else _take(port)
        if not taken:
            continue
        _taken[port] = taken
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                s.bind(('127.0.0.1', port))
                return port


@dataclass
class Place:
    address: str
    ports: dict                      # 'c2s', 'direct', 'admin', and what the play names itself
    host: str
    authority: 'Authority' = None    # None: a foreign server whose certificate is not checked
    names: dict = field(default_factory=dict)

    def tls(self, certificate=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authority:
            context.load_verify_locations(self.authority.certificate)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(*self.authority.issue_user(certificate))
        return context


class Authority:
    """A certificate authority of the run, in its folder."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.key, self.certificate = self._path('ca.key'), self._path('ca.crt')
        if not os.path.exists(self.certificate):
            self._openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                          '-keyout', self.key, '-out', self.certificate, '-days', '3650',
                          '-subj', '/CN=Iris test authority', '-addext', 'keyUsage=critical,keyCertSign,cRLSign')

    def _path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def _openssl(*args):
        done = subprocess.run(('openssl',) + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise RuntimeError('openssl %s: %s' % (args[0], done.stdout.decode(errors='replace')))

    def issue(self, name, subject, alternatives, again=False):
        """(certificate, key) in files NAME.crt and NAME.key; made once, unless `again`."""
        crt, key, req = (self._path(name + ext) for ext in ('.crt', '.key', '.csr'))
        if again or not os.path.exists(crt):
            ext = self._path(name + '.ext')
            with open(ext, 'w', encoding='utf-8') as f:
                f.write('basicConstraints=critical,CA:FALSE\nsubjectAltName=%s\n' % ','.join(alternatives))
            self._openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                          '-keyout', key, '-out', req, '-subj', '/CN=' + subject)
            self._openssl('x509', '-req', '-in', req, '-CA', self.certificate, '-CAkey', self.key, '-sha256',
                          '-CAcreateserial', '-days', '825', '-extfile', ext, '-out', crt)
        return crt, key

    def issue_host(self, name, hosts, again=False):
        return self.issue(name, hosts[0][:60], ['DNS:' + pattern for h in hosts for pattern in (h, '*.' + h)]
                          + ['DNS:localhost', 'IP:127.0.0.1'], again)

    def issue_user(self, jid):
        return self.issue('user-' + jid.replace('@', '-at-'), jid[:60],
                          ['otherName:1.3.6.1.5.5.7.8.5;UTF8:' + jid])
