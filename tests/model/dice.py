# SPDX-License-Identifier: Apache-2.0
"""Scripts by chance.  Pure: the same seed is the same script."""
import random

SENDS = ('chat',) * 8 + ('normal', 'headline', 'state', 'private', 'private', 'no-copy', 'no-store', 'unkept', 'store')


class Dice:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.devices = []

    def chance(self, p):
        return self.random.random() < p

    def any(self):
        return self.random.choice(self.devices)

    def script(self, count):
        lines = []
        for account in 'abcd'[:self.random.randint(2, 4)]:
            for number in range(self.random.randint(1, 3)):
                name = '%s%d' % (account, number + 1)
                mam = self.chance(0.5)
                self.devices.append(name)
                lines.append('device %s %s%s' % (name, 'mam' if mam else 'plain',
                                                 ' bind2' if mam and self.chance(0.5) else ''))
        lines += ['%s signs in %s' % (name, self.options()) for name in self.devices]
        return lines + [self.step() for _ in range(count)]

    def options(self):
        words = [self.random.choice(('classic', 'sasl2'))]
        if self.chance(0.6):
            words.append('carbons')
        if self.chance(0.7):
            words.append(self.random.choice(('sm', 'sm', 'sm', 'sm-plain', 'sm-short')))
        if self.chance(0.2):
            words.append('inactive')
        if self.chance(0.1):
            words.append('away')
        elif self.chance(0.4):
            words.append('priority %d' % self.random.choice((-1, 0, 1, 5)))
        return ' '.join(words)

    def under(self):
        writers = ' '.join(sorted({self.any() for _ in range(3)}))
        return ' under %d from %s' % (self.random.randint(3, 12), writers)

    def step(self):
        kinds = (
            (40, self.sends), (8, self.ends), (8, self.returns), (8, self.returns), (5, self.says),
            (2, lambda: '%s sends %d to %s and drops' % (self.any(), self.random.randint(2, 9), self.any()[0])),
            (0.7, lambda: '%s overflows from %s' % (self.any(), self.any())),
            (0.8, self.server_ends),
        )
        return self.random.choices([k for _, k in kinds], [w for w, _ in kinds])[0]()

    def sends(self):
        target = self.any()
        return '%s sends %s to %s%s' % (
            self.any(), self.random.choice(SENDS), target if False else target[0] + ('/' + target if self.chance(0.4) else ''),
            ' %d times' % self.random.randint(2, 5) if self.chance(0.3) else '')

    def ends(self):
        return self.any() + self.random.choice((' drops', ' drops', ' hangs', ' hangs', ' logs out')) + (
            self.under() if self.chance(0.4) else '')

    def returns(self):
        name = self.any()
        if self.chance(0.1):
            return '%s resumes wrongly %s' % (name, self.random.choice(('id', 'h')))
        what = self.random.choice(('resumes', 'resumes inline', 'signs in ' + self.options()))
        return '%s %s%s' % (name, what, self.under() if self.chance(0.4) else '')

    def says(self):
        return self.any() + self.random.choice((
            ' is available %d' % self.random.choice((-1, 0, 0, 3)), ' goes away', ' is inactive', ' is active',
            ' turns carbons on', ' turns carbons off'))

    def server_ends(self):
        text = 'the server ' + self.random.choice(('dies', 'restarts'))
        if self.chance(0.7):
            text += ' under %d to %s from %s' % (self.random.randint(3, 12), self.any()[0], ' '.join(
                sorted({self.any() for _ in range(3)})))
        return text
