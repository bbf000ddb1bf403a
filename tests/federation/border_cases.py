# SPDX-License-Identifier: Apache-2.0
"""What people do with each other over a border: each topic between a server of ours and one of each other kind, both ways.

A topic is a coroutine of the bed and two ends; an end is a server and somebody on it whom nobody else uses."""
import random

from theatre import pattern

from bed import body_of
from cases import case
from neighbour import CLIENT, is_available, is_gone, is_push, is_stanza, need, present

PAIRS = {   # name of cases -> (server and user on one side, on the other)
    'border_%s': (('a', 'ursula'), ('b', 'antonio')),
    'debian_prosody_%s': (('a', 'ursula'), ('smacks', 'lucio')),
    'debian_ejabberd_%s': (('a', 'ursula'), ('ejabberd', 'lucio')),
}
TOPICS = []
LACKS = {   # what their versions in Debian 12 do not do
    'smacks': {'gone after unsubscribing', 'forged ids taken out', 'profile for contacts only'},
    'ejabberd': {'presence when blocked', 'event when retracted', 'bans at the door'},
}
MUC, MUC_USER = 'http://jabber.org/protocol/muc', 'http://jabber.org/protocol/muc#user'
OWNER, ADMIN = 'http://jabber.org/protocol/muc#owner', 'http://jabber.org/protocol/muc#admin'
PUBSUB, EVENT = 'http://jabber.org/protocol/pubsub', 'http://jabber.org/protocol/pubsub#event'
NICK, AVATAR, VCARD4 = 'http://jabber.org/protocol/nick', 'urn:xmpp:avatar', 'urn:ietf:params:xml:ns:vcard-4.0'
MAM, FORWARD, CARBONS = 'urn:xmpp:mam:2', 'urn:xmpp:forward:0', 'urn:xmpp:carbons:2'
BLOCKING = 'urn:xmpp:blocking'


def topic(function):
    TOPICS.append(function)
    return function


def end_of(bed, name, user):
    host = name + '.example'
    return next(s for s in bed.servers + bed.others if s.host == host), user


def add_cases():
    for name, pair in PAIRS.items():
        for function in TOPICS:
            async def run(bed, function=function, pair=pair):
                one, other = (end_of(bed, *end) for end in pair)
                await function(bed, one, other)
                await function(bed, other, one)
            run.__name__, run.__doc__ = name % function.__name__, function.__doc__
            case(run)


def lacks(person, what):
    return what in LACKS.get(person.host.partition('.')[0], ())


# --- contacts ---

async def let_in(watcher, watched, after):
    """The watcher asks, the watched allows it; `after`: what the watcher's subscription is then."""
    watcher.ask_presence('subscribe', watched.address)
    await watched.one(is_stanza('presence', watcher.address, 'subscribe'))
    watched.ask_presence('subscribed', watcher.address)
    await watcher.every(is_push(watched.address, after), is_available(watched.jid))


async def befriend(x, y):
    """Both see each other, whatever was before."""
    await part(x, y)
    await let_in(x, y, 'to')
    await let_in(y, x, 'both')


async def part(x, y):
    for one, other in ((x, y), (y, x)):
        if await roster_item(one, other.address) is not None:
            await one.iq(None, "<query xmlns='jabber:iq:roster'><item jid='%s' subscription='remove'/></query>" % (
                other.address), 'set')
    for one, other in ((x, y), (y, x)):     # what was sent about it has arrived
        await one.iq(other.host, "<ping xmlns='urn:xmpp:ping'/>")
        one.connection.inbox.clear()


async def roster_item(person, address):
    answer = await person.iq(None, "<query xmlns='jabber:iq:roster'/>")
    return next((i for i in answer.iter('{jabber:iq:roster}item') if i.get('jid') == address), None)


@topic
async def subscriptions(bed, one, other):
    """Refused, given, both ways, cancelled, unsubscribed, removed: both rosters and what is seen agree."""
    async with present(one, other) as (x, y):
        await part(x, y)
        x.ask_presence('subscribe', y.address)
        await x.one(is_push(y.address, 'none', True))
        await y.one(is_stanza('presence', x.address, 'subscribe'))
        y.ask_presence('unsubscribed', x.address)
        await x.every(is_push(y.address, 'none'), is_stanza('presence', y.address, 'unsubscribed'))
        await let_in(x, y, 'to')
        await let_in(y, x, 'both')
        x.ask_presence('unsubscribed', y.address)
        await y.every(is_push(x.address, 'from'), is_gone(x.jid))
        await let_in(y, x, 'both')
        x.ask_presence('unsubscribe', y.address)
        await y.one(is_push(x.address, 'to'))
        await x.every(is_push(y.address, 'from'), *([] if lacks(y, 'gone after unsubscribing') else [is_gone(y.jid)]))
        await y.iq(None, "<query xmlns='jabber:iq:roster'><item jid='%s' subscription='remove'/></query>" % x.address,
                   'set')
        await x.one(is_push(y.address, 'none'))
        await part(x, y)


@topic
async def presence(bed, one, other):
    """What changes is seen; who comes is seen and sees; who goes, or is cut off, is gone."""
    async with present(one, other) as (x, y):
        await befriend(x, y)
        x.show('<show>away</show><status>\u00fcber</status><priority>5</priority>')
        element = await y.one(is_available(x.jid, CLIENT + 'show'))
        need((element.findtext(CLIENT + 'show'), element.findtext(CLIENT + 'status')) == ('away', '\u00fcber'),
             'came: %s' % pattern.show(element))
        async with present(one, resource='second') as second:
            await y.one(is_available(second.jid))
            await second.one(is_available(y.jid))
        await y.one(is_gone(second.jid))
        async with present(one, resource='third') as third:
            await y.one(is_available(third.jid))
            third.connection.drop()
        await y.one(is_gone(third.jid))
        x.ask_presence('unavailable', y.address)
        await y.one(is_gone(x.jid))


# --- what is asked ---

QUESTIONS = (   # (to whom, what, what the answer must have)
    ('{host}', "<ping xmlns='urn:xmpp:ping'/>", None),
    ('{host}', "<query xmlns='http://jabber.org/protocol/disco#info'/>", '{*}feature[@var="urn:xmpp:ping"]'),
    ('{host}', "<query xmlns='http://jabber.org/protocol/disco#items'/>", '{*}item[@jid="rooms.{host}"]'),
    ('rooms.{host}', "<query xmlns='http://jabber.org/protocol/disco#info'/>", '{*}feature[@var="%s"]' % MUC),
    ('{host}', "<time xmlns='urn:xmpp:time'/>", '{*}utc'),
    ('{host}', "<query xmlns='jabber:iq:last'/>", '{jabber:iq:last}query[@seconds]'),
    ('{address}', "<query xmlns='http://jabber.org/protocol/disco#info'/>", '{*}identity[@category="pubsub"]'),
    ('{address}', "<query xmlns='jabber:iq:last'/>", '{jabber:iq:last}query[@seconds]'),
    ('{address}', "<vCard xmlns='vcard-temp'/>", '{vcard-temp}FN'),
    ('{jid}', "<ping xmlns='urn:xmpp:ping'/>", None),
    ('{jid}', "<query xmlns='http://jabber.org/protocol/disco#info'/>", '{*}identity[@category="client"]'),
)


@topic
async def questions(bed, one, other):
    """Servers, their services, accounts and clients answer those who may know; strangers get nothing of people."""
    async with present(one, other) as (x, y):
        await befriend(x, y)
        await y.iq(None, "<vCard xmlns='vcard-temp'><FN>%s</FN></vCard>" % y.user, 'set')
        for to, what, has in QUESTIONS:
            words = {'host': y.host, 'address': y.address, 'jid': y.jid}
            answer = await x.iq(to.format(**words), what)
            need(not has or answer.find('.//' + has.replace('{host}', y.host)) is not None,
                 '%s says to %s: %s' % (to, what, pattern.show(answer)))
        await x.iq(y.address + '/nowhere', "<ping xmlns='urn:xmpp:ping'/>", 'get', 'service-unavailable')


CALL = "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' initiator='%s' sid='s1'/>"


@topic
async def calls(bed, one, other):
    """A request from client to client, and its answer, pass as they are; nobody there is an error."""
    async with present(one, other) as (x, y):
        for to, answer in ((y.jid, 'result'), (y.address + '/nowhere', 'error')):
            x.send_stanza("<iq type='set' id='call' to='%s'>%s</iq>" % (to, CALL % x.jid))
            if answer == 'result':
                call = await y.one(is_stanza('iq', x.jid, 'set', '{urn:xmpp:jingle:1}jingle'))
                y.send_stanza("<iq type='result' id='%s' to='%s'/>" % (call.get('id'), x.jid))
            await x.one(is_stanza('iq', to, answer))


# --- messages ---

PAYLOADS = (    # as they are sent, they arrive
    "<request xmlns='urn:xmpp:receipts'/>", "<received xmlns='urn:xmpp:receipts' id='m'/>",
    "<markable xmlns='urn:xmpp:chat-markers:0'/>", "<displayed xmlns='urn:xmpp:chat-markers:0' id='m'/>",
    "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
    "<replace xmlns='urn:xmpp:message-correct:0' id='m'/>", "<attention xmlns='urn:xmpp:attention:0'/>",
    "<reactions xmlns='urn:xmpp:reactions:0' id='m'><reaction>\U0001f44d</reaction></reactions>",
    "<reply xmlns='urn:xmpp:reply:0' to='x@y.example' id='m'/>",
    "<x xmlns='jabber:x:oob'><url>https://files.example/f/1</url></x>",
    "<x xmlns='jabber:x:conference' jid='room@rooms.a.example' reason='come'/>",
    "<propose xmlns='urn:xmpp:jingle-message:0' id='c'><description xmlns='urn:xmpp:jingle:apps:rtp:1' "
    "media='audio'/></propose>",
    "<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'><key rid='2'>AA==</key></header></encrypted>",
    "<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl' name='OMEMO'/>",
    "<store xmlns='urn:xmpp:hints'/>", "<geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>1</lat></geoloc>",
)


def shape(element):
    return (element.tag, sorted(element.attrib.items()), (element.text or '').strip(), [shape(c) for c in element])


@topic
async def payloads(bed, one, other):
    """What extensions put into messages arrives as it was sent; nobody speaks for somebody else's archive."""
    async with present(one, other) as (x, y):
        for number, payload in enumerate(PAYLOADS):
            x.send_stanza("<message to='%s' type='chat' id='p%d'><body>p%d</body>%s</message>" % (
                y.jid, number, number, payload))
        for number, payload in enumerate(PAYLOADS):
            element = await y.message('p%d' % number)
            wanted = pattern.parse(payload)[0]
            found = element.find(wanted.tag)
            need(found is not None and shape(found) == shape(wanted), '%s became %s' % (payload, pattern.show(element)))
        if lacks(y, 'forged ids taken out'):
            return
        x.send_stanza("<message to='%s' type='chat' id='f'><body>f</body><stanza-id xmlns='urn:xmpp:sid:0' by='%s' "
                      "id='forged'/></message>" % (y.jid, y.address))
        ids = [e.get('id') for e in (await y.message('f')).findall('{urn:xmpp:sid:0}stanza-id')]
        need('forged' not in ids, 'the id is taken: %s' % ids)


async def archived(person, with_, to=None, most=20):
    """Bodies of what an archive has of this conversation, in order."""
    field = "<field var='with'><value>%s</value></field>" % with_ if with_ else ''
    await person.iq(to, "<query xmlns='%s' queryid='q'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' "
                    "type='hidden'><value>%s</value></field>%s</x><set xmlns='http://jabber.org/protocol/rsm'><max>%d</max>"
                    "<before/></set></query>" % (MAM, MAM, field, most), 'set')
    found = [e.findtext('.//{%s}forwarded//%sbody' % (FORWARD, CLIENT)) for e in person.connection.inbox
             if e.find('{%s}result' % MAM) is not None]
    return [body for body in found if body is not None]


def is_copy(kind, body):
    def matches(element):
        copy = element.find('{%s}%s' % (CARBONS, kind))
        return copy is not None and copy.findtext('.//%sbody' % CLIENT) == body
    matches.text = '%s carbon of %s' % (kind, body)
    return matches


@topic
async def copies(bed, one, other):
    """Each side's other devices have what was said, both archives too; who was away finds it."""
    words = ['%s asks' % one[1], '%s answers' % other[1]]
    async with present(one, other) as (x, y), present(one, other, resource='second') as (x2, y2):
        for person in (x, y, x2, y2):
            await person.iq(None, "<enable xmlns='%s'/>" % CARBONS, 'set')
        x.say(y.jid, words[0])
        await y.message(words[0])
        y.say(x.jid, words[1])
        await x.message(words[1])
        await x2.every(is_copy('sent', words[0]), is_copy('received', words[1]))
        await y2.every(is_copy('received', words[0]), is_copy('sent', words[1]))
        for person, with_ in ((x, y.address), (y, x.address)):
            found = (await archived(person, with_))[-2:]
            need(found == words, '%s has archived: %s' % (person.address, found))
    async with present(one) as x:
        x.say('%s@%s' % (other[1], other[0].host), 'later')
        await x.iq(other[0].host, "<ping xmlns='urn:xmpp:ping'/>")
    async with present(other) as y:
        found = (await archived(y, x.address))[-1:]
        need(found == ['later'], '%s has archived: %s' % (y.address, found))


@topic
async def blocked(bed, one, other):
    """A contact that is blocked sees who blocks it go, and reaches nobody; unblocked, it is as before (XEP-0191)."""
    async with present(one, other) as (x, y):
        await befriend(x, y)
        item = "<%%s xmlns='%s'><item jid='%s'/></%%s>" % (BLOCKING, y.address)
        await x.iq(None, item % ('block', 'block'), 'set')
        if not lacks(x, 'presence when blocked'):
            await y.one(is_gone(x.jid))
        y.say(x.address, 'let me in', 'b1')
        await y.error('b1', 'service-unavailable')
        await y.iq(x.jid, "<ping xmlns='urn:xmpp:ping'/>", 'get', 'service-unavailable')
        y.show('<status>unseen</status>')
        x.say(y.address, 'not to you', 'b2')
        await x.error('b2', 'not-acceptable')
        await x.none(is_available(y.jid, CLIENT + 'status'), is_stanza('message', y.jid, 'chat'))
        await x.iq(None, item % ('unblock', 'unblock'), 'set')
        if not lacks(x, 'presence when blocked'):
            await y.one(is_available(x.jid))
        y.say(x.jid, 'open again')
        await x.message('open again')


# --- what is published ---

def is_event(sender, *inside):
    def matches(element):
        event = element.find('{%s}event' % EVENT)
        return (event is not None and element.get('from') == sender
                and all(event.find('.//' + name) is not None for name in inside))
    matches.text = 'event of %s with %s' % (sender, inside)
    return matches


async def publish(person, node, item, ident='current', to=None):
    await person.iq(to, "<pubsub xmlns='%s'><publish node='%s'><item id='%s'>%s</item></publish></pubsub>" % (
        PUBSUB, node, ident, item), 'set')


async def fetch(person, to, node, condition=None):
    return await person.iq(to, "<pubsub xmlns='%s'><items node='%s'/></pubsub>" % (PUBSUB, node), 'get', condition)


@topic
async def personal_events(bed, one, other):
    """PEP: who is let in and listens is told at once, and when it comes later; it may fetch; a stranger may not."""
    data, metadata = AVATAR + ':data', AVATAR + ':metadata'
    listens = [NICK + '+notify', metadata + '+notify']
    async with present(one, other) as (x, y):
        await befriend(x, y)
        y.show('<status>listens</status>', listens)
        await x.one(is_available(y.jid, CLIENT + 'status'))
        await publish(x, NICK, "<nick xmlns='%s'>of %s</nick>" % (NICK, x.user))
        await y.one(is_event(x.address, '{%s}nick' % NICK))
        await publish(x, data, "<data xmlns='%s'>aGVsbG8=</data>" % data, 'a1')
        await publish(x, metadata, "<metadata xmlns='%s'><info bytes='5' id='a1' type='image/png'/></metadata>" % metadata,
                      'a1')
        await y.one(is_event(x.address, '{%s}info' % metadata))
        answer = await fetch(y, x.address, data)
        need(answer.find('.//{%s}data' % data) is not None, 'no avatar: %s' % pattern.show(answer))
        await publish(x, 'urn:xmpp:vcard4', "<vcard xmlns='%s'><fn><text>X</text></fn></vcard>" % VCARD4)
        answer = await fetch(y, x.address, 'urn:xmpp:vcard4')
        need(answer.find('.//{%s}fn' % VCARD4) is not None, 'no vCard: %s' % pattern.show(answer))
        await x.iq(None, "<pubsub xmlns='%s'><retract node='%s' notify='true'><item id='current'/></retract></pubsub>" % (
            PUBSUB, NICK), 'set')
        if not lacks(x, 'event when retracted'):
            await y.one(is_event(x.address, '{%s}retract' % EVENT))
        async with present(other, presence=False, resource='later') as later:
            later.show('', listens)
            await later.one(is_event(x.address, '{%s}info' % metadata))
        await part(x, y)
        if not lacks(x, 'profile for contacts only'):
            await fetch(y, x.address, 'urn:xmpp:vcard4', 'any')


@topic
async def services(bed, one, other):
    """A node of a service on the other side: subscribe, be told, fetch; not publish; unsubscribe."""
    async with present(one, other) as (x, y):
        service = 'pubsub.' + x.host
        node = 'news-' + x.user + '-' + y.host
        await x.iq(service, "<pubsub xmlns='%s'><create node='%s'/></pubsub>" % (PUBSUB, node), 'set')
        await y.iq(service, "<pubsub xmlns='%s'><subscribe node='%s' jid='%s'/></pubsub>" % (PUBSUB, node, y.address),
                   'set')
        await publish(x, node, "<entry xmlns='http://www.w3.org/2005/Atom'/>", 'n1', service)
        await y.one(is_event(service, '{http://www.w3.org/2005/Atom}entry'))
        answer = await fetch(y, service, node)
        need(answer.find('.//{%s}item[@id="n1"]' % PUBSUB) is not None, 'no item: %s' % pattern.show(answer))
        await y.iq(service, "<pubsub xmlns='%s'><publish node='%s'><item><entry xmlns='http://www.w3.org/2005/Atom'/>"
                   "</item></publish></pubsub>" % (PUBSUB, node), 'set', 'forbidden')
        await y.iq(service, "<pubsub xmlns='%s'><unsubscribe node='%s' jid='%s'/></pubsub>" % (PUBSUB, node, y.address),
                   'set')
        await x.iq(service, "<pubsub xmlns='%s#owner'><delete node='%s'/></pubsub>" % (PUBSUB, node), 'set')


# --- rooms ---

def in_room(sender, kind=None, *codes):
    """Presence of an occupant, with these codes of XEP-0045."""
    return is_stanza('presence', sender, kind, *('{%s}status[@code="%d"]' % (MUC_USER, code) for code in codes))


def is_said(sender, body, kind='groupchat'):
    def matches(element):
        return element.get('from') == sender and element.get('type') == kind and body_of(element) == body
    matches.text = '"%s" of %s' % (body, sender)
    return matches


def has_subject(room, text):
    """Whoever set it: a nick, or the room, when nobody did."""
    def matches(element):
        return (element.get('from', '').partition('/')[0] == room and body_of(element) is None
                and element.find(CLIENT + 'subject') is not None and element.findtext(CLIENT + 'subject') == text)
    matches.text = 'the subject "%s"' % text
    return matches


def enter(person, room, nick):
    person.send_stanza("<presence to='%s/%s'><x xmlns='%s'/></presence>" % (room, nick, MUC))


async def configure(person, room, **fields):
    await person.iq(room, "<query xmlns='%s'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>"
                    "<value>http://jabber.org/protocol/muc#roomconfig</value></field>%s</x></query>" % (OWNER, ''.join(
                        "<field var='muc#roomconfig_%s'><value>%s</value></field>" % f for f in fields.items())), 'set')


async def administer(person, room, condition=None, **attributes):
    await person.iq(room, "<query xmlns='%s'><item %s/></query>" % (ADMIN, ' '.join(
        "%s='%s'" % a for a in attributes.items())), 'set', condition)


def name_room(owner, label='rooms'):
    return 'r%x@%s.%s' % (random.getrandbits(40), label, owner.host)


async def open_room(owner, label='rooms', **fields):
    room = name_room(owner, label)
    enter(owner, room, 'owner')
    await owner.one(in_room(room + '/owner', None, 110, 201))
    await configure(owner, room, **fields)
    return room


async def let_enter(room, owner, guest, subject=''):
    """Both have seen that the guest is in, and the guest all that it is sent."""
    enter(guest, room, 'guest')
    await guest.every(in_room(room + '/owner'), in_room(room + '/guest', None, 110), has_subject(room, subject))
    await owner.one(in_room(room + '/guest'))


async def all_hear(sender, body, *people):
    for person in people:
        await person.one(is_said(sender, body))


@topic
async def rooms(bed, one, other):
    """A guest enters, speaks, whispers, takes another nick, leaves; comes back to history and subject; pings itself."""
    async with present(one, other) as (x, y):
        room = await open_room(x)
        await let_enter(room, x, y)
        for who, nick in ((x, 'owner'), (y, 'guest')):
            who.send_stanza("<message to='%s' type='groupchat'><body>from %s</body></message>" % (room, nick))
            await all_hear(room + '/' + nick, 'from ' + nick, x, y)
        for who, nick, whom, to in ((x, 'owner', y, 'guest'), (y, 'guest', x, 'owner')):
            who.send_stanza("<message to='%s/%s' type='chat'><body>psst</body><x xmlns='%s'/></message>" % (
                room, to, MUC_USER))
            await whom.one(is_said(room + '/' + nick, 'psst', 'chat'))
        x.send_stanza("<message to='%s' type='groupchat'><subject>borders</subject></message>" % room)
        await y.one(has_subject(room, 'borders'))
        await y.iq(room + '/guest', "<ping xmlns='urn:xmpp:ping'/>")
        enter(y, room, 'visitor')
        await x.every(in_room(room + '/guest', 'unavailable', 303), in_room(room + '/visitor'))
        await y.one(in_room(room + '/visitor', None, 110))
        y.send_stanza("<presence to='%s/visitor' type='unavailable'/>" % room)
        await x.one(in_room(room + '/visitor', 'unavailable'))
        await y.one(in_room(room + '/visitor', 'unavailable', 110))
        await y.iq(room + '/guest', "<ping xmlns='urn:xmpp:ping'/>", 'get', 'not-acceptable')
        enter(y, room, 'guest')
        await y.every(in_room(room + '/owner'), in_room(room + '/guest', None, 110), is_said(room + '/owner', 'from owner'),
                      is_said(room + '/guest', 'from guest'), has_subject(room, 'borders'))
        y.connection.drop()
        await x.one(in_room(room + '/guest', 'unavailable'))


@topic
async def rooms_governed(bed, one, other):
    """A guest is invited both ways, made a member, admin, owner; configures; is kicked, banned; a room is destroyed."""
    async with present(one, other) as (x, y):
        room = await open_room(x, membersonly='1')
        enter(y, room, 'guest')
        await y.one(is_stanza('presence', room + '/guest', 'error', '{*}registration-required'))
        x.send_stanza("<message to='%s'><x xmlns='%s'><invite to='%s'><reason>come</reason></invite></x></message>" % (
            room, MUC_USER, y.address))
        await y.one(is_stanza('message', room, None, '{%s}invite' % MUC_USER))
        await administer(x, room, jid=y.address, affiliation='member')
        await let_enter(room, x, y)
        await administer(y, room, 'any', nick='owner', role='none')
        for affiliation in ('admin', 'owner'):
            await administer(x, room, jid=y.address, affiliation=affiliation)
            await y.one(is_stanza('presence', room + '/guest', None, '{%s}item[@affiliation="%s"]' % (
                MUC_USER, affiliation)))
        form = await y.iq(room, "<query xmlns='%s'/>" % OWNER)
        need(form.find('.//{jabber:x:data}field[@var="muc#roomconfig_membersonly"]') is not None, 'no form for %s' % y.jid)
        await configure(y, room, membersonly='0', roomname='theirs')
        await administer(x, room, jid=y.address, affiliation='member')
        await administer(x, room, nick='guest', role='none')
        await y.one(in_room(room + '/guest', 'unavailable', 307))
        await let_enter(room, x, y)
        await administer(x, room, jid=y.address, affiliation='outcast')
        await y.one(in_room(room + '/guest', 'unavailable', 301))
        if not lacks(x, 'bans at the door'):
            enter(y, room, 'guest')
            await y.one(is_stanza('presence', room + '/guest', 'error', '{*}forbidden'))
        await administer(x, room, jid=y.address, affiliation='none')
        await let_enter(room, x, y)
        await x.iq(room, "<query xmlns='%s'><destroy><reason>over</reason></destroy></query>" % OWNER, 'set')
        await y.one(is_stanza('presence', room + '/guest', 'unavailable', '{%s}destroy' % MUC_USER))


@topic
async def rooms_archived(bed, one, other):
    """A member on the other side reads what was said while it was in and while it was not."""
    async with present(one, other) as (x, y):
        room = await open_room(x, membersonly='1', persistentroom='1')
        await administer(x, room, jid=y.address, affiliation='member')
        for body in ('before', 'after'):
            x.send_stanza("<message to='%s' type='groupchat'><body>%s</body></message>" % (room, body))
            await x.one(is_said(room + '/owner', body))
            if body == 'before':
                await let_enter(room, x, y)
                y.send_stanza("<presence to='%s/guest' type='unavailable'/>" % room)
                await x.one(in_room(room + '/guest', 'unavailable'))
        found = await archived(y, None, room)
        need(found == ['before', 'after'], 'archived: %s' % found)
        await x.iq(room, "<query xmlns='%s'><destroy/></query>" % OWNER, 'set')


add_cases()
