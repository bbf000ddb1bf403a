# SPDX-License-Identifier: Apache-2.0
"""A client in the room: enters, talks, leaves, loses its connection, and notes all it sees."""
import asyncio

from theatre.client import StageError, wrong
from theatre.pattern import CLIENT

from actor import MESSAGE, NS_MAM, NS_SID, Actor, Sent
from judge import HISTORY, Stay

NS_MUC = 'http://jabber.org/protocol/muc'
NS_USER = NS_MUC + '#user'
PRESENCE = '{%s}presence' % CLIENT
DELAY = '{urn:xmpp:delay}delay'


class Occupant(Actor):
    def __init__(self, user, place, ledger, dice, room):
        super().__init__(user, place, ledger, dice)
        self.room, self.nick = room, user
        self.stay = None
        self.inside = asyncio.Event()
        self.outside = asyncio.Event()
        self.entered_as = None      # the last answer to entering

    # --- what comes ---

    def _take(self, element):
        if (element.get('from') or '').split('/')[0] != self.room:
            return super()._take(element) if element.tag != MESSAGE else True
        if element.tag == PRESENCE:
            self._take_presence(element)
        elif element.tag == MESSAGE:
            self._take_said(element)
        return element.tag in (PRESENCE, MESSAGE)

    def _take_presence(self, element):
        own = element.find('{%s}x/{%s}status[@code="110"]' % (NS_USER, NS_USER)) is not None
        if element.get('type') == 'error':
            self.entered_as = element
            self.inside.set()
        elif own and element.get('type') == 'unavailable':
            self.end_stay()
            self.outside.set()
        elif own and self.stay is None:
            self.stay = Stay(self.user)
            self.ledger.stays.append(self.stay)
            self.outside.clear()

    def end_stay(self):
        if self.stay:
            self.stay.over = True
        self.stay = None

    def _take_said(self, element):
        if element.find('{%s}result' % NS_MAM) is not None:
            self.page.append(self._pair(element.find('.//' + MESSAGE), element.find('{%s}result' % NS_MAM).get('id')))
        elif element.get('type') == 'error':
            said = self.ledger.sends.get(element.get('id'))
            if said:
                said.refused = True
        elif element.find('{%s}subject' % CLIENT) is not None and element.find('{%s}body' % CLIENT) is None:
            self.inside.set()
        elif element.get('type') == 'groupchat' and element.find('{%s}body' % CLIENT) is not None:
            if self.stay is None:
                raise StageError('%s is not in the room and gets %s' % (self.user, element.get('id')))
            pair = self._pair(element, next((i.get('id') for i in element.findall('{%s}stanza-id' % NS_SID)
                                             if i.get('by') == self.room), None))
            (self.stay.history if element.find(DELAY) is not None else self.stay.live).append(pair)

    @staticmethod
    def _pair(message, sid):
        return message.get('id'), sid

    # --- coming and going ---

    async def enter(self):
        """Entered, and all that comes first has come, when this returns."""
        self.inside.clear()
        self.entered_as = None
        self.send_stanza("<presence to='%s/%s'><x xmlns='%s'><history maxstanzas='%d'/></x></presence>" % (
            self.room, self.nick, NS_MUC, HISTORY))
        async with asyncio.timeout(10):
            await self.inside.wait()
        if self.entered_as is not None:
            raise wrong('%s in the room' % self.user, self.entered_as)

    async def leave(self):
        self.outside.clear()
        self.send_stanza("<presence to='%s/%s' type='unavailable'/>" % (self.room, self.nick))
        async with asyncio.timeout(10):
            await self.outside.wait()

    async def begin(self):
        """A new session, which is in no room."""
        self.end_stay()
        await super().begin()

    async def kick(self, other):
        await self._role(other, 'none', 'kick')

    async def _role(self, other, role, ident):
        self.pings += 1
        ident = '%s-%d' % (ident, self.pings)
        await self.ask("<iq type='set' id='%s' to='%s'><query xmlns='%s#admin'><item nick='%s' role='%s'/></query></iq>"
                       % (ident, self.room, NS_MUC, other.nick, role), ident)

    # --- talking ---

    def talk(self):
        said = self.ledger.send(self.user, self.room)
        text = Sent("<message type='groupchat' id='%s' to='%s'><body>%s %s</body></message>" % (
            said.ident, self.room, said.ident, 'x' * self.dice.randrange(120)))
        text.send = said
        self.send_stanza(text)

    async def talk_on(self, pace):
        while True:
            if self.writing and self.is_open() and self.stay and len(self.unacked) < 100:
                for _ in range(self.dice.randint(1, 8)):
                    self.talk()
                self.write("<r xmlns='urn:xmpp:sm:3'/>")
            await asyncio.sleep(self.dice.uniform(0, 2 * pace))

    # --- reading back ---

    async def read_room(self):
        """The whole archive of the room: [(ident, stanza-id)]."""
        archive = []
        while True:
            after = '<after>%s</after>' % archive[-1][1] if archive else ''
            self.page = []
            self.pings += 1
            ident = 'room-archive-%d' % self.pings
            fin = await self.ask(
                "<iq type='set' id='%s' to='%s'><query xmlns='%s'><set xmlns='http://jabber.org/protocol/rsm'>"
                "<max>100</max>%s</set></query></iq>" % (ident, self.room, NS_MAM, after), ident)
            found = fin.find('{%s}fin' % NS_MAM)
            if found is None:
                raise StageError('no archive: ' + str(fin.get('type')))
            archive += self.page
            if found.get('complete') == 'true':
                return archive
