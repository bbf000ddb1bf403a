# SPDX-License-Identifier: Apache-2.0
"""The client's side of SASL: PLAIN, EXTERNAL, SCRAM (RFC 5802) with and without channel binding."""
import base64
import functools
import hashlib
import hmac
import os

PREFERENCE = ('SCRAM-SHA-256', 'SCRAM-SHA-512', 'SCRAM-SHA-1', 'PLAIN')


class SaslError(Exception):
    pass


@functools.lru_cache(maxsize=4096)
def _salted(hash_name, password, salt, rounds):
    return hashlib.pbkdf2_hmac(hash_name, password.encode(), salt, rounds)


def end_point(certificate):
    """RFC 5929 tls-server-end-point; the runner's own certificates are signed with SHA-256."""
    return hashlib.sha256(certificate).digest()


class Plain:
    def __init__(self, user, password, authzid=''):
        self.first = ('%s\0%s\0%s' % (authzid, user, password)).encode()

    def challenge(self, data):
        return b''

    def success(self, data):
        pass


class External(Plain):
    def __init__(self, authzid=''):
        self.first = authzid.encode()


class Scram:
    """`bindings` is None without channel binding, else (name, bytes)."""

    def __init__(self, mechanism, user, password, bindings=None, authzid=''):
        self.hash = {'1': 'sha1', '256': 'sha256', '512': 'sha512'}[mechanism.split('-')[2]]
        self.password = password
        flag = 'p=' + bindings[0] if bindings else 'n'
        self.gs2 = '%s,%s,' % (flag, 'a=' + authzid if authzid else '')
        self.binding = self.gs2.encode() + (bindings[1] if bindings else b'')
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = 'n=%s,r=%s' % (user.replace('=', '=3D').replace(',', '=2C'), self.nonce)
        self.first = (self.gs2 + self.bare).encode()
        self.server_signature = None

    def _hmac(self, key, data):
        return hmac.new(key, data, self.hash).digest()

    def challenge(self, data):
        fields = dict(part.split('=', 1) for part in data.decode().split(','))
        if not fields['r'].startswith(self.nonce):
            raise SaslError('the server changed the nonce')
        salted = _salted(self.hash, self.password, base64.b64decode(fields['s']), int(fields['i']))
        final = 'c=%s,r=%s' % (base64.b64encode(self.binding).decode(), fields['r'])
        signed = ','.join((self.bare, data.decode(), final)).encode()
        key = self._hmac(salted, b'Client Key')
        signature = self._hmac(hashlib.new(self.hash, key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.server_signature = self._hmac(self._hmac(salted, b'Server Key'), signed)
        return ('%s,p=%s' % (final, base64.b64encode(proof).decode())).encode()

    def success(self, data):
        if self.server_signature is None:
            raise SaslError('success without a challenge')
        if data != b'v=' + base64.b64encode(self.server_signature):
            raise SaslError('the server could not prove that it knows the password')


def start(mechanism, user, password, bindings=None, authzid=''):
    if mechanism == 'PLAIN':
        return Plain(user, password, authzid)
    if mechanism == 'EXTERNAL':
        return External(authzid)
    if mechanism.startswith('SCRAM-SHA-'):
        return Scram(mechanism, user, password, bindings if mechanism.endswith('-PLUS') else None, authzid)
    raise SaslError('the runner does not speak ' + mechanism)
