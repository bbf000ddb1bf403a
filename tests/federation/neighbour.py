# SPDX-License-Identifier: Apache-2.0
"""People who know somebody on another server, and answer as clients do without being asked by anybody."""
import asyncio
import base64
import contextlib
import hashlib

from theatre import pattern
from theatre.client import StageError, describe

from bed import SECONDS, Person

CLIENT = '{jabber:client}'
INFO, PING, CAPS = 'http://jabber.org/protocol/disco#info', 'urn:xmpp:ping', 'http://jabber.org/protocol/caps'
ROSTER = 'jabber:iq:roster'


def need(condition, text):
    if not condition:
        raise StageError(text)


def is_stanza(kind, sender, type_, *inside):
    """Of this kind, sender and type, with an element of each of these names below it."""
    def matches(element):
        return (element.tag == CLIENT + kind and element.get('from') == sender and element.get('type') == type_
                and all(element.find('.//' + name) is not None for name in inside))
    matches.text = '%s %s from %s with %s' % (kind, type_, sender, inside)
    return matches


def is_available(sender, *inside):
    return is_stanza('presence', sender, None, *inside)


def is_gone(sender, *inside):
    return is_stanza('presence', sender, 'unavailable', *inside)


def is_push(address, subscription, asks=False):
    def matches(element):
        item = element.find('{%s}query/{%s}item' % (ROSTER, ROSTER))
        return (element.tag == CLIENT + 'iq' and element.get('type') == 'set' and item is not None
                and item.get('jid') == address and item.get('subscription') == subscription
                and (item.get('ask') == 'subscribe') == asks)
    matches.text = 'push of %s as %s%s' % (address, subscription, ', asked' if asks else '')
    return matches


class Neighbour(Person):
    def __init__(self, server, user):
        super().__init__(server, user)
        self.besides = self._answer

    def _answer(self, element):
        """Pings and questions for features get their answer at once, and nobody sees them."""
        if element.tag != CLIENT + 'iq' or element.get('type') != 'get':
            return False
        query = element.find('{%s}query' % INFO)
        if query is None and element.find('{%s}ping' % PING) is None:
            return False
        node = query.get('node') if query is not None else None
        inner = '' if query is None else "<query xmlns='%s'%s>%s</query>" % (
            INFO, " node='%s'" % node if node else '', self._identity())
        self.send_stanza("<iq type='result' id='%s' to='%s'>%s</iq>" % (element.get('id'), element.get('from'), inner))
        return True

    def _identity(self):
        return "<identity category='client' type='pc' name='T'/>" + ''.join(
            "<feature var='%s'/>" % feature for feature in self.listens)

    listens = ()

    def show(self, inner='', listens=None):
        """Presence to everybody, with what it listens to (XEP-0115)."""
        if listens is not None:
            self.listens = sorted([INFO, PING, *listens])
        text = 'client/pc//T<' + ''.join(feature + '<' for feature in self.listens)
        ver = base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
        caps = "<c xmlns='%s' hash='sha-1' node='urn:test' ver='%s'/>" % (CAPS, ver) if self.listens else ''
        self.send_stanza('<presence>%s%s</presence>' % (inner, caps))

    async def every(self, *wanted, seconds=SECONDS):
        """The first element for each, in whatever order they come; others are passed over."""
        left, found, passed = dict(enumerate(wanted)), {}, []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while left and (element := await self.connection.next(seconds)) is not None:
                    number = next((n for n, matches in left.items() if matches(element)), None)
                    if number is None:
                        passed.append(describe(element))
                        continue
                    found[number] = element
                    del left[number]
        need(not left, '%s waits for %s; came: %s' % (
            self.jid, ' and '.join(m.text for m in left.values()), '\n'.join(passed) or 'nothing'))
        return [found[n] for n in sorted(found)]

    async def one(self, wanted, seconds=SECONDS):
        return (await self.every(wanted, seconds=seconds))[0]

    async def none(self, *wanted):
        """None of them has come when what was sent to the own server has been answered."""
        await self.fence()
        for element in list(self.connection.inbox):
            for matches in wanted:
                need(not matches(element), '%s got what it must not: %s' % (self.jid, describe(element)))

    async def iq(self, to, payload, kind='get', condition=None):
        """The answer; an error with this condition (or any) if one is named."""
        self.pings += 1
        ident = 'ask-%d' % self.pings
        answer = await self.ask("<iq type='%s' id='%s'%s>%s</iq>" % (
            kind, ident, " to='%s'" % to if to else '', payload), ident)
        found = [c.tag.rpartition('}')[2] for c in answer.findall(CLIENT + 'error/*')]
        need((answer.get('type') == 'error') == bool(condition) and (condition in (None, 'any') or condition in found),
             '%s asks %s %s: %s' % (self.jid, to, payload, pattern.show(answer)))
        return answer

    def ask_presence(self, kind, to):
        self.send_stanza("<presence type='%s' to='%s'/>" % (kind, to))


@contextlib.asynccontextmanager
async def present(*who, **options):
    """(server, user): new sessions of them, for as long as it takes."""
    people = [Neighbour(server, user) for server, user in who]
    try:
        for person in people:
            await person.sign_in(**options)
        yield people if len(people) > 1 else people[0]
    finally:
        for person in people:
            if person.is_open():
                with contextlib.suppress(StageError, OSError):
                    await person.disconnect()
