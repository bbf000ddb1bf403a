# SPDX-License-Identifier: Apache-2.0
"""What is in transit is kept nowhere (P2.4): two regions of our own; what people of the far one do is delivered live in the
near one, and afterwards everything that the near one keeps is opened and searched."""
import contextlib
import os
import secrets
import sqlite3
import sys

from theatre import pattern
from theatre.client import StageError

import bed as beds
from border_cases import (CARBONS, MUC_USER, PUBSUB, administer, all_hear, archived, befriend, configure, enter,
                          has_subject, in_room, is_said, open_room)
from cases import case
from neighbour import CLIENT, is_available, is_push, is_stanza, need, present

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'regions'))

import legible                      # noqa: E402
from region import Authority        # noqa: E402

CATEGORIES = 'presence, message, bubble, conference, directory, profile, file-link, service'
MAP = """map: {name: test, serial: 1, issued: 2026-01-01T00:00:00Z}
regions:
  list:
%s
policy:
  rules:
    - {from: near, to: far, categories: [%s], verdict: deliver}
    - {from: far, to: near, categories: [%s], verdict: transit}
"""
ENTRY = '    - {id: %s, domains: [%s, pubsub.%s], rooms: [rooms.%s, bubbles.%s], ca: %s}'
REFUSED = 'refused to keep what is in transit'
PARTS = []


def part(function):
    PARTS.append(function)
    return function


class Side(beds.Server):
    def __init__(self, bed, region):
        self.region = region
        super().__init__(bed, region, authority=Authority(os.path.join(bed.folder, 'ca-' + region), region, '127.0.0.1'))

    def base_config(self):
        config = super().base_config()
        config['regions']['id'] = ' ' + self.region
        return config

    def entry(self):
        return ENTRY % (self.region, *[self.host] * 4, self.authority.fingerprint())


class Border:
    """near.example with juliet and nurse (who is away), far.example with romeo."""

    def __init__(self, bed):
        self.near, self.far = self.sides = Side(bed, 'near'), Side(bed, 'far')
        self.authorities = os.path.join(bed.folder, 'authorities.pem')
        self.marks = {}

    def mark(self, what):
        return self.marks.setdefault(what, 'mark-%s-%s' % (what, secrets.token_hex(8)))

    async def __aenter__(self):
        names = '\n'.join(side.entry() for side in self.sides)
        with open(self.authorities, 'w', encoding='ascii') as all_of_them:
            for side in self.sides:
                with open(side.authority.certificate, encoding='ascii') as one:
                    all_of_them.write(one.read())
        for side, other in (self.sides, self.sides[::-1]):
            side.regions = MAP % (names, CATEGORIES, CATEGORIES)
            side.federation.update(authorities=' ' + self.authorities, targets=''.join(
                '\n      - {domain: %s%s, host: 127.0.0.1, port: %d}' % (label, other.host, other.ports['s2s'])
                for label in ('', 'rooms.', 'pubsub.')))
            await side.prepare()
            await side.start()
            await side.wait_log('map-in-force', since=0)
        await self.near.add_accounts([('%s@%s' % (user, self.near.host), user + '-secret') for user in ('juliet', 'nurse')])
        await self.far.add_accounts([('romeo@' + self.far.host, 'romeo-secret')])
        return self

    async def __aexit__(self, kind, error, trace):
        problems = [problem for side in self.sides for problem in [await side.stop(), *side.errors(0)] if problem]
        if kind:
            problems += ['%s: %s' % (kind.__name__, error), *('%s:\n%s' % (side.host, side.tail(20)) for side in self.sides)]
        if problems:
            raise StageError('\n'.join(problems)) from error

    def rows(self):
        """table -> how many; a reader's row has two domains and a number"""
        with contextlib.closing(sqlite3.connect('file:%s?mode=ro' % os.path.join(self.near.folder, 'iris.db'), uri=True)) as db:
            names = [name for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' "
                                                  "AND name != 'outbox_readers'").fetchall()]
            return {name: db.execute('SELECT count(*) FROM "%s"' % name).fetchone()[0] for name in names}


def text_of(element, name):
    found = element.find('.//' + name) if element is not None else None
    return found.text if found is not None else None


# --- what people do ---

@part
async def messages(border, juliet, romeo):
    """Live with a copy for the other session, and no id of an archive; back to its sender from who is away."""
    async with present((border.near, 'juliet'), resource='second') as second:
        await second.iq(None, "<enable xmlns='%s'/>" % CARBONS, 'set')
        await juliet.iq(None, "<enable xmlns='%s'/>" % CARBONS, 'set')
        romeo.say(juliet.jid, border.mark('body'))
        element = await juliet.message(border.mark('body'))
        need(element.find('{urn:xmpp:sid:0}stanza-id') is None, 'an id of an archive: %s' % pattern.show(element))
        await second.wait('a copy', lambda e: text_of(e, CLIENT + 'body') == border.mark('body'))
    romeo.send_stanza("<message to='%s' type='chat' id='changed'><body>%s</body><replace xmlns='urn:xmpp:message-correct:0' "
                      "id='%s'/></message>" % (juliet.jid, border.mark('correction'), border.mark('body')))
    await juliet.message(border.mark('correction'))
    romeo.say('nurse@' + border.near.host, border.mark('offline'), 'to-nurse')
    await romeo.error('to-nurse', 'service-unavailable')
    need(not await archived(juliet, romeo.address), 'it is in the archive')


@part
async def lost_sessions(border, juliet, romeo):
    """What a client does not acknowledge before its session ends goes back."""
    async with present((border.near, 'nurse')) as nurse:
        nurse.send_stanza("<enable xmlns='urn:xmpp:sm:3'/>")
        await nurse.wait('<enabled/>', lambda e: e.tag == '{urn:xmpp:sm:3}enabled')
        nurse.show('<priority>1</priority>')
        await nurse.fence()
        romeo.say(nurse.jid, border.mark('unacknowledged'), 'unacknowledged')
        await nurse.message(border.mark('unacknowledged'))
        nurse.connection.drop()
        await romeo.error('unacknowledged', 'service-unavailable')


@part
async def subscriptions(border, juliet, romeo):
    """A request stands in the roster, and is shown to who comes later, without what was said with it."""
    romeo.send_stanza("<presence to='nurse@%s' type='subscribe'><status>%s</status></presence>" % (
        border.near.host, border.mark('request')))
    await romeo.iq(border.near.host, "<ping xmlns='urn:xmpp:ping'/>")
    async with present((border.near, 'nurse')) as nurse:
        element = await nurse.one(is_stanza('presence', romeo.address, 'subscribe'))
        need(not list(element), 'it came with %s' % pattern.show(element))
        nurse.ask_presence('subscribed', romeo.address)
        await romeo.every(is_push(nurse.address, 'to'), is_available(nurse.jid))
    await befriend(juliet, romeo)
    romeo.show('<status>%s</status>' % border.mark('status'))
    await juliet.wait('the status', lambda e: e.findtext(CLIENT + 'status') == border.mark('status'))


@part
async def answers(border, juliet, romeo):
    """A profile and a room's history are fetched, what somebody publishes is heard; who asks sees it."""
    await romeo.iq(None, "<vCard xmlns='vcard-temp'><FN>%s</FN></vCard>" % border.mark('vcard'), 'set')
    answer = await juliet.iq(romeo.address, "<vCard xmlns='vcard-temp'/>")
    need(text_of(answer, '{vcard-temp}FN') == border.mark('vcard'), pattern.show(answer))
    room = await open_room(romeo, membersonly='0', enablelogging='1')
    romeo.send_stanza("<message to='%s' type='groupchat'><body>%s</body></message>" % (room, border.mark('history')))
    await romeo.one(is_said(room + '/owner', border.mark('history')))
    await administer(romeo, room, jid=juliet.address, affiliation='member')
    need(await archived(juliet, None, room) == [border.mark('history')], 'the history cannot be read')
    enter(juliet, room, 'guest')
    await juliet.one(is_said(room + '/owner', border.mark('history')))
    nick = 'http://jabber.org/protocol/nick'
    juliet.show(listens=[nick + '+notify'])
    await romeo.one(is_available(juliet.jid))
    await romeo.iq(None, "<pubsub xmlns='%s'><publish node='%s'><item id='current'><nick xmlns='%s'>%s</nick></item>"
                   "</publish></pubsub>" % (PUBSUB, nick, nick, border.mark('nick')), 'set')
    await juliet.wait('the nick', lambda e: text_of(e, '{%s}nick' % nick) == border.mark('nick'))


@part
async def rooms(border, juliet, romeo):
    """What a guest says is heard, and not in the history; nothing that lasts is changed by it."""
    room = await open_room(juliet, persistentroom='1', changesubject='1', enablelogging='1', membersonly='0')
    enter(romeo, room, 'guest')
    await romeo.one(in_room(room + '/guest', None, 110))
    for who, nick, word in ((juliet, 'owner', 'of the region'), (romeo, 'guest', border.mark('groupchat'))):
        who.send_stanza("<message to='%s' type='groupchat' id='%s'><body>%s</body></message>" % (room, nick, word))
        await all_hear(room + '/' + nick, word, juliet, romeo)
    romeo.send_stanza("<message to='%s' type='groupchat' id='subject'><subject>%s</subject></message>" % (
        room, border.mark('subject')))
    await romeo.error('subject', 'policy-violation')
    romeo.send_stanza("<message to='%s/owner' type='chat'><body>%s</body><x xmlns='%s'/></message>" % (
        room, border.mark('private'), MUC_USER))
    await juliet.one(is_said(room + '/guest', border.mark('private'), 'chat'))
    await romeo.iq(room, "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>"
                   "<value>http://jabber.org/protocol/muc#register</value></field><field var='muc#register_roomnick'><value>"
                   "%s</value></field></x></query>" % border.mark('reserved'), 'set', 'any')
    await administer(juliet, room, jid=romeo.address, affiliation='owner')
    await romeo.one(in_room(room + '/guest'))
    await administer(romeo, room, 'policy-violation', jid='somebody@' + border.far.host, affiliation='member',
                     nick=border.mark('affiliate'))
    answer = await romeo.iq(room, "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"
                            "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"
                            "<field var='muc#roomconfig_roomname'><value>%s</value></field></x></query>" % border.mark('name'),
                            'set', 'policy-violation')
    need(answer is not None, 'no answer')
    need(await archived(juliet, None, room) == ['of the region'], 'more is kept')
    async with present((border.near, 'nurse')) as nurse:
        enter(nurse, room, 'nurse')
        await nurse.every(is_said(room + '/owner', 'of the region'), has_subject(room, ''))
        await nurse.none(is_said(room + '/guest', border.mark('groupchat')))
        await administer(romeo, room, nick='nurse', role='none')      # nobody keeps who is in
        await nurse.one(in_room(room + '/nurse', 'unavailable', 307))
    enter(romeo, 'founded@rooms.' + border.near.host, 'founder')
    await romeo.one(is_stanza('presence', 'founded@rooms.%s/founder' % border.near.host, 'error', '{*}policy-violation'))
    await configure(juliet, room, roomname='as it was')


@part
async def nodes(border, juliet, romeo):
    """A node takes neither an item nor a subscription; what is in it can be read."""
    service, publish = 'pubsub.' + border.near.host, "<pubsub xmlns='%s'><publish node='open'><item id='%s'><x xmlns='urn:x'>" \
        "%s</x></item></publish></pubsub>"
    await juliet.iq(service, "<pubsub xmlns='%s'><create node='open'/><configure><x xmlns='jabber:x:data' type='submit'><field "
                    "var='FORM_TYPE'><value>%s#node_config</value></field><field var='pubsub#publish_model'><value>open</value>"
                    "</field></x></configure></pubsub>" % (PUBSUB, PUBSUB), 'set')
    await juliet.iq(service, publish % (PUBSUB, 'one', 'of the region'), 'set')
    await romeo.iq(service, publish % (PUBSUB, 'two', border.mark('item')), 'set', 'policy-violation')
    await romeo.iq(service, "<pubsub xmlns='%s'><subscribe node='open' jid='%s'/></pubsub>" % (PUBSUB, romeo.jid), 'set',
                   'policy-violation')
    answer = await romeo.iq(service, "<pubsub xmlns='%s'><items node='open'/></pubsub>" % PUBSUB)
    need([e.text for e in answer.iter('{urn:x}x')] == ['of the region'], pattern.show(answer))


# --- and what is left of it ---

def search(border, control):
    """Every file, every row and what is sealed in it, opened."""
    kept = legible.read(border.near)
    need(any(control.encode() in text for _, text in kept), 'the search does not find what is there')
    found = ['%s: %s' % (where, what) for what, mark in border.marks.items() for where, text in kept if mark.encode() in text]
    need(not found, 'it is kept: %s' % ', '.join(found))


@case
async def transit_is_kept_nowhere(bed):
    """Whatever people of a region do that is only let through: it is seen, and nothing of it is left."""
    async with Border(bed) as border:
        async with present((border.near, 'juliet'), (border.far, 'romeo')) as (juliet, romeo):
            before = border.rows()
            for function in PARTS:
                if function is subscriptions:
                    need(border.rows() == before, 'rows: %s became %s' % (before, border.rows()))
                await function(border, juliet, romeo)
            control = 'control-' + secrets.token_hex(8)
            juliet.say('nurse@' + border.near.host, control)
            while control not in await archived(juliet, 'nurse@' + border.near.host):
                pass        # it is there to be found once it is committed
        search(border, control)
        need(not [e for e in border.near.log if e.get('event') == REFUSED],
             'the vault had to refuse: %s' % [e for e in border.near.log if e.get('event') == REFUSED])
