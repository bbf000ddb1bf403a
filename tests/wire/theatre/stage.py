# SPDX-License-Identifier: Apache-2.0
"""The verbs: what each step of a play does.  A verb is a method with its pattern beside it.

To add one: write the method, decorate it with @verb and its one-line help; `run --verbs` lists it.
"""
import asyncio
import copy
import hashlib
import re
import time
import xml.etree.ElementTree as ET
from email.utils import parsedate_to_datetime

from . import iris, pattern, script
from .client import CLOSED, GONE, NS_SASL, NS_SM, SECONDS, Client, StageError, describe, wrong

NS_STREAM_ERRORS = 'urn:ietf:params:xml:ns:xmpp-streams'
FENCES = 3      # a stanza crosses at most three homes before it is where it belongs
VERBS = []      # (actor's kind, compiled pattern, method, the pattern for people, help)


def verb(grammar, help_text, of='client'):
    """[x] is optional, NAME a word, NAME… the rest of the line."""
    expression = re.escape(grammar).replace(r'\[', '(?:').replace(r'\]', ')?').replace(r'\ ', ' ')
    expression = re.sub(r'([A-Z]+)…', lambda m: '(?P<%s>.+)' % m.group(1).lower(), expression)
    expression = expression.replace('(?P<xml>.+)', '(?P<xml><.+)')
    expression = re.sub(r'([A-Z]{2,})', lambda m: r'(?P<%s>\S+)' % m.group(1).lower(), expression)

    def register(method):
        VERBS.append((of, re.compile(expression), method, grammar, help_text))
        return method
    return register


def understand(step):
    """(actor's kind, method, arguments) of a step; LookupError when there is no such verb."""
    kind = {'Server': 'server', 'Operator': 'operator'}.get(step.actor, 'client')
    for of, expression, method, _, _ in VERBS:
        found = expression.fullmatch(step.does) if of == kind else None
        if found:
            return kind, method, found.groupdict()
    raise LookupError('not understood: "%s" (run --verbs lists what is)' % step)


def read_options(text):
    """'with sm, priority 5 without roster' as ({'sm': '', 'priority': '5'}, {'roster'})."""
    given, refused = {}, set()
    for word, items in re.findall(r'(with|without) (.+?)(?= with | without |$)', text or ''):
        for item in items.split(', '):
            name, _, value = item.strip().partition(' ')
            if word == 'without':
                refused.add(item.strip())
            elif item.strip() in ('direct tls', 'sm by hand', 'websocket', 'bosh'):
                given[item.strip()] = ''
            else:
                given[name] = value
    return given, refused


def tidy(element):
    """The play's indentation is not part of the stanza."""
    for part in element.iter():
        if len(part) and not (part.text or '').strip():
            part.text = None
        for child in part:
            if not (child.tail or '').strip():
                child.tail = None
    return element


class Stage:
    """One play being played on one server."""

    def __init__(self, play, server, host, log_start=0):
        self.play, self.server = play, server
        self.place = server.place(host)
        self.passwords = dict(play.accounts)
        self.clients = {}
        self.captured = {}
        self.log_start = log_start
        self.output = ('', 0)     # of the operator's last command: text, exit code
        self.ids = 0

    # --- names ---

    def names(self):
        names = {'host': self.place.host, 'folder': getattr(self.server, 'folder', None)}
        for name, port in self.place.ports.items():
            names['port.' + name] = port
        for user, password in self.passwords.items():
            names[user + '.password'] = password
        for name, client in self.clients.items():
            names.update({name: client.jid, name + '.previd': client.previd, name + '.seen': client.seen,
                          name + '.unacked': len(client.unacked)})
        names = {k: v for k, v in names.items() if v is not None}
        return {**names, **self.captured}

    def fill(self, text):
        return script.fill(text, self.names())

    def patterns(self, text, client):
        return pattern.parse(text, client.ns)

    # --- playing ---

    async def play_all(self):
        try:
            for step in self.play.steps:
                try:
                    await self.play_step(step)
                except (StageError, iris.ServerError, script.Unknown, ET.ParseError, OSError) as error:
                    raise StageError('%s:%d: %s\n%s' % (
                        self.play.path, step.line, step, _indented(str(error) or repr(error)))) from error
        finally:
            for client in self.clients.values():
                if client.connection:
                    client.connection.close()
                client.forget_silent()

    async def play_step(self, step):
        kind, method, given = understand(step)
        if kind == 'client':
            await method(self, self.client(step.actor), step.block, **given)
        else:
            await method(self, step.block, **given)

    def client(self, name):
        if name not in self.clients:
            self.clients[name] = Client(name, self.place, self.server.besides)
        return self.clients[name]

    async def fence(self):
        for _ in range(FENCES):
            await asyncio.gather(*(c.fence() for c in self.clients.values() if c.is_open() and c.jid and not c.mute))

    def cast(self, client, who, given):
        """Which account an actor plays: 'romeo/orchard', or by the actor's own name."""
        user, _, resource = (who or client.user or re.sub(r'\d+$', '', client.name).lower()).partition('/')
        user, _, client.host = user.partition('@')
        client.host = client.host or self.place.host
        client.user, client.jid = user, None
        client.password = self.fill(given.get('password', '')) or self.passwords.get(user, user + '-secret')
        return resource or None

    # --- connecting ---

    async def sign_in(self, client, given, refused):
        certificate = given.get('certificate')
        certificate = self.fill(certificate) if certificate else None
        attributes = "xml:lang='%s'" % given['lang'] if 'lang' in given else ''
        direct = 'direct tls' in given
        if 'websocket' in given:
            await client.open_websocket()
        elif 'bosh' in given:
            await client.open_bosh()
        else:
            await client.open(direct, certificate=certificate)
        await client.open_stream(attributes)
        direct |= 'websocket' in given or 'bosh' in given
        if not direct and 'tls' not in refused:
            await client.negotiate_tls(certificate)
            await client.open_stream(attributes)
        if 'sign-in' in refused:
            return False
        await client.authenticate(mechanism=given.get('mechanism'), binding=given.get('binding'),
                                  authzid=self.fill(given.get('authzid', '')))
        await client.open_stream(attributes)
        return 'binding' not in refused

    @verb('connects[ as WHO][ OPTIONS…]', 'signs in, binds, asks for the roster, becomes available; options below')
    async def connects(self, client, block, who=None, options=None):
        given, refused = read_options(options)
        resource = self.cast(client, who, given)
        if not await self.sign_in(client, given, refused):
            return
        await client.bind(resource)
        if 'sm' in given or 'sm by hand' in given:
            await client.enable_sm('sm by hand' in given)
        if 'presence' not in refused or 'roster' not in refused:
            priority = given.get('priority')
            await client.become_available('roster' not in refused, 'presence' not in refused,
                                          int(priority) if priority else None)

    @verb('resumes[ OPTIONS…]', 'a new connection, then XEP-0198 <resume/>, then again what was not acknowledged')
    async def resumes(self, client, block, options=None):
        given, refused = read_options(options)
        jid = client.jid
        self.cast(client, None, given)
        await self.sign_in(client, given, refused | {'binding'})
        await client.resume()
        client.jid = jid

    @verb('opens a connection[ to port PORT]', 'TCP only; port NAME is one that the configuration calls {port:NAME}')
    async def opens_connection(self, client, block, port=None):
        client.user = client.user or re.sub(r'\d+$', '', client.name).lower()
        client.password = self.passwords.get(client.user, '')
        await client.open(port=self.place.ports[port] if port else None)

    @verb('opens a raw connection to port PORT', 'TCP, on which no XML is spoken: "sends bytes", "receives bytes"')
    async def opens_raw(self, client, block, port):
        await client.open(port=self.place.ports[port])
        client.connection.unparsed = bytearray()

    @verb('receives bytes[ BYTES…]', 'of a raw connection; as with "sends bytes"')
    async def receives_bytes(self, client, block, bytes=None):
        wanted = script.unescape(self.fill(bytes or ''.join(block.splitlines())))
        came = await client.connection.take(len(wanted), SECONDS)
        if came != wanted:
            raise StageError('expected: %r\ncame:     %r' % (wanted[:300], came[:300]))

    @verb('opens a tls connection[ to port PORT]', 'direct TLS with ALPN, no stream yet')
    async def opens_tls(self, client, block, port=None):
        client.user = client.user or re.sub(r'\d+$', '', client.name).lower()
        client.password = self.passwords.get(client.user, '')
        await client.open(direct=True, port=self.place.ports[port] if port else None)

    @verb('opens COUNT silent connections', 'of which nothing more is heard')
    async def opens_silent(self, client, block, count):
        for _ in range(int(count)):
            client.silent.append(await asyncio.open_connection(self.place.address, self.place.ports['c2s']))

    @verb('closes its silent connections', 'from this side')
    async def closes_silent(self, client, block):
        client.forget_silent()

    @verb('loses COUNT silent connections', 'the server closes so many of them, and no more')
    async def loses_silent(self, client, block, count):
        ends = {asyncio.ensure_future(reader.read()) for reader, _ in client.silent}
        deadline = asyncio.get_running_loop().time() + SECONDS
        lost = set()
        while len(lost) < int(count) and (left := deadline - asyncio.get_running_loop().time()) > 0:
            lost |= (await asyncio.wait(ends - lost, timeout=left, return_when=asyncio.FIRST_COMPLETED))[0]
        await self.fence()
        lost = {end for end in ends if end.done()}
        for end in ends - lost:
            end.cancel()
        for end in lost:
            end.exception()     # a reset is an end as well
        if len(lost) != int(count):
            raise StageError('%d of %d silent connections are closed' % (len(lost), len(ends)))

    @verb('is shown certificate NAME', 'the server\'s: a NAME that was seen before is the same, a new one another')
    async def is_shown_certificate(self, client, block, name):
        shown = hashlib.sha256(client.connection.tls().getpeercert(True)).hexdigest()
        known = self.captured.setdefault('certificate.' + name, shown)
        others = [key for key, value in self.captured.items() if key.startswith('certificate.') and value == shown]
        if known != shown or others != ['certificate.' + name]:
            raise StageError('the certificate is ' + (' and '.join(others) or 'one that was not seen before'))

    @verb('opens a stream[ to HOST][ in NS][ with ATTRIBUTES…]', 'sends a stream header, expects nothing yet')
    async def opens_stream(self, client, block, host=None, ns=None, attributes=None):
        client.ns = ns or pattern.CLIENT
        client.send_header(self.fill(host) if host else None, self.fill(attributes or ''), client.ns)

    @verb('starts tls', 'the TLS handshake, after <proceed/>')
    async def starts_tls(self, client, block):
        await client.start_tls()

    @verb('restarts the parser', 'what comes next is a new document: a new stream of the server')
    async def restarts_parser(self, client, block):
        client.connection.restart()

    @verb('reads the stream', 'a stream header and the features')
    async def reads_stream(self, client, block):
        await client.expect('{%s}stream' % pattern.STREAMS, 'a stream header')
        await client.expect('{%s}features' % pattern.STREAMS, 'stream features')

    @verb('authenticates[ as WHO][ OPTIONS…]', 'SASL, then a new stream with its features')
    async def authenticates(self, client, block, who=None, options=None):
        given, _ = read_options(options)
        self.cast(client, who, given)
        await client.authenticate(mechanism=given.get('mechanism'), binding=given.get('binding'),
                                  authzid=self.fill(given.get('authzid', '')))
        await client.open_stream()

    @verb('is refused CONDITION[ as WHO][ OPTIONS…]', 'SASL ends with this failure')
    async def is_refused(self, client, block, condition, who=None, options=None):
        given, _ = read_options(options)
        self.cast(client, who, given)
        failure = await client.try_authenticate(given.get('mechanism'), binding=given.get('binding'),
                                                authzid=self.fill(given.get('authzid', '')))
        if failure is None or failure.find('{%s}%s' % (NS_SASL, condition)) is None:
            raise wrong('<failure/> with ' + condition,
                        failure if failure is not None else ET.Element('{%s}success' % NS_SASL))

    @verb('binds[ as RESOURCE]', 'resource binding')
    async def binds(self, client, block, resource=None):
        await client.bind(resource)

    @verb('becomes available[ with priority PRIORITY]', 'initial presence; its own copy is taken away')
    async def becomes_available(self, client, block, priority=None):
        await client.become_available(roster=False, priority=int(priority) if priority else None)

    @verb('is known as ADDRESS', 'the address that the play negotiated itself; fences reach it from now on')
    async def is_known_as(self, client, block, address):
        client.jid = self.fill(address)

    # --- leaving ---

    @verb('disconnects', 'closes the stream and waits for the answer')
    async def disconnects(self, client, block):
        await client.disconnect()

    @verb('drops', 'resets the connection without a word')
    async def drops(self, client, block):
        client.connection.drop()
        client.connection = None

    # --- sending ---

    @verb('sends[ XML…]', 'the elements of the block (or of the line); an iq without id gets one')
    async def sends(self, client, block, xml=None):
        for element in self.patterns(self.fill(xml or block), client):
            if element.tag.endswith('}iq') and 'id' not in element.attrib:
                self.ids += 1
                element.set('id', 'play-%d' % self.ids)
            text = pattern.show(tidy(element), client.ns, whole=True)
            (client.send_stanza if element.tag in pattern.STANZAS else client.write)(text)

    @verb('sends COUNT times[ XML…]', 'the same so many times; {n} is the number, from 1')
    async def sends_often(self, client, block, count, xml=None):
        for self.captured['n'] in range(1, int(count) + 1):
            await self.sends(client, block, xml)
        del self.captured['n']

    @verb('sends bytes one by one', 'each in a write of its own')
    async def sends_slowly(self, client, block):
        for byte in script.unescape(self.fill(''.join(block.splitlines()))):
            client.write(bytes((byte,)))
            await asyncio.sleep(0)

    @verb('sends bytes[ BYTES…]', r'as they stand, with \n \0 \xNN; lines are joined')
    async def sends_bytes(self, client, block, bytes=None):
        client.write(script.unescape(self.fill(bytes or ''.join(block.splitlines()))))

    # --- receiving ---

    def check(self, wanted, element):
        why, captured = pattern.match(wanted, element, self.names())
        if why:
            raise StageError('expected: %s\ncame:     %s\nbut:      %s' % (
                pattern.show(tidy(copy.deepcopy(wanted))), describe(element), why))
        self.captured.update(captured)

    @verb('receives nothing', 'nothing is waiting, and nothing comes before everybody was answered by the server')
    async def receives_nothing(self, client, block):
        await self.fence()
        if client.connection.inbox:
            raise wrong('nothing', client.connection.inbox[0])

    @verb('asks until[ XML…]', 'sends the request of the block, until it is answered like the pattern behind it')
    async def asks_until(self, client, block, xml=None):
        request, wanted = self.patterns(self.fill(xml or block), client)
        shown = pattern.show(tidy(copy.deepcopy(wanted)))
        late = asyncio.get_running_loop().time() + SECONDS
        while True:
            self.ids += 1
            request.set('id', 'play-%d' % self.ids)
            client.send_stanza(pattern.show(tidy(copy.deepcopy(request)), client.ns, whole=True))
            element = await client.next(shown)
            why, captured = pattern.match(wanted, element, self.names())
            if not why:
                self.captured.update(captured)
                return
            if asyncio.get_running_loop().time() > late:
                raise wrong(shown, element)

    @verb('receives in any order[ XML…]', 'as many elements as the block has patterns, each of them once')
    async def receives_any(self, client, block, xml=None):
        left = self.patterns(xml or block, client)
        while left:
            shown = ' or '.join(pattern.show(tidy(copy.deepcopy(p))) for p in left)
            element = await client.next(shown)
            for wanted in left:
                why, captured = pattern.match(wanted, element, self.names())
                if not why:
                    left.remove(wanted)
                    self.captured.update(captured)
                    break
            else:
                raise wrong(shown, element)

    @verb('receives among others[ XML…]', 'the patterns in this order; what comes between them is passed over')
    async def receives_among(self, client, block, xml=None):
        for wanted in self.patterns(xml or block, client):
            passed = []
            while True:
                shown = pattern.show(tidy(copy.deepcopy(wanted)))
                element = await client.connection.next(SECONDS)
                if element is None or element.tag == GONE:
                    raise wrong('%s\npassed over: %s' % (shown, ' '.join(passed) or 'nothing'), element)
                why, captured = pattern.match(wanted, element, self.names())
                if not why:
                    self.captured.update(captured)
                    break
                passed.append(describe(element))

    @verb('receives[ XML…]', 'the patterns of the block (or of the line), in this order, nothing between')
    async def receives(self, client, block, xml=None):
        for wanted in self.patterns(xml or block, client):
            self.check(wanted, await client.next(pattern.show(tidy(copy.deepcopy(wanted)))))

    @verb('ignores[ XML…]', 'what matches is not seen any more')
    async def ignores(self, client, block, xml=None):
        for wanted in self.patterns(self.fill(xml or block), client):
            client.ignored.append(tidy(wanted))
            for element in list(client.connection.inbox):
                if pattern.match(wanted, element, {})[0] is None:
                    client.connection.inbox.remove(element)

    @verb('forgets what came', 'after everybody was answered by the server, the inbox is emptied')
    async def forgets(self, client, block):
        await self.fence()
        client.connection.inbox.clear()

    @verb('counts bytes', 'of what comes from now on')
    async def counts_bytes(self, client, block):
        client.connection.bytes = 0

    @verb('has read at most PERCENT% of what OTHER has', 'in bytes, since both count')
    async def has_read(self, client, block, percent, other):
        mine, theirs = client.connection.bytes, self.client(other).connection.bytes
        if theirs == 0 or mine * 100 > theirs * int(percent):
            raise StageError('%d bytes, beside %d' % (mine, theirs))

    @verb('waits', 'until everybody was answered by the server: what was sent has arrived')
    async def waits(self, client, block):
        await self.fence()

    @verb('expects stream error CONDITION', 'the error, the closing tag, the end of the connection')
    async def expects_error(self, client, block, condition):
        expected = 'the stream error ' + condition
        element = await client.next(expected)
        if element.tag == '{%s}stream' % pattern.STREAMS:
            element = await client.next(expected)
        if element.tag != '{%s}error' % pattern.STREAMS or \
                element.find('{%s}%s' % (NS_STREAM_ERRORS, condition)) is None:
            raise wrong(expected, element)
        await self.expects_close(client, block)

    @verb('expects close', 'the closing tag, the end of the connection')
    async def expects_close(self, client, block):
        await client.expect(CLOSED, 'the closing tag of the stream')
        client.write(client.connection.closing)
        await client.expect(GONE, 'the end of the connection')
        client.jid = None

    @verb('expects the end', 'the end of the connection, without a closing tag or with one')
    async def expects_end(self, client, block):
        element = await client.next('the end of the connection')
        if element.tag == CLOSED:
            element = await client.next('the end of the connection')
        if element.tag != GONE:
            raise wrong('the end of the connection', element)
        client.jid = None

    @verb('is mute', 'not asked by fences any more (they would count for XEP-0198, wake XEP-0352, …)')
    async def is_mute(self, client, block):
        client.mute = True

    @verb('acknowledges[ up to COUNT]', 'sends <a/> for all stanzas received, or for COUNT')
    async def acknowledges(self, client, block, count=None):
        client.write("<a xmlns='%s' h='%s'/>" % (NS_SM, self.fill(count) if count else client.seen))

    # --- the server and its operator ---

    @verb('restarts', 'an orderly stop and a new start', of='server')
    async def restarts(self, block):
        await self.stops(block)
        await self.server.start()

    @verb('stops', 'SIGTERM, and it must end with exit code 0', of='server')
    async def stops(self, block):
        problem = await self.server.stop()
        if problem:
            raise StageError(problem)

    @verb('starts', 'after it was stopped or killed', of='server')
    async def starts(self, block):
        await self.server.start()

    @verb('does not start, for TEXT…', 'a block is configuration for this once; it ends in order and logs TEXT', of='server')
    async def does_not_start(self, block, text):
        from . import language
        code, said = await self.server.fail_to_start(language.read_config(block or ''))
        if code != 1 or said is None or self.fill(text) not in said:
            raise StageError('irisd ended with %s and said: %s\n%s' % (code, said, self.server.tail()))

    @verb('is killed', 'SIGKILL', of='server')
    async def is_killed(self, block):
        await self.server.kill()

    @verb('reloads', 'SIGHUP; a block is new configuration', of='server')
    async def reloads(self, block):
        if block:
            from . import language
            self.server.extra = language.merge_config(self.server.extra, language.read_config(block))
            self.server.write_config()
        self.server.reload()

    @verb('gets a new certificate', 'in the files of the old one; it is for the next reload or start', of='server')
    async def gets_certificate(self, block):
        self.server.renew_certificate()

    @verb('cannot write', 'from now on nothing is committed (for five seconds at most, then writes fail)', of='server')
    async def cannot_write(self, block):
        self.server.hold_database()

    @verb('can write', 'again', of='server')
    async def can_write(self, block):
        self.server.release_database()

    @verb('clock goes NUMBER UNIT on', 'what it takes for the time; timers run on as they do. UNIT: minutes, hours, days',
          of='server')
    async def clock_goes(self, block, number, unit):
        self.server.clock.step(int(number) * {'minutes': 60, 'hours': 3600, 'days': 86400}[unit])
        deadline = asyncio.get_running_loop().time() + 2 * SECONDS
        while True:     # until it has seen that
            told = re.search(r'^Date: (.*?)\r?$', await self.page('/healthz'), re.M)
            off = parsedate_to_datetime(told.group(1)).timestamp() - time.time() if told else 0
            if abs(off - self.server.clock.offset) < 5:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StageError('the clock is %d s off, and should be %d' % (off, self.server.clock.offset))
            await asyncio.sleep(0.1)

    @verb('logs EVENT[ FIELDS…]', 'waits for an event in the log since the play began, with field=value …', of='server')
    async def logs(self, block, event, fields=None):
        wanted = dict(item.split('=', 1) for item in self.fill(fields or '').split())
        await self.server.wait_log(event, wanted, self.log_start, SECONDS)

    @verb('runs irisctl ARGUMENTS…', 'the block is standard input; it must end with exit code 0', of='operator')
    async def runs(self, block, arguments):
        await self.fails(block, '0', arguments)

    @verb('gets CODE from irisctl ARGUMENTS…', 'it must end with this exit code', of='operator')
    async def fails(self, block, code, arguments):
        stdin = self.fill(block) + '\n' if block else ''
        ended, out, err = await self.server.run('irisctl', *self.fill(arguments).split(), stdin=stdin)
        self.output = (out + err, ended)
        if str(ended) != code:
            raise StageError('irisctl ended with %d:\n%s' % (ended, out + err))

    @verb('opens PATH', 'HTTP GET on the admin port; a path like /metrics', of='operator')
    async def gets(self, block, path):
        self.output = (await self.page(path), 0)

    @verb('waits for CODE at PATH', 'HTTP GET on the admin port, again and again, until it is answered so', of='operator')
    async def waits_for(self, block, code, path):
        deadline = asyncio.get_running_loop().time() + SECONDS
        while not (text := await self.page(path)).startswith('HTTP/1.1 %s ' % code):
            if asyncio.get_running_loop().time() > deadline:
                raise StageError('still:\n' + text)
            await asyncio.sleep(0.05)
        self.output = (text, 0)

    async def page(self, path):
        reader, writer = await asyncio.open_connection(self.place.address, self.place.ports['admin'])
        writer.write(('GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' % path).encode())
        async with asyncio.timeout(SECONDS):
            text = (await reader.read()).decode(errors='replace')
        writer.close()
        return text

    @verb('reads', 'each line of the block is somewhere in the output, in this order; * is anything', of='operator')
    async def reads(self, block):
        lines = [' '.join(line.split()) for line in self.output[0].splitlines()]
        at = 0
        for wanted in block.splitlines():
            if not wanted.strip():
                continue
            glob = script.glob(' '.join(wanted.split()), self.names())
            while at < len(lines) and not glob.fullmatch(lines[at]):
                at += 1
            if at == len(lines):
                raise StageError('no line like: %s\nin:\n%s' % (wanted, self.output[0]))
            self.captured.update(glob.fullmatch(lines[at]).groupdict())
            at += 1


def _indented(text):
    return '\n'.join('    ' + line for line in text.splitlines())
