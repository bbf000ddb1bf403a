# SPDX-License-Identifier: Apache-2.0
"""Everything that a region keeps, as somebody would read it who has its disk and its master key.

What is sealed is opened here by hand, not by the code that sealed it: AES-256-GCM is AES-256-CTR from block 2 on, and who only
reads needs neither tag nor what it is bound to (server/vault_seal.c has the records, server/vault_blob.c the chunks of files).
"""
import ctypes
import ctypes.util
import hashlib
import hmac
import os
import re
import sqlite3
import subprocess

MAGIC = b'XE\1\1'
HEADER, NONCE, TAG, KEY = 8, 12, 16, 32
CHUNK = 65536

_crypto = ctypes.CDLL(ctypes.util.find_library('crypto'))
for _name in ('EVP_CIPHER_CTX_new', 'EVP_aes_256_ctr'):
    getattr(_crypto, _name).restype = ctypes.c_void_p


def _open(key, nonce, sealed):
    """Without a look at the tag."""
    context = ctypes.c_void_p(_crypto.EVP_CIPHER_CTX_new())
    out, size = ctypes.create_string_buffer(len(sealed) + 16), ctypes.c_int(0)
    counter = nonce + (2).to_bytes(4, 'big')
    done = _crypto.EVP_DecryptInit_ex(context, ctypes.c_void_p(_crypto.EVP_aes_256_ctr()), None, key, counter) == 1 and \
        _crypto.EVP_DecryptUpdate(context, out, ctypes.byref(size), sealed, len(sealed)) == 1
    _crypto.EVP_CIPHER_CTX_free(context)
    if not done:
        raise OSError('OpenSSL does not open')
    return out.raw[:size.value]


def _derive(root, info):
    """HKDF (RFC 5869) with SHA-256, no salt, one block."""
    extracted = hmac.new(bytes(32), root, hashlib.sha256).digest()
    return hmac.new(extracted, info + b'\1', hashlib.sha256).digest()


class Records:
    def __init__(self, folder):
        with open(os.path.join(folder, 'master.key'), encoding='ascii') as f:
            self.kek = _derive(bytes.fromhex(f.read().strip()), b'iris/v1/kek/vault/1')
        self.keys = {}

    def add_key(self, ident, wrapped):
        self.keys[ident] = _open(self.kek, wrapped[HEADER:HEADER + NONCE], wrapped[HEADER + NONCE:-TAG])

    def open(self, record):
        """What it says; None: no record."""
        if len(record) < HEADER + NONCE + TAG or not record.startswith(MAGIC):
            return None
        key = self.keys.get(int.from_bytes(record[4:HEADER], 'big'))
        return key and _open(key, record[HEADER:HEADER + NONCE], record[HEADER + NONCE:-TAG])


def _cells_of_sqlite(folder):
    """(table, cells of a row)"""
    with sqlite3.connect('file:%s?mode=ro' % os.path.join(folder, 'iris.db'), uri=True) as db:
        for table, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute('SELECT * FROM "%s"' % table):
                yield table, row


def _cells_of_postgresql(store, name):
    dump = subprocess.run([*store.as_user, 'pg_dump', '-h', store.folder, '-U', 'postgres', '--inserts', '--data-only',
                           store.database(name)], check=True, stdout=subprocess.PIPE, cwd=store.folder).stdout.decode()
    for table, values in re.findall(r'^INSERT INTO public\.(\w+) VALUES \((.*?)\);$', dump, re.M | re.S):
        yield table, [bytes.fromhex(hexa) if hexa else text or int(number) for hexa, text, number in
                      re.findall(r"'\\x([0-9a-f]*)'|'((?:[^']|'')*)'|(?<![\w'])(-?\d+)(?![\w'])", values)
                      if hexa or text or number]


def cells(region):
    if hasattr(region.store, 'folder'):
        return list(_cells_of_postgresql(region.store, os.path.basename(region.folder)))
    return list(_cells_of_sqlite(region.folder))


def _files(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            if os.path.isfile(full):
                with open(full, 'rb') as f:
                    yield os.path.relpath(full, folder), f.read()


def _content(data, key):
    """A stored file, whole: each chunk has its number, and whether it is the last, for a nonce."""
    chunks = [data[at:at + CHUNK + TAG] for at in range(0, len(data), CHUNK + TAG)]
    return b''.join(_open(key, number.to_bytes(NONCE - 1, 'big') + bytes([number == len(chunks) - 1]), chunk[:-TAG])
                    for number, chunk in enumerate(chunks))


def read(region):
    """[(where, bytes)]: its files as they lie there (database, WAL, store, logs, cores), every row, opened, every stored file,
    opened. Two rows are there without a mark of anybody: that this reads anything is for the caller to see."""
    kept = list(_files(region.folder)) + list(_files(getattr(region.store, 'data', os.devnull)))
    records, rows, keys = Records(region.folder), cells(region), set()
    for table, row in rows:
        if table == 'vault_keys':
            records.add_key(row[0], next(cell for cell in row if isinstance(cell, bytes)))
    for table, row in rows:
        for cell in row:
            if isinstance(cell, bytes):
                plain = records.open(cell)
                kept.append(('table ' + table, cell if plain is None else plain))
                if plain is not None and len(plain) == KEY:
                    keys.add(plain)
            elif isinstance(cell, str):
                kept.append(('table ' + table, cell.encode()))
    for name, data in _files(os.path.join(region.folder, 'files')):
        kept += [('stored file ' + name, _content(data, key)) for key in keys]
    return kept
