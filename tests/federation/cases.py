# SPDX-License-Identifier: Apache-2.0
"""What must hold between servers. CASES: name -> a coroutine over the bed; each says in its docstring what it shows."""
import asyncio
import hashlib

from theatre.client import NS_SASL, StageError
from theatre.stream import GONE, Connection

from bed import SECONDS, SECRET, body_of
from peer import SERVER, Listener, Peer

CASES = {}
BIDI, BIDI_FEATURE = 'urn:xmpp:bidi', 'urn:xmpp:features:bidi'
DIALBACK = 'jabber:server:dialback'
PING = "<iq type='get' id='%s' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>"


def case(function):
    CASES[function.__name__] = function
    return function


def need(condition, text):
    if not condition:
        raise StageError(text)


def identity(bed, name, *domains, **more):
    return bed.authority.issue(name, domains[0], ['DNS:' + d for d in domains], **more)


# --- a region map ---

@case
async def a_map_decides(bed):
    """What the map names passes to those of no region; nothing else does, and nothing where it has a region."""
    olivia, juliet = bed.olivia, bed.juliet
    await bed.gated.wait_log('map-in-force', since=0)
    olivia.say(juliet.jid, 'named')
    await juliet.message('named')
    juliet.say(olivia.jid, 'named, too')
    await olivia.message('named, too')
    olivia.send_stanza(PING % ('unnamed', juliet.place.host))
    await olivia.error('unnamed', 'remote-server-not-found')
    olivia.say(bed.romeo.jid, 'unproven')           # a.example has a region, which no certificate proves
    await olivia.error('unproven', 'remote-server-timeout')
    bed.romeo.say(olivia.jid, 'unproven here')
    await olivia.nothing('unproven here')
    report = await bed.gated.must('irisctl', 'boundary', 'report')
    for line in ('emea external message deliver 1', 'external emea message deliver 1', 'emea external service deny 1',
                 'emea na message deliver 1'):
        need(line in ' '.join(report.split()), 'the report has no "%s": %s' % (line, report))


# --- two servers of ours ---

@case
async def messages_both_ways(bed):
    """Messages cross, keep their order, and have the addresses that they had."""
    romeo, juliet = bed.romeo, bed.juliet
    for n in range(50):
        romeo.say(juliet.jid, 'to %d' % n)
        juliet.say(romeo.jid, 'fro %d' % n)
    for who, other, word in ((juliet, romeo, 'to'), (romeo, juliet, 'fro')):
        got = []
        while len(got) < 50:
            element = await who.wait('messages', lambda e: (body_of(e) or '').startswith(word + ' '))
            need(element.get('from') == other.jid, 'from %s' % element.get('from'))
            got.append(body_of(element))
        need(got == ['%s %d' % (word, n) for n in range(50)], 'out of order: %s' % got)


@case
async def questions_both_ways(bed):
    """An iq to a server, and one to a client, is answered over the border."""
    for who, other in ((bed.romeo, bed.juliet), (bed.juliet, bed.romeo)):
        who.send_stanza(PING % ('p1', other.place.host))
        await who.wait('a pong', lambda e: e.get('id') == 'p1' and e.get('type') == 'result')
        who.send_stanza(PING % ('p2', other.jid))
        ping = await other.wait('a ping', lambda e: e.get('id') == 'p2')
        other.send_stanza("<iq type='result' id='p2' to='%s'/>" % ping.get('from'))
        await who.wait('the pong', lambda e: e.get('id') == 'p2' and e.get('type') == 'result')


@case
async def subscriptions_both_ways(bed):
    """Subscriptions, presence, probes at a new sign-in, the end of a session."""
    romeo, juliet = bed.romeo, bed.juliet

    def presence(kind, sender):
        return lambda e: e.tag.endswith('}presence') and e.get('type') == kind and e.get('from') == sender
    for who, other in ((romeo, juliet), (juliet, romeo)):
        who.send_stanza("<presence type='subscribe' to='%s'/>" % other.address)
        await other.wait('the request', presence('subscribe', who.address))
        other.send_stanza("<presence type='subscribed' to='%s'/>" % who.address)
        await who.wait('approval', presence('subscribed', other.address))
        await who.wait('presence', presence(None, other.jid))
    await romeo.disconnect()
    await juliet.wait('the end', presence('unavailable', romeo.jid))
    await romeo.sign_in()
    await romeo.wait('the answer to a probe', presence(None, juliet.jid))
    await juliet.wait('presence', presence(None, romeo.jid))


@case
async def nobody_and_nowhere(bed):
    """Errors come back, once and soon: no account there, no such domain, not a public name."""
    romeo = bed.romeo
    romeo.say('nobody@b.example', 'anyone', 'e1')
    await romeo.error('e1', 'service-unavailable')
    romeo.send_stanza(PING % ('e2', 'nowhere.example'))
    await romeo.error('e2', 'remote-server-not-found', 4)
    romeo.send_stanza(PING % ('e3', 'nowhere.example'))      # remembered
    await romeo.error('e3', 'remote-server-not-found', 2)
    romeo.send_stanza(PING % ('e4', '127.0.0.1'))
    await romeo.error('e4', 'remote-server-not-found', 2)
    romeo.send_stanza(PING % ('e5', 'intranet'))
    await romeo.error('e5', 'remote-server-not-found', 2)


@case
async def closed_unless_opened(bed):
    """By default nobody is talked to; who is denied is not, nor let in."""
    rosaline = bed.rosaline
    rosaline.send_stanza(PING % ('c1', 'b.example'))
    await rosaline.error('c1', 'remote-server-not-found', 3)
    bed.romeo.send_stanza(PING % ('c2', 'closed.example'))
    await bed.romeo.error('c2', 'remote-server-timeout')
    bed.romeo.send_stanza(PING % ('c3', 'denied.example'))
    await bed.romeo.error('c3', 'remote-server-not-found', 3)
    peer = Peer('denied.example', identity(bed, 'denied', 'denied.example'))
    await peer.open(bed.a)
    peer.connection.header(bed.a.host, "from='denied.example'", SERVER)
    await peer.expect_error('policy-violation')
    peer.close()


@case
async def components(bed):
    """An external component's domain is one of ours as long as it is connected, under the host's certificate."""
    namespace, domain = 'jabber:component:accept', 'bot.' + bed.a.host
    connection = await Connection.open('127.0.0.1', bed.a.ports['component'])
    connection.header(domain, '', namespace)
    header = await connection.next(SECONDS)
    digest = hashlib.sha1((header.get('id') + SECRET).encode()).hexdigest()
    connection.write(('<handshake>%s</handshake>' % digest).encode())
    need((await connection.next(SECONDS)).tag == '{%s}handshake' % namespace, 'no handshake')
    bed.juliet.say('x@' + domain, 'hello bot')
    element = await connection.next(SECONDS)
    need(element.get('from') == bed.juliet.jid and element.get('to') == 'x@' + domain, 'came: %s' % element.attrib)
    connection.write(("<message from='x@%s' to='%s'><body>hello client</body></message>" % (
        domain, bed.juliet.jid)).encode())
    await bed.juliet.message('hello client')
    connection.write(b'</stream:stream>')
    await connection.next(SECONDS)
    connection.close()


# --- others that connect to us ---

@case
async def a_peer_by_hand(bed):
    """EXTERNAL by STARTTLS and by direct TLS; a message comes in."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.sign_in(bed.a)
    peer.message('x@peer.example/r', bed.romeo.jid, 'by hand')
    element = await bed.romeo.message('by hand')
    need(element.get('from') == 'x@peer.example/r', 'from %s' % element.get('from'))
    peer.close()
    await peer.open(bed.a, direct=True)
    features = await peer.header(bed.a.host)
    need([m.text for m in features.iter('{%s}mechanism' % NS_SASL)] == ['EXTERNAL'], 'no EXTERNAL on direct TLS')
    peer.close()


@case
async def names_of_certificates(bed):
    """A wildcard, an SRV name, an XmppAddr prove; a common name, another domain, a parent's do not."""
    def other(*names):
        return bed.authority.issue('names-%d' % abs(hash(names)), 'w.peer.example', list(names))
    good = (['DNS:*.peer.example'],
            ['otherName:1.3.6.1.5.5.7.8.7;IA5:_xmpp-server.w.peer.example'],
            ['otherName:1.3.6.1.5.5.7.8.5;UTF8:w.peer.example'],
            ['DNS:W.Peer.Example'])
    bad = (['DNS:peer.example'], ['DNS:w.peer.example.org'], ['DNS:*.example'], ['email:w@peer.example'],
           ['otherName:1.3.6.1.5.5.7.8.7;IA5:_xmpp-client.w.peer.example'], ['DNS:w*.peer.example'],
           ['IP:127.0.0.1'])
    for names in good:
        peer = Peer('w.peer.example', other(*names))
        await peer.sign_in(bed.a)
        peer.close()
    for names in bad:
        peer = Peer('w.peer.example', other(*names))
        features = await peer.start_tls(bed.a)
        need(features.find('{%s}mechanisms' % NS_SASL) is None, '%s proved it' % names)
        await peer.expect_error('not-authorized')
        peer.close()


async def refused(bed, peer, authzid=None, sender=None):
    """EXTERNAL is not offered, and not taken either."""
    features = await peer.start_tls(bed.a, sender=sender)
    need(features.find('{%s}mechanisms' % NS_SASL) is None, '%s: EXTERNAL was offered' % peer.domain)
    await peer.expect_error('not-authorized')
    peer.close()


@case
async def certificates_that_prove_nothing(bed):
    """None, one of an unknown authority, an expired one, a revoked one, one of somebody else."""
    strange = type(bed.authority)(bed.folder + '/strange')
    await refused(bed, Peer('peer.example', None))
    await refused(bed, Peer('peer.example', strange.issue('peer', 'peer.example', ['DNS:peer.example'])))
    await refused(bed, Peer('peer.example', bed.expired))
    await refused(bed, Peer('revoked.example', bed.revoked))
    await refused(bed, Peer('peer.example', identity(bed, 'other', 'other.example')))
    await refused(bed, Peer('b.example', identity(bed, 'other', 'other.example')))


@case
async def what_it_says_is_nothing(bed):
    """An authorization identity beside the certificate's is refused, also one of our own domains."""
    for authzid in ('other.example', 'a.example', 'user@peer.example', 'peer.example/r'):
        peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
        await peer.start_tls(bed.a)
        answer = await peer.external(authzid)
        need(answer.tag == '{%s}failure' % NS_SASL, '%s was taken' % authzid)
        peer.close()
    own = Peer('a.example', bed.authority.issue_host('a', ['a.example']))
    await own.open(bed.a)
    own.connection.header('a.example', "from='a.example'", SERVER)
    await own.expect_error('policy-violation')
    own.close()


@case
async def stanzas_before_authentication(bed):
    """Nothing is taken before TLS, nor before EXTERNAL."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.open(bed.a)
    await peer.header('a.example')
    peer.message('x@peer.example', bed.romeo.jid, 'too early')
    await peer.expect_error('not-authorized')
    peer.close()
    await peer.start_tls(bed.a)
    peer.message('x@peer.example', bed.romeo.jid, 'too early')
    await peer.expect_error('not-authorized')
    peer.close()
    await bed.romeo.nothing('too early')


@case
async def forged_senders(bed):
    """Another domain, one of ours, a subdomain: invalid-from; relaying: host-unknown; no address: improper."""
    for sender, to, condition in (('x@b.example', bed.romeo.jid, 'invalid-from'),
                                  ('x@sub.peer.example', bed.romeo.jid, 'invalid-from'),
                                  (bed.romeo.address, bed.romeo.jid, 'invalid-from'),
                                  ('a.example', bed.romeo.jid, 'invalid-from'),
                                  ('x@peer.example', bed.juliet.jid, 'host-unknown'),
                                  ('x@peer.example', 'y@peer.example', 'host-unknown')):
        peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
        await peer.sign_in(bed.a)
        peer.message(sender, to, 'forged')
        await peer.expect_error(condition)
        peer.close()
    for text in ("<message to='%s'><body>forged</body></message>" % bed.romeo.jid,
                 "<message from='x@peer.example'><body>forged</body></message>"):
        peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
        await peer.sign_in(bed.a)
        peer.write(text)
        await peer.expect_error('improper-addressing')
        peer.close()
    await bed.romeo.nothing('forged')
    await bed.juliet.nothing('forged')


@case
async def unknown_hosts(bed):
    """A header to a domain that is not ours."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.open(bed.a)
    peer.connection.header('b.example', "from='peer.example'", SERVER)
    await peer.expect_error('host-unknown')
    peer.close()


@case
async def elements_of_clients(bed):
    """What is for clients is not understood between servers: no session, no binding, no states."""
    for text in ("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>", "<active xmlns='urn:xmpp:csi:0'/>",
                 "<enabled xmlns='urn:xmpp:sm:3'/>"):
        peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
        await peer.sign_in(bed.a)
        peer.write(text)
        await peer.expect_error('unsupported-stanza-type')
        peer.close()


@case
async def stanzas_that_are_too_large(bed):
    """256 KiB pass between servers, 600 KiB do not, and 20 KiB not before authentication."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.sign_in(bed.a)
    peer.message('x@peer.example', bed.romeo.jid, 'L' * 400000)
    await bed.romeo.wait('the large one', lambda e: len(body_of(e) or '') == 400000)
    peer.message('x@peer.example', bed.romeo.jid, 'M' * 600000)
    await peer.expect_error('policy-violation')
    peer.close()
    await peer.start_tls(bed.a)
    peer.write("<auth xmlns='%s' mechanism='EXTERNAL'>%s</auth>" % (NS_SASL, 'A' * 20000))
    await peer.expect_error('policy-violation')
    peer.close()


# --- dialback (XEP-0220) ---

def result(peer, sender, to, key):
    peer.write("<db:result xmlns:db='%s' from='%s' to='%s'>%s</db:result>" % (DIALBACK, sender, to, key))


async def answer(peer, kind):
    element = await peer.expect('{%s}result' % DIALBACK, 'a result of dialback')
    need(element.get('type') == kind, 'type %s instead of %s' % (element.get('type'), kind))
    return element


@case
async def dialback_both_ways(bed):
    """Two servers that ask each other back, one with a certificate that proves nothing."""
    for who, other in ((bed.mercutio, bed.tybalt), (bed.tybalt, bed.mercutio)):
        for n in range(5):
            who.say(other.jid, 'back %d' % n)
        for n in range(5):
            await other.message('back %d' % n)


@case
async def dialback_is_off(bed):
    """Who does not take it is not talked to by who has nothing else, nor talks to it."""
    bed.romeo.say(bed.mercutio.jid, 'hello', 'o1')
    await bed.romeo.error('o1', 'remote-server-timeout', 4)
    bed.mercutio.say(bed.romeo.jid, 'hello', 'o2')
    await bed.mercutio.error('o2', 'remote-server-timeout')
    peer = Peer('d.example', None)
    features = await peer.start_tls(bed.a)
    need(not list(features), 'offered: %s' % [f.tag for f in features])
    await peer.expect_error('not-authorized')
    peer.close()


@case
async def keys_that_are_made_up(bed):
    """The domain itself is asked, and says no; a domain without a server cannot say anything."""
    peer = Peer('e.example', None)
    await peer.start_tls(bed.d)
    result(peer, 'e.example', 'd.example', '0' * 64)
    await answer(peer, 'invalid')
    await peer.connection.next(SECONDS)
    need(peer.connection.gone or not peer.connection.inbox, 'the stream goes on')
    peer.close()
    await peer.start_tls(bed.d)
    peer.message('x@e.example', bed.mercutio.jid, 'before the answer')
    await peer.expect_error('not-authorized')
    peer.close()
    peer = Peer('nowhere.example', None)
    await peer.start_tls(bed.d)
    result(peer, 'nowhere.example', 'd.example', '0' * 64)
    await answer(peer, 'error')
    peer.close()
    await bed.mercutio.nothing('before the answer')


@case
async def keys_of_others(bed):
    """Only our own keys, for that very stream and pair, are called valid."""
    peer = Peer('peer.example', identity(bed, 'peer', 'peer.example'))
    await peer.start_tls(bed.d)
    for attributes in ("from='e.example' to='d.example' id='x'", "from='peer.example' to='d.example' id=''"):
        peer.write("<db:verify xmlns:db='%s' %s>%s</db:verify>" % (DIALBACK, attributes, 'f' * 64))
        element = await peer.expect('{%s}verify' % DIALBACK, 'a verdict')
        need(element.get('type') == 'invalid', 'type %s' % element.get('type'))
    peer.write("<db:verify xmlns:db='%s' from='e.example' to='b.example' id='x'>0</db:verify>" % DIALBACK)
    element = await peer.expect('{%s}verify' % DIALBACK, 'a verdict')
    need(element.get('type') == 'error', 'type %s' % element.get('type'))
    peer.close()


@case
async def another_pair_by_certificate(bed):
    """XEP-0344: what the certificate proves is taken on a stream that is there, and nothing else; others go on."""
    peer = Peer('peer.example', identity(bed, 'two', 'peer.example', 'second.example'))
    await peer.sign_in(bed.a)
    result(peer, 'second.example', 'a.example', 'any')
    await answer(peer, 'valid')
    peer.message('x@second.example', bed.romeo.jid, 'from the second')
    await bed.romeo.message('from the second')
    for sender, to in (('third.example', 'a.example'), ('second.example', 'b.example'), ('a.example', 'a.example')):
        result(peer, sender, to, 'any')
        await answer(peer, 'error')
    peer.message('x@peer.example', bed.romeo.jid, 'from the first')
    await bed.romeo.message('from the first')
    peer.message('x@third.example', bed.romeo.jid, 'from the third')
    await peer.expect_error('invalid-from')
    peer.close()


@case
async def verdicts_on_other_keys(bed):
    """An answer for another stream or pair does not make a key valid."""
    async def confuse(listener, connection):
        listener.answer(connection, "<dialback xmlns='urn:xmpp:features:dialback'/>")
        verify = await connection.next(SECONDS)
        for change in ({'id': 'other'}, {'from': 'e.example'}, {'to': 'e.example'}):
            values = {'from': verify.get('to'), 'to': verify.get('from'), 'id': verify.get('id'), **change}
            connection.write(("<db:verify xmlns:db='%s' type='valid' %s/>" % (
                DIALBACK, ' '.join("%s='%s'" % v for v in values.items()))).encode())
        connection.write(("<db:verify xmlns:db='%s' type='invalid' from='%s' to='%s' id='%s'/>" % (
            DIALBACK, verify.get('to'), verify.get('from'), verify.get('id'))).encode())
        await connection.next(SECONDS)
    listener = await listening(bed, 'confused.example', identity(bed, 'other', 'other.example'), then=confuse)
    peer = Peer('confused.example', None)
    await peer.start_tls(bed.d)
    result(peer, 'confused.example', 'd.example', '0' * 64)
    await answer(peer, 'invalid')
    peer.close()
    await listener.stop()


# --- others whom we connect to ---

async def listening(bed, domain, identity_, **more):
    listener = Listener(domain, identity_, bed.ports[domain], **more)
    await listener.start()
    return listener


@case
async def a_listener_by_hand(bed):
    """We dial, prove each other, and hand on in order what has waited."""
    listener = await listening(bed, 'peer.example', identity(bed, 'peer', 'peer.example'))
    for n in range(5):
        bed.romeo.say('x@peer.example', 'wait %d' % n)
    for n in range(5):
        element = await asyncio.wait_for(listener.stanzas.get(), SECONDS)
        body = element.find('{%s}body' % SERVER)
        need(body is not None and body.text == 'wait %d' % n, 'came: %s' % element.attrib)
        need(element.get('from') == bed.romeo.jid, 'from %s' % element.get('from'))
    need(listener.dialled == 1, 'dialled %d times' % listener.dialled)
    await listener.stop()


# --- both ways on one stream (XEP-0288) ---

@case
async def both_ways_theirs(bed):
    """A peer that asks for it gets the answers on its own stream."""
    peer = Peer('twoway.example', identity(bed, 'twoway', 'twoway.example'))
    features = await peer.start_tls(bed.b)
    need(features.find('{%s}bidi' % BIDI_FEATURE) is not None, 'it is not offered')
    peer.write("<bidi xmlns='%s'/>" % BIDI)
    need((await peer.external()).tag == '{%s}success' % NS_SASL, 'no success')
    await peer.header(bed.b.host)
    peer.message('x@twoway.example', bed.juliet.jid, 'there')
    await bed.juliet.message('there')
    bed.juliet.say('x@twoway.example', 'and back')
    element = await peer.next('the answer')
    need(element.get('from') == bed.juliet.jid and element.get('id') == 'and back', 'came: %s' % element.attrib)
    peer.close()


@case
async def both_ways_ours(bed):
    """Where it is offered we ask for it, and take what comes back; else that ends the stream."""
    for domain, offered in (('twoway.example', True), ('oneway.example', False)):
        more = "<bidi xmlns='%s'/>" % BIDI_FEATURE if offered else ''
        listener = await listening(bed, domain, identity(bed, domain[:6], domain), more=more)
        bed.juliet.say('x@' + domain, 'hello')
        await asyncio.wait_for(listener.stanzas.get(), SECONDS)
        need(listener.asked == offered, 'asked: %s' % listener.asked)
        listener.connections[0].write(("<message from='y@%s' to='%s' id='b'><body>back from %s</body></message>" % (
            domain, bed.juliet.jid, domain)).encode())
        if offered:
            await bed.juliet.message('back from ' + domain)
        else:
            element = await asyncio.wait_for(listener.stanzas.get(), SECONDS)
            need(element.find('{urn:ietf:params:xml:ns:xmpp-streams}not-authorized') is not None, 'no error')
            await bed.juliet.nothing('back from ' + domain)
        await listener.stop()
        listener.connections[0].close()


@case
async def listeners_that_prove_nothing(bed):
    """A wrong name, an unknown authority, an expired certificate: nothing is handed out, an error comes at once."""
    strange = type(bed.authority)(bed.folder + '/strange')
    for number, (domain, shown) in enumerate((
            ('wrong1.example', identity(bed, 'other', 'other.example', 'localhost')),
            ('wrong2.example', strange.issue('wrong2', 'wrong2.example', ['DNS:wrong2.example'])),
            ('wrong3.example', bed.expired))):
        listener = await listening(bed, domain, shown)
        bed.romeo.say('x@' + domain, 'secret', 'w%d' % number)
        await bed.romeo.error('w%d' % number, 'remote-server-timeout', 4)
        need(listener.stanzas.empty(), 'it got something')
        await listener.stop()


@case
async def success_that_nobody_asked_for(bed):
    """<success/> instead of a proof: whoever sits on the connection gets nothing."""
    async def unasked(listener, connection):
        listener.send_header(connection)
        connection.write(("<success xmlns='%s'/>" % NS_SASL).encode())
        connection.restart()
        await connection.next(SECONDS)
        listener.answer(connection, '')
        while (element := await connection.next(SECONDS)) is not None and element.tag != GONE:
            await listener.stanzas.put(element)
        raise OSError
    listener = await listening(bed, 'wrong4.example', identity(bed, 'other', 'other.example'), then=unasked)
    bed.romeo.say('x@wrong4.example', 'secret', 's1')
    await bed.romeo.error('s1', 'remote-server-timeout', 9)
    while not listener.stanzas.empty():
        need('message' not in listener.stanzas.get_nowait().tag, 'it got the message')
    await listener.stop()


@case
async def nobody_listens(bed):
    """Nobody at the port: stanzas wait, expire once, and the dials are few."""
    bed.romeo.say('x@down.example', 'anyone', 'd1')
    await bed.romeo.error('d1', 'remote-server-timeout', 9)
    bed.romeo.say('x@down.example', 'anyone', 'd2')
    listener = await listening(bed, 'down.example', identity(bed, 'down', 'down.example'))
    element = await asyncio.wait_for(listener.stanzas.get(), SECONDS)
    need(element.get('id') == 'd2', 'came: %s' % element.attrib)
    await listener.stop()


@case
async def who_hangs_up(bed):
    """A server that takes us in and hangs up is not dialled without a pause."""
    async def hang_up(listener, connection):
        connection.drop()
        raise OSError
    listener = await listening(bed, 'rude.example', identity(bed, 'rude', 'rude.example'), then=hang_up)
    bed.romeo.say('x@rude.example', 'anyone', 'h1')
    await bed.romeo.error('h1', 'remote-server-timeout', 9)
    need(1 <= listener.dialled <= 12, 'dialled %d times' % listener.dialled)
    await listener.stop()


@case
async def who_never_reads(bed):
    """A server that takes us in and then never reads is cut at the output limit; ours goes on."""
    listener = await listening(bed, 'lazy.example', identity(bed, 'lazy', 'lazy.example'))
    bed.romeo.say('x@lazy.example', 'first', 'l0')
    await asyncio.wait_for(listener.stanzas.get(), SECONDS)
    for task in listener.tasks:
        task.cancel()
    await asyncio.sleep(0)
    since = len(bed.a.log)
    for connection in listener.connections:
        connection.transport.pause_reading()
    for n in range(120):
        bed.romeo.say('x@lazy.example', 'Z' * 200000, 'l%d' % n)
        if n % 20 == 0:
            await bed.romeo.fence()
    await bed.a.wait_log('lost', {'domain': 'lazy.example'}, since, SECONDS)
    await bed.romeo.fence()
    await listener.stop()


# --- servers of Debian ---

async def talk(bed, ours, theirs):
    """Messages in order, questions, subscriptions and presence, and an error, both ways."""
    def presence(kind, sender):
        return lambda e: e.tag.endswith('}presence') and e.get('type') == kind and e.get('from') == sender
    for who, other in ((ours, theirs), (theirs, ours)):
        for n in range(20):
            who.say(other.jid, '%s %d' % (who.place.host, n))
        for n in range(20):
            element = await other.wait('a message', lambda e: body_of(e) is not None)
            need(body_of(element) == '%s %d' % (who.place.host, n) and element.get('from') == who.jid,
                 'came: %s from %s' % (body_of(element), element.get('from')))
        ident = 'p-' + other.place.host
        who.send_stanza(PING % (ident, other.place.host))
        await who.wait('a pong', lambda e: e.get('id') == ident and e.get('type') == 'result')
        who.send_stanza("<presence type='subscribe' to='%s'/>" % other.address)
        await other.wait('a request', presence('subscribe', who.address))
        other.send_stanza("<presence type='subscribed' to='%s'/>" % who.address)
        await who.wait('presence', presence(None, other.jid))
        who.say('nobody@' + other.place.host, 'anyone', 'n-' + other.place.host)
        await who.error('n-' + other.place.host, 'service-unavailable')


@case
async def debian_prosody(bed):
    """With certificates; and both ways on one stream."""
    await talk(bed, bed.romeo, bed.foreigners['prosody'])
    await talk(bed, bed.juliet, bed.foreigners['prosody_bidi'])


@case
async def debian_prosody_dialback(bed):
    """Its certificate proves nothing: with dialback on both sides; and not without."""
    await talk(bed, bed.mercutio, bed.foreigners['prosody_dialback'])
    bed.romeo.say(bed.foreigners['prosody_dialback'].jid, 'hello', 'pd')
    await bed.romeo.error('pd', 'remote-server-timeout')


@case
async def debian_ejabberd(bed):
    """With certificates."""
    await talk(bed, bed.romeo, bed.foreigners['ejabberd'])
