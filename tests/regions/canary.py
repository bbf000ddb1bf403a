# SPDX-License-Identifier: Apache-2.0
"""P2.8: marked strings in all that people of one region say, show and share, and where they are found afterwards.

A mark crosses from one region to another, or never does; the policy says whether it may, and whether it may be kept there. `judge()`
says what is not as a policy has it. The same marks judged by a stricter policy than the one they were planted under must be
found: a canary that cannot sing shows nothing.
"""
import asyncio
import base64
import functools
import secrets
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import bed as federation
import legible
from region import CATEGORIES, rule
from theatre import pattern
from theatre.client import StageError
from theatre.web import WebConnection

DENY, TRANSIT, DELIVER = range(3)
VERDICTS = ('deny', 'transit', 'deliver')
NEVER, MAYBE, KEPT = 'never', 'maybe', 'kept'
SECONDS = 10.0
EMEA, NA, APAC = 'emea', 'na', 'apac'
PAIR = (EMEA, NA)
NODE, NICK = 'urn:example:canary', 'http://jabber.org/protocol/nick'
MUC, DATA, PUBSUB = 'http://jabber.org/protocol/muc', 'jabber:x:data', 'http://jabber.org/protocol/pubsub'
SEARCH = 'urn:xmpp:channel-search:0:search-params'
STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas'

WORD = 'canarysings'      # each mark begins with it

PLANTS = []


@functools.cache
def forms_of(text):
    """As it is, and as it may be written elsewhere; of base64 what does not depend on what is around it."""
    plain = text.encode()
    return [plain, plain.upper(), plain.hex().encode(), text.encode('utf-16-le')] + [
        base64.b64encode(bytes(before) + plain)[4:(before + len(plain)) // 3 * 4] for before in range(3)]


@dataclass
class Mark:
    """`kept`: does the region of who receives keep it, where policy lets it? `ways`: (region that sends, region that receives)."""
    name: str
    categories: tuple
    kept: str
    way: tuple = PAIR
    text: str = field(default_factory=lambda: WORD + secrets.token_hex(8))

    def is_in(self, data):
        return any(form in data for form in forms_of(self.text))

    def verdict(self, policy):
        """Of a mark that belongs to no category: it never leaves."""
        return min((policy[category] for category in self.categories), default=DENY)


def plant(*categories, kept=NEVER, way=PAIR):
    def register(function):
        PLANTS.append((function, Mark(function.__name__, categories, kept, way)))
        return function
    return register


class Witness(federation.Person):
    """Remembers everything that it gets."""

    def __init__(self, server, user):
        super().__init__(server, user)
        self.heard = ''

    def _arrived(self, connection, element):
        self.heard += ET.tostring(element, encoding='unicode')
        return super()._arrived(connection, element)


class Stage:
    """The people, and what they share before anything is planted."""

    def __init__(self, bed, tap):
        self.bed, self.tap, self.policy, self.number = bed, tap, None, 0
        self.alice, self.arthur = (bed[EMEA].person(user) for user in ('alice', 'arthur'))
        self.bob, self.bella, self.basil = (bed[NA].person(user) for user in ('bob', 'bella', 'basil'))
        self.chen = bed[APAC].person('chen')
        self.room, self.hall = ('%s@conference.%s' % (name, bed[EMEA].host) for name in ('den', 'hall'))

    def id(self):
        self.number += 1
        return 'i%d' % self.number

    async def ask(self, who, kind, to, payload, good=True):
        ident = self.id()
        to = " to='%s'" % to if to else ''
        answer = await who.ask("<iq type='%s'%s id='%s'>%s</iq>" % (kind, to, ident, payload), ident)
        if good and answer.get('type') != 'result':
            raise StageError('%s asks %s: %s' % (who.address, payload, ET.tostring(answer, encoding='unicode')))
        return answer

    def passes(self, *categories):
        return min(self.policy[category] for category in categories) != DENY

    # --- before each round ---

    async def befriend(self, one, other):
        for asker, asked in ((one, other), (other, one)):
            asker.send_stanza("<presence type='subscribe' to='%s'/>" % asked.address)
            await asked.wait('a request', lambda e: e.get('type') == 'subscribe')
            asked.send_stanza("<presence type='subscribed' to='%s'/>" % asker.address)
            await asker.wait('approval', lambda e: e.get('type') == 'subscribed')

    async def begin(self):
        for person in (self.alice, self.arthur, self.bob, self.chen):
            await person.sign_in()
        await self.befriend(self.alice, self.bob)
        await self.befriend(self.alice, self.chen)
        await self.basil.sign_in()
        await self.befriend(self.basil, self.bob)
        await self.basil.disconnect()
        self.basil.ignored = pattern.parse("<presence from='%s'/>" % self.bob.jid)
        await self.enter(self.alice)
        await self.configure('Den')
        await self.enter(self.alice, self.hall)
        await self.ask(self.alice, 'set', self.room, "<query xmlns='%s#admin'>%s</query>" % (MUC, ''.join(
            "<item jid='%s' affiliation='member'/>" % who.address for who in (self.bob, self.chen))))
        for node in (NODE, NICK):
            await self.publish(node, 'nothing yet')
        await self.ask(self.alice, 'set', 'pubsub.' + self.alice.host, form(
            "<pubsub xmlns='%s'><create node='push'/><configure>%%s</configure></pubsub>" % PUBSUB,
            **{'pubsub#publish_model': 'open', 'pubsub#persist_items': '1', 'pubsub#max_items': '10'}))

    async def prepare(self):
        """What a closed border may have ended is there again."""
        for who in (self.alice, self.bob, self.chen):
            await self.enter(who)
        for who in (self.bob, self.chen):
            for node in (NODE, NICK):
                await self.ask(who, 'set', self.alice.address, "<pubsub xmlns='%s'><subscribe node='%s' jid='%s'/></pubsub>" % (
                    PUBSUB, node, who.address))
        await self.bella.sign_in()
        await self.ask(self.bella, 'set', None, "<enable xmlns='urn:xmpp:push:0' jid='pubsub.%s' node='push'/>" % self.alice.host)
        await self.bella.disconnect()
        await self.basil.sign_in()
        await self.basil.fence()
        self.basil.connection.inbox.clear()     # what waited for him
        await self.basil.enable_sm(by_hand=True)
        self.arthur.send_stanza("<presence type='unsubscribe' to='%s'/>" % self.bella.address)

    async def lose(self):
        """Who has acknowledged nothing is gone, and does not come back."""
        self.basil.connection.drop()
        await self.bob.wait('the end of a lost session', lambda e: e.get('type') == 'unavailable' and
                            e.get('from') == self.basil.jid)

    def forget(self):
        for who in (self.alice, self.arthur, self.bob, self.chen):
            who.connection.inbox.clear()

    async def enter(self, who, room=None):
        ident = self.id()
        who.send_stanza("<presence to='%s/%s' id='%s'><x xmlns='%s'><history maxstanzas='0'/></x></presence>" % (
            room or self.room, who.user, ident, MUC))
        await who.wait('its own presence in the room', lambda e: e.find(".//{%s#user}status[@code='110']" % MUC) is not None)

    async def configure(self, name, room=None, members='1'):
        await self.ask(self.alice, 'set', room or self.room, form("<query xmlns='%s#owner'>%%s</query>" % MUC, **{
            'muc#roomconfig_roomname': name, 'muc#roomconfig_persistentroom': '1', 'muc#roomconfig_membersonly': members,
            'muc#roomconfig_enablelogging': '1'}))

    async def publish(self, node, text):
        await self.ask(self.alice, 'set', None, form(
            "<pubsub xmlns='%s'><publish node='%s'><item id='current'><nick xmlns='%s'>%s</nick></item></publish>"
            "<publish-options>%%s</publish-options></pubsub>" % (PUBSUB, node, node, text), **{'pubsub#access_model': 'open'}))

    async def fence(self):
        """With every border open: what was sent before has arrived when this returns."""
        for sender, receiver in ((self.alice, self.bob), (self.bob, self.alice), (self.alice, self.chen),
                                 (self.chen, self.alice), (self.bob, self.chen), (self.chen, self.bob)):
            word = 'fence ' + self.id()
            sender.say(receiver.jid, word)
            await receiver.message(word)


def form(around, **fields):
    return around % ("<x xmlns='%s' type='submit'>%s</x>" % (DATA, ''.join(
        "<field var='%s'><value>%s</value></field>" % item for item in fields.items())))


# --- what is planted: one function each, (stage, mark) ---

@plant('profile', kept=KEPT, way=(NA, EMEA))
async def push_summary(stage, mark):
    """Before anything else comes for the absent: a service that may not keep it refuses, and is told nothing more."""
    stage.bob.say(stage.bella.address, mark)


@plant('message', kept=KEPT)
async def body(stage, mark):
    stage.alice.say(stage.bob.jid, mark)


@plant('message', kept=KEPT)
async def body_to_the_absent(stage, mark):
    stage.alice.say(stage.bella.address, mark)


@plant('message', kept=KEPT)
async def body_to_the_lost(stage, mark):
    stage.alice.say(stage.basil.jid, mark)


@plant('message')
async def chat_state_and_id(stage, mark):
    stage.alice.send_stanza("<message type='chat' to='%s' id='%s'><composing xmlns='http://jabber.org/protocol/chatstates'/>"
                            "</message>" % (stage.bob.jid, mark))


@plant('presence')
async def status(stage, mark):
    stage.alice.send_stanza('<presence><status>%s</status></presence>' % mark)


@plant('presence', kept=KEPT)
async def words_of_a_request(stage, mark):
    stage.arthur.send_stanza("<presence type='subscribe' to='%s'><status>%s</status></presence>" % (stage.bella.address, mark))


@plant('profile')
async def nick(stage, mark):
    await stage.publish(NICK, mark)


@plant('profile')
async def item(stage, mark):
    await stage.publish(NODE, mark)


@plant('profile')
async def vcard(stage, mark):
    await stage.ask(stage.alice, 'set', None, "<vCard xmlns='vcard-temp'><FN>%s</FN></vCard>" % mark)
    await stage.ask(stage.bob, 'get', stage.alice.address, "<vCard xmlns='vcard-temp'/>", good=stage.passes('profile'))


@plant('bubble')
async def bubble_name(stage, mark):
    await stage.configure(mark)
    await stage.ask(stage.bob, 'get', stage.room, "<query xmlns='http://jabber.org/protocol/disco#info'/>",
                    good=stage.passes('bubble'))


@plant('bubble')
async def bubble_subject(stage, mark):
    stage.alice.send_stanza("<message type='groupchat' to='%s'><subject>%s</subject></message>" % (stage.room, mark))


@plant('bubble')
async def bubble_message(stage, mark):
    stage.alice.send_stanza("<message type='groupchat' to='%s'><body>%s</body></message>" % (stage.room, mark))


@plant('bubble')
async def bubble_nick(stage, mark):
    stage.alice.send_stanza("<presence to='%s/%s'/>" % (stage.room, mark))


@plant('bubble', kept=KEPT)
async def bubble_invitation(stage, mark):
    stage.alice.send_stanza("<message to='%s'><x xmlns='%s#user'><invite to='%s'><reason>%s</reason></invite></x></message>" % (
        stage.room, MUC, stage.bella.address, mark))


@plant('bubble', kept=KEPT, way=(NA, EMEA))
async def bubble_message_of_a_guest(stage, mark):
    stage.bob.send_stanza("<message type='groupchat' to='%s'><body>%s</body></message>" % (stage.room, mark))


@plant('directory')
async def search_query(stage, mark):
    await stage.ask(stage.alice, 'get', stage.bob.host, form(
        "<search xmlns='urn:xmpp:channel-search:0:search'>%s</search>", q=mark), good=False)


@plant('directory', 'bubble')
async def search_answer(stage, mark):
    """The name of a room that everybody may find."""
    await stage.configure(mark, stage.hall, members='0')
    answer = await stage.ask(stage.bob, 'get', 'conference.' + stage.alice.host, form(
        "<search xmlns='urn:xmpp:channel-search:0:search'>%s</search>", FORM_TYPE=SEARCH, all='1'), good=False)
    if stage.passes('directory', 'bubble') and mark not in ET.tostring(answer, encoding='unicode'):
        raise StageError('the search finds nothing: ' + ET.tostring(answer, encoding='unicode'))


@plant('conference', kept=MAYBE)
async def call(stage, mark):
    stage.alice.send_stanza(
        "<message type='chat' to='%s'><propose xmlns='urn:xmpp:jingle-message:0' id='%s'>"
        "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose></message>" % (stage.bob.jid, mark))


async def upload(stage, name, content):
    """Its link."""
    server, who = stage.bed[EMEA], stage.alice
    slot = await stage.ask(who, 'get', 'upload.' + who.host, "<request xmlns='urn:xmpp:http:upload:0' filename='%s' size='%d' "
                           "content-type='text/plain'/>" % (name, len(content)))
    url = slot.find('.//{urn:xmpp:http:upload:0}put').get('url')
    path = '/' + url.split('/', 3)[3]
    for method, more, sent, wanted in (('PUT', 'Content-Type: text/plain\r\n', content, '201'), ('GET', '', b'', '200')):
        tls = who.place.tls()
        tls.set_alpn_protocols(['http/1.1'])
        web = await WebConnection.open(server.address, server.ports['web'], None, tls, who.host)
        web.ask(method, path, who.host, more, sent)
        answer = await web.next(SECONDS)
        web.close()
        if answer is None or answer.get('status') != wanted:
            raise StageError('%s %s: %s' % (method, path, answer is not None and answer.get('status')))
    return url


@plant('message', 'file-link', kept=KEPT)
async def file_name(stage, mark):
    url = await upload(stage, mark, b'nothing')
    stage.alice.send_stanza("<message type='chat' to='%s'><body>%s</body><x xmlns='jabber:x:oob'><url>%s</url></x></message>" % (
        stage.bob.jid, url, url))


@plant()
async def file_content(stage, mark):
    """Read where it lies (P2.5): nothing of it crosses between servers."""
    await upload(stage, 'plain', mark.encode() * 9000)


@plant()
async def name_in_the_roster(stage, mark):
    await stage.ask(stage.alice, 'set', None, "<query xmlns='jabber:iq:roster'><item jid='%s' name='%s'/></query>" % (
        stage.bob.address, mark))


@plant('message', way=(NA, EMEA))
async def error_text(stage, mark):
    stage.bob.send_stanza("<message type='error' to='%s' id='%s'><error type='cancel'><not-acceptable xmlns='%s'/>"
                          "<text xmlns='%s'>%s</text></error></message>" % (stage.alice.jid, stage.id(), STANZAS, STANZAS, mark))


@plant('service', way=(NA, EMEA))
async def text_of_a_refusal(stage, mark):
    ident = stage.id()
    stage.alice.send_stanza("<iq type='get' to='%s' id='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (stage.bob.jid, ident))
    if stage.passes('service'):
        await stage.bob.wait('a ping', lambda e: e.get('id') == ident)
    stage.bob.send_stanza("<iq type='error' to='%s' id='%s'><error type='cancel'><not-allowed xmlns='%s'/>"
                          "<text xmlns='%s'>%s</text></error></iq>" % (stage.alice.jid, ident, STANZAS, STANZAS, mark))


@plant('service')
async def id_of_a_ping(stage, mark):
    stage.alice.send_stanza("<iq type='get' to='%s' id='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (stage.bob.host, mark))


# --- a round ---

def rules(policy):
    """Between the pair as `policy` has it; the third may do nothing at all."""
    return tuple(rule(sender, receiver, VERDICTS[policy[category]], category)
                 for sender, receiver in (PAIR, PAIR[::-1]) for category in CATEGORIES)


OPEN = tuple(rule(sender, receiver, 'deliver') for sender in (EMEA, NA, APAC) for receiver in (EMEA, NA, APAC)
             if sender != receiver)


def rotated(by):
    """Each category has each verdict in one of three."""
    return {category: (number + by) % 3 for number, category in enumerate(CATEGORIES)}


class Round:
    """Plants everything under `policy`; then `kept` has what each region keeps."""

    def __init__(self, stage, policy):
        self.stage, self.policy = stage, policy
        self.marks = [Mark(made.name, made.categories, made.kept, made.way) for _, made in PLANTS]
        self.kept, self.heard = {}, {}

    async def play(self):
        stage, bed = self.stage, self.stage.bed
        await stage.prepare()
        await stage.fence()
        stage.forget()
        stage.policy = self.policy
        await bed.change_policy(rules(self.policy))
        for (function, _), mark in zip(PLANTS, self.marks):
            await function(stage, mark.text)
        await self.arrivals()
        await stage.lose()
        await bed.change_policy(OPEN)
        await stage.fence()
        for name, region in bed.regions.items():
            # Most of it says nothing of anybody: one look at each piece, not one for each mark.
            self.kept[name] = [(where, data) for where, data in legible.read(region)
                               if any(form in data for form in forms_of(WORD))]
        self.heard = {name: ''.join(p.heard for p in region.people.values()) for name, region in bed.regions.items()}

    async def arrivals(self):
        """Of what may pass; and whoever is at the end of a way has handled it when it answers."""
        async def crossed(mark):
            while mark.text.encode() not in self.stage.tap.carried(*mark.way):
                await asyncio.sleep(0.02)
        for mark in self.marks:
            if mark.verdict(self.policy) != DENY:
                try:
                    async with asyncio.timeout(SECONDS):
                        await crossed(mark)
                except TimeoutError:
                    pass        # judge() says so
        for person in (self.stage.alice, self.stage.arthur, self.stage.bob, self.stage.chen):
            await person.fence()

    # --- what is found ---

    def places(self, mark, name):
        return sorted({where for where, data in self.kept[name] if mark.is_in(data)})

    def breaches(self, policy):
        """[(mark, what `policy` does not allow)]"""
        for mark in self.marks:
            sender, receiver = mark.way
            verdict = mark.verdict(policy)
            for way, carried in self.stage.tap.streams.items():
                if mark.is_in(carried) and (verdict == DENY or set(way) != set(mark.way)):
                    yield mark, 'crossed from %s to %s' % way
            for name in self.kept:
                keeps = name == receiver and verdict == DELIVER and mark.kept != NEVER
                for where in self.places(mark, name):
                    if where.endswith('.log') or (name != sender and not keeps):
                        yield mark, 'is in %s of %s' % (where, name)
                if name != sender and mark.text in self.heard[name] and (verdict == DENY or name != receiver):
                    yield mark, 'was heard in ' + name

    def silent(self):
        """[(mark, what the policy of the round allows, and did not happen)]"""
        for mark in self.marks:
            verdict = mark.verdict(self.policy)
            if verdict != DENY and mark.text.encode() not in self.stage.tap.carried(*mark.way):
                yield mark, 'did not cross from %s to %s' % mark.way
            if verdict == DELIVER and mark.kept == KEPT and not self.places(mark, mark.way[1]):
                yield mark, 'is not kept in ' + mark.way[1]

    def singing(self, policy):
        """The names of what `policy` would not have let through, or kept."""
        return {mark.name for mark in self.marks if mark.verdict(policy) < mark.verdict(self.policy) and
                (mark.verdict(policy) == DENY or mark.verdict(self.policy) == DELIVER and mark.kept == KEPT)}


def text_of(found):
    return '\n'.join('%s (%s): %s' % (mark.name, ', '.join(mark.categories) or 'of nobody else', what) for mark, what in found)
