# SPDX-License-Identifier: Apache-2.0
"""An e-mail address has one account in all federated regions (P2.6): taken, free, raced, a region away, strangers who ask, another secret."""
import asyncio
import os
import re

from theatre import language
from theatre.client import NS_SASL, StageError
from theatre.stream import Connection

import bed as federation
from peer import Peer, context
from region import Region, rule

COMMANDS, UNIQUE = 'http://jabber.org/protocol/commands', 'urn:iris:unique:0'
STANZAS = '{urn:ietf:params:xml:ns:xmpp-stanzas}'
FEDERATED = ('emea', 'na', 'apac')
ROUNDS = 8
# Nothing but what servers say to each other; to and from apac in transit only, so that nothing may be kept there.
POLICY = (
    rule('emea', 'na', 'deliver', 'service'),
    rule('na', 'emea', 'deliver', 'service'),
    rule('*', 'apac', 'transit', 'service'),
    rule('apac', '*', 'transit', 'service'),
)


class Administrator(federation.Person):
    """Of a region; commands are given from the client, so that two regions can be asked in the same moment."""
    asked = 0

    async def give(self, user, email):
        """None, or (condition, text)."""
        self.asked += 1
        ident = 'c%d' % self.asked
        answer = await self.ask(
            "<iq type='set' id='%s' to='%s'><command xmlns='%s' node='user/email' action='execute'><x xmlns='jabber:x:data' type='submit'>"
            "<field var='jid'><value>%s@%s</value></field><field var='email'><value>%s</value></field></x></command></iq>" % (
                ident, self.host, COMMANDS, user, self.host, email), ident)
        return refusal(answer)

    async def has(self, user, email):
        shown = await self.server.must('irisctl', 'user', 'show', '%s@%s' % (user, self.host))
        if email not in shown.split():
            raise StageError('%s@%s has not %s: %s' % (user, self.host, email, shown))


def refusal(answer):
    error = answer.find('{jabber:client}error')
    if error is None:
        return None
    found = [c for c in error if c.tag.startswith(STANZAS)]
    return found[0].tag[len(STANZAS):], next((c.text for c in found if c.tag == STANZAS + 'text'), '')


class Asking(Region):
    person_class = Administrator

    def base_config(self):
        config = super().base_config()
        config['accounts'] = {'administrators': ' [admin@%s]' % self.host}
        config['unique'] = {'timeout': ' 2 seconds'}
        return config

    def person(self, user):
        super().person(user)
        self.people[user].server = self
        return self.people[user]

    @property
    def admin(self):
        return self.people['admin']


def people(bed):
    for region in bed.regions.values():
        for user in ('admin', 'alice', 'bob'):
            region.person(user)


async def sign_in(bed):
    for region in bed.regions.values():
        await region.admin.sign_in()
    for name in ('emea', 'na'):
        await bed[name].people['alice'].sign_in()


def expect(found, condition, text=''):
    if (found is None) != (condition is None) or (found and (found[0] != condition or text not in found[1])):
        raise StageError('%s instead of %s "%s"' % (found, condition, text))


async def free(bed):
    """In one region, by another spelling in none of the others; let go, and somebody else's."""
    emea, na, apac = (bed[name].admin for name in FEDERATED)
    expect(await emea.give('alice', 'Alice@Example.ORG'), None)
    await emea.has('alice', 'alice@example.org')
    expect(await emea.give('bob', 'alice@example.org'), 'conflict', 'Another account has')
    # Perhaps before they have heard that they need not keep it free for emea any more.
    expect(await na.give('bob', 'ALICE@example.org'), 'conflict')
    expect(await apac.give('bob', 'alice@EXAMPLE.org'), 'conflict')
    expect(await na.give('bob', 'bob@example.org'), None)
    expect(await emea.give('alice', 'alice@example.net'), None)
    expect(await apac.give('alice', 'alice@example.org'), None)
    expect(await emea.give('bob', 'alice@example.org'), 'conflict')
    expect(await na.give('alice', 'alice@example.net'), 'conflict', 'another region')


async def isolated(bed):
    """What federated regions have says nothing of it, and it asks nobody."""
    hds = bed['hds'].admin
    expect(await hds.give('alice', 'alice@example.org'), None)
    expect(await hds.give('bob', 'alice@example.org'), 'conflict')
    expect(await bed['na'].admin.give('bob', 'bob@example.org'), None)      # still


async def raced(bed, names):
    """From all of them in the same moment: one has it, the others are told that it is taken."""
    for number in range(ROUNDS):
        email = 'race%d.%d@example.org' % (len(names), number)
        found = await asyncio.gather(*(bed[name].admin.give('bob', email) for name in names))
        if found.count(None) != 1 or any(answer and answer[0] != 'conflict' for answer in found):
            raise StageError('%s: %s' % (email, found))
        winner = bed[names[found.index(None)]].admin
        await winner.has('bob', email)


async def away(bed):
    """A region that cannot be asked: nothing changes, and it is said which one; it is back: all is well."""
    emea, na = bed['emea'].admin, bed['na'].admin
    await bed['apac'].stop()
    expect(await emea.give('alice', 'away@example.org'), 'resource-constraint', 'apac cannot be asked now')
    await emea.has('alice', 'alice@example.net')
    expect(await na.give('alice', 'alice@example.net'), 'conflict')     # which is known without it
    expect(await na.give('alice', 'away@example.org'), 'resource-constraint', 'apac')   # emea has let it go
    await bed['apac'].start()
    await bed['apac'].admin.sign_in()
    async with asyncio.timeout(federation.SECONDS):
        while (found := await na.give('alice', 'away@example.org')) is not None:
            expect(found, 'resource-constraint', 'apac')
    expect(await emea.give('bob', 'away@example.org'), 'conflict')


async def strangers(bed):
    """Who is no server of a federated region gets what a namespace gets that nobody knows."""
    question = "<taken xmlns='%s' key='%s' hash='%s' stamp='1'/>" % (UNIQUE, '0' * 16, 'A' * 43 + '=')
    here, far = bed['emea'].people['alice'], bed['na'].people['alice']
    answers = []
    for person, payload in ((here, "<taken xmlns='urn:example:unknown'/>"), (here, question), (far, question)):
        ident = 's%d' % len(answers)
        answer = await person.ask("<iq type='get' id='%s' to='emea.example'>%s</iq>" % (ident, payload), ident)
        answers.append([(e.tag, sorted(e.attrib.items()), e.text) for e in answer.find('{jabber:client}error').iter()])
    if answers[1] != answers[0] or answers[2] != answers[0]:
        raise StageError('one can be told from the other: %s' % answers)


class Forger(Peer):
    """Has the certificate of a region, and speaks for a domain of it."""

    def __init__(self, region, domain):
        super().__init__(domain, region.authority.issue_host(os.path.basename(region.folder), region.hosts))

    async def meet(self, region):
        tls = context(self.identity)
        tls.set_alpn_protocols(['xmpp-server'])
        self.connection = await Connection.open(region.address, region.ports['s2s'], None, tls, region.host)
        await self.header(region.host)
        if (answer := await self.external()).tag != '{%s}success' % NS_SASL:
            raise StageError('%s is not let in: %s' % (self.domain, answer.tag))
        await self.header(region.host)

    def question(self, number, to):
        self.write("<iq type='get' id='q%d' from='%s' to='%s'><taken xmlns='%s' key='%s' hash='%s' stamp='1'/></iq>" % (
            number, self.domain, to, UNIQUE, '0' * 16, 'A' * 43 + '='))


async def counted(region):
    """Questions, by what became of them."""
    reader, writer = await asyncio.open_connection(region.address, region.ports['admin'])
    writer.write(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    async with asyncio.timeout(federation.SECONDS):
        text = (await reader.read()).decode()
    writer.close()
    return {verdict: int(number) for verdict, number in re.findall(
        r'iris_unique_questions_total\{verdict="(\w+)"\} (\d+)', text)}


async def curious(bed):
    """What another domain of a region asks is a stranger's question; what its server asks too fast is not answered."""
    emea, before = bed['emea'], await counted(bed['emea'])
    for domain, amount, verdict in (('pubsub.na.example', 1, 'stranger'), ('na.example', 100, 'limited')):
        forger = Forger(bed['na'], domain)
        await forger.meet(emea)
        for number in range(amount):
            forger.question(number, emea.host)
        async with asyncio.timeout(federation.SECONDS):
            while (await counted(emea))[verdict] == before[verdict]:
                await asyncio.sleep(0.05)
        forger.close()
    after = await counted(emea)
    if after['stranger'] != before['stranger'] + 1 or after['answered'] != before['answered']:
        raise StageError('%s, then %s' % (before, after))     # those of the server had another key


async def another_secret(bed):
    """All names are made anew: what was taken still is, in all regions."""
    bed.map.renew_secret()
    await bed.change_policy(POLICY)
    emea, na = bed['emea'].admin, bed['na'].admin
    async with asyncio.timeout(federation.SECONDS):
        while (found := await emea.give('bob', 'renewed@example.org')) is not None:
            expect(found, 'resource-constraint')        # one of them is not through yet
    expect(await na.give('bob', 'alice@example.net'), 'conflict', 'another region')
    expect(await na.give('bob', 'renewed@example.org'), 'conflict')
    expect(await emea.give('alice', 'alice@example.org'), 'conflict', 'another region')


async def wrong_secret(bed):
    """A server refuses another secret than the map's, and an isolated one any."""
    other = os.path.join(bed.folder, 'other.secret')
    bed.map.make_secret(other)
    for name, path, said in (('emea', other, 'is not the one that the region map names'),
                             ('hds', bed.map.secret, 'is not for it')):
        region = bed[name]
        config = region.base_config()
        config['regions']['secret'] = ' ' + path
        right, region.config_path = region.config_path, region.config_path + '.wrong'
        with open(region.config_path, 'w', encoding='utf-8') as f:
            f.write(language.write_config(config))
        code, out, err = await region.run('irisctl', 'config', 'check')
        region.config_path = right
        if code == 0 or said not in out + err:
            raise StageError('%s: %d %s%s' % (name, code, out, err))
