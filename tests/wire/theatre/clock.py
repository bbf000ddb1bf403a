# SPDX-License-Identifier: Apache-2.0
"""The clock that irisd sees: libfaketime's, which looks into a file every second or two for how far it is off.
The monotonic clock, by which timers run, stays as it is."""
import glob
import os


def preloaded():
    found = glob.glob('/usr/lib/*/faketime/libfaketimeMT.so.1')
    return found[0] if found else None


class Clock:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, 'clock')
        self.offset = 0
        self.step(0)
        self.environment = {
            'LD_PRELOAD': preloaded(), 'FAKETIME_TIMESTAMP_FILE': self.path, 'FAKETIME_CACHE_DURATION': '1',
            'DONT_FAKE_MONOTONIC': '1', 'NO_FAKE_STAT': '1',
            # It comes before the library of a sanitizer.
            'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0'}

    def step(self, seconds):
        self.offset += seconds
        with open(self.path + '.new', 'w', encoding='ascii') as f:
            f.write('%+d\n' % self.offset)
        os.rename(self.path + '.new', self.path)
