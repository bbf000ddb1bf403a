# SPDX-License-Identifier: Apache-2.0
"""Carries out the steps of a script on a real server, and tells the model.  A step is a line; one whose condition
does not hold (after others were dropped from the script) does nothing."""
import asyncio
import copy
import re
import time

from theatre.client import SECONDS, StageError

from client import Modelled
from model import ANY_FORM, LATER, REMEMBERED, SENT, Item, Model

ROUNDS = 3              # of questions to the server: a stanza crosses at most three homes
LATE_SECONDS = 5.0      # what is due has come by then, or it never comes
SHORT, LONG = ' 100 ms', ' 10 minutes'
QUEUE = 400             # xep0198: queue-stanzas; no session of a script has more by chance
STEPS = []              # (compiled pattern, method)


def step(grammar):
    """Words in capitals are arguments; `[…]` is optional."""
    text = re.sub(r'\[([^\]]*)\]', r'(?:\1)?', grammar)
    text = re.sub(r'\b([A-Z]{2,})(…?)', lambda m: '(?P<%s>%s)' % (m.group(1).lower(), '.+?' if m.group(2) else r'\S+'),
                  text)

    def register(function):
        STEPS.append((re.compile(text + '$'), function))
        return function
    return register


class World:
    def __init__(self, server, host):
        self.server, self.host = server, host
        self.model = Model()
        self.clients = {}       # name of a device -> Modelled
        self.accounts = []
        self.resume_timeout = LONG
        self.log_read = 0
        self.difference = (0, 0)

    def address(self, account, resource=None):
        return '%s@%s%s' % (account, self.host, '/' + resource if resource else '')

    # --- scripts ---

    async def run(self, lines):
        """The first step after which something is wrong, and what; None: all is well."""
        try:
            await self.set_up(lines)
            for number, line in enumerate(lines):
                self.model.step = '%d %s' % (number, line)
                if not line.startswith('device '):
                    await self.perform(line)
                problems = self.take_problems()
                if problems:
                    return number, problems
            await self.end()
            self.model.judge_end()
            problems = self.take_problems()
            return (len(lines), problems) if problems else None
        except (StageError, OSError, AssertionError) as error:
            return number, self.take_problems() + [str(error) or repr(error)] + [
                '%s: %s' % (c.name, c.refusal) for c in self.clients.values() if c.refusal]
        finally:
            for client in self.clients.values():
                client.drop()

    def take_problems(self):
        problems, self.model.problems = self.model.problems, []
        named = next((i for p in problems for i in self.model.story if i in p.split()), None)
        if named:
            problems += ['the story of %s:' % named] + ['    ' + line for line in self.model.story[named]]
        problems += self.server.errors(self.log_read)
        self.log_read = len(self.server.log)
        return problems

    async def set_up(self, lines):
        self.log_read = 0
        place = self.server.place(self.host)
        for line in lines:
            if line.startswith('device '):
                _, name, *words = line.split()
                self.model.add_device(name, 'mam' in words, 'bind2' in words)
                self.clients[name] = Modelled(name, place, name[0])
        self.accounts = sorted(self.model.sessions)
        await self.server.add_accounts([(self.address(a), a + '-secret') for a in self.accounts])

    async def perform(self, line):
        for pattern, function in reversed(STEPS):     # the longer forms come later
            found = pattern.match(line)
            if found:
                await function(self, **found.groupdict())
                return
        raise SystemExit('not a step: ' + line)

    # --- waiting for what is known to come ---

    def open_sessions(self):
        return [(s, self.clients[s.device.name]) for a in self.accounts for s in self.model.sessions[a]
                if s.link == 'open' and s.device.session is s]

    def is_late(self, open_):
        return any(set(self.model.missing(s)) - {e.ident for e in c.events} for s, c in open_)

    async def settle(self):
        """All that was sent has been handled, everything due has come and is acknowledged."""
        open_ = self.open_sessions()
        deadline, rounds = time.monotonic() + LATE_SECONDS, 0
        while rounds < ROUNDS or (self.is_late(open_) and time.monotonic() < deadline):
            await self.ask_all(open_)
            rounds += 1
            if rounds > ROUNDS:
                await asyncio.sleep(0.005)
        await asyncio.gather(*(c.drained() for _, c in open_))
        await self.ask_all(open_)
        for session, client in open_:
            self.model.settle(session, client.take_events())
            if session.sm:
                self.model.heard_all(session)

    @staticmethod
    async def ask_all(open_):
        for _, client in open_:
            client.acknowledge()
        await asyncio.gather(*(c.fence() for _, c in open_))

    async def gauges(self):
        reader, writer = await asyncio.open_connection('127.0.0.1', self.server.ports['admin'])
        writer.write(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
        text = (await reader.read()).decode()
        writer.close()
        return [int(re.search(r'^%s (\d+)' % name, text, re.M).group(1))
                for name in ('iris_sessions', 'iris_sessions_detached')]

    async def await_sessions(self):
        """Until the server has noticed who is there and who is gone."""
        sessions = [s for a in self.accounts for s in self.model.sessions[a]]
        expected = [len(sessions) + self.difference[0],
                    sum(s.link == 'gone' for s in sessions) + self.difference[1]]
        deadline = time.monotonic() + SECONDS
        while (found := await self.gauges()) != expected:
            if time.monotonic() > deadline:
                raise StageError('sessions and those that are detached: expected %r, found %r' % (expected, found))
            await asyncio.sleep(0.002)

    async def set_resume_timeout(self, text):
        if self.resume_timeout == text:
            return
        self.resume_timeout = self.server.extra['xep0198']['resume-timeout'] = text
        self.server.write_config()
        since = len(self.server.log)
        self.server.reload()
        await self.server.wait_log('reloaded', since=since)

    # --- who is there ---

    def device(self, name, link=None):
        """None when there is no such device, or its session is not as the step needs it."""
        device = self.model.devices.get(name)
        if device and link and (device.session is None or device.session.link not in link):
            return None
        return device

    def writers(self, text, account):
        devices = [self.device(name, ('open',)) for name in text.split()]
        return [d for d in devices if d and d.account != account]

    # --- messages ---

    def send(self, device, kind, to, resource=None):
        message = self.model.new_message(device, kind, to, resource)
        client = self.clients[device.name]
        client.send_stanza(client.message_text(message, self.address(to, resource)))
        if device.session.sm and message.history:
            device.resend.append(message)
        return message

    def burst(self, count, writers, account, resource):
        """By turns; to the account and to its device."""
        return [self.send(writers[n % len(writers)], 'chat', account, resource if n % 3 == 1 else None)
                for n in range(int(count)) if writers]

    @step(r'DEVICE sends KIND to TO[ COUNT times]')
    async def sends(self, device, kind, to, count):
        device = self.device(device, ('open',))
        account, _, name = to.partition('/')
        if not device or account not in self.accounts:
            return
        target = self.model.devices.get(name)
        resource = (target.resource if target else None) or name or None
        for _ in range(int(count or 1)):
            self.model.process(self.send(device, kind, account, resource))

    @step(r'all settle')
    async def settles(self):
        await self.settle()

    # --- signing in ---

    async def sign_in(self, device, words):
        """The session as bound; presence is not yet sent."""
        client, sm = self.clients[device.name], next((w[3:] or 'long' for w in words if w.startswith('sm')), None)
        sm = sm and sm.lstrip('-')
        if sm == 'short':
            await self.set_resume_timeout(SHORT)
        options = (sm, 'carbons' in words, 'inactive' in words)
        client.hang()       # whatever it still had
        if device.bind2:
            await client.begin_bind2(*options)
        else:
            await client.begin('sasl2' if 'sasl2' in words else 'classic', *options)
        await self.set_resume_timeout(LONG)
        return client.jid.partition('/')[2], sm

    def model_sign_in(self, device, resource, sm, words):
        device.left, device.resend, device.pending = device.left + device.resend, [], []
        if device.session:
            self.model.close(device.session)
        session = self.model.bind(device, resource, sm, 'carbons' in words)
        session.inactive = 'inactive' in words
        return session

    async def catch_up(self, session):
        client = self.clients[session.device.name]
        entries = await client.read_archive(client.archive_id)
        self.model.read(session, entries)
        if entries:
            client.archive_id = entries[-1][0]

    async def resend(self, device):
        """A client that lost its session sends again what was not acknowledged, under the same origin-id."""
        client = self.clients[device.name]
        left, device.left = [m for m in device.left if self.model.is_recalled(m, REMEMBERED)], []
        for message in left:
            client.send_stanza(client.message_text(message, self.address(message.to, message.resource)))
            self.model.process(message)
        if device.session.sm:
            device.resend += left

    @step(r'DEVICE signs in OPTIONS…')
    async def signs_in(self, device, options):
        device, words = self.device(device), options.split()
        if not device or (device.session and device.session.link == 'open'):
            return
        await self.settle()
        session = self.model_sign_in(device, *await self.sign_in(device, words), words)
        if device.is_mam:
            await self.settle()
            await self.catch_up(session)
        await self.settle()
        await self.await_sessions()
        if 'away' not in words:
            await self.present(session, self.priority(words))
        await self.resend(device)
        await self.settle()

    @staticmethod
    def priority(words):
        return int(words[words.index('priority') + 1]) if 'priority' in words else 0

    async def present(self, session, priority):
        self.clients[session.device.name].set_presence(priority)
        self.model.set_presence(session, priority is not None, priority or 0)
        await self.settle()


    @step(r'DEVICE signs in OPTIONS… under COUNT from WRITERS…')
    async def signs_in_under(self, device, options, count, writers):
        device, words = self.device(device), options.split()
        writers = device and self.writers(writers, device.account)
        if not writers or (device.session and device.session.link == 'open'):
            return
        await self.settle()
        client, account = self.clients[device.name], device.account
        old, name = device.session, device.resource or device.name
        before = list(self.model.sessions[account])
        during = asyncio.create_task(self.sign_in(device, words))
        flood = []
        while not during.done():
            if len(flood) < int(count):
                flood += self.burst(2, writers, account, name)
            await asyncio.sleep(0.001)
        session = self.model_sign_in(device, *await during, words)
        flood += self.burst(3, writers, account, name)
        entries = await client.read_archive(client.archive_id) if device.is_mam else []
        session.read |= {ident for _, ident in entries}
        flood += self.burst(3, writers, account, name)
        client.set_presence(0)
        flood += self.burst(3, writers, account, name)
        bound = list(self.model.sessions[account])
        shown = copy.copy(session)
        shown.available, shown.priority = True, 0
        without = [s for s in before if s is not old]
        for message in flood:
            self.in_flight_to_new(message, [before, without, bound, without + [shown]], session, (shown, old))
        self.model.set_presence(session, True, 0)
        await self.settle()
        await self.await_sessions()
        if device.is_mam:
            again = await client.read_archive(entries[-1][0] if entries else client.archive_id)
            self.model.read(session, entries + again)
            client.archive_id = (entries + again or [(client.archive_id, None)])[-1][0]
        await self.resend(device)
        await self.settle()

    def in_flight_to_new(self, message, states, session, others):
        """To a device that is just signing in: by one way or another it gets what nobody else takes."""
        shown, old = others
        routes = self.model.process_during(message, states, {session, shown, old})
        sure = True
        for got, waits, _ in routes:
            left = old in got and old.sm and not set(got) - {old}
            sure = sure and bool(session in got or shown in got or waits or left)
            message.excused |= old in got and not old.sm
        forms = ANY_FORM - LATER if message.ident in session.read else ANY_FORM
        if routes:
            self.model.give(session, Item(message, forms, sure and not session.device.is_mam, ordered=False))

    # --- the end of a connection, of a session ---

    @step(r'DEVICE drops')
    async def drops(self, device):
        device = self.device(device, ('open', 'deaf'))
        if device:
            await self.settle()
            await self.lose(device, [])

    async def lose(self, device, flood):
        """Its connection is reset, `flood` being on its way to it."""
        session, client = device.session, self.clients[device.name]
        client.drop()
        self.end_in_flight(session, flood, client.take_events())
        self.model.lose(session)
        await self.await_sessions()
        await self.settle()

    def end_in_flight(self, session, flood, events, orderly=False):
        """What was on its way to a session as it ended, or lost its connection."""
        model, others = self.model, [s for s in self.model.sessions[session.account] if s is not session]
        if session.sm == 'long' and not orderly:
            for message in flood:
                model.process(message)
            model.glimpse(session, events)
            return
        left = []
        for message in flood:
            routes = model.process_during(message, [model.sessions[session.account], others], {session})
            if not routes:
                continue
            (before, waited, _), (_, waits, _) = routes
            if session in before:
                item = Item(message, before[session], must=False)
                session.due.append(item)
                left.append((item, waits))
            elif waited:
                model.wait(message, True)
        model.glimpse(session, events)
        session.available = False       # takes nothing of what is left
        for item, waits in left:
            self.leave_behind(session, item, waits, orderly)

    def leave_behind(self, session, item, waits, orderly):
        """Did it reach the session, or come too late for it?"""
        message = item.message
        if session.sm:
            item.must = True
            session.unacked.append(item)
        elif not item.seen and waits:
            self.model.wait(message, orderly)       # orderly: all that was written was read
        if not session.sm and not item.seen and not orderly:
            message.excused = True

    @step(r'DEVICE drops under COUNT from WRITERS…')
    async def drops_under(self, device, count, writers):
        device = self.device(device, ('open',))
        writers = device and self.writers(writers, device.account)
        if not writers:
            return
        await self.settle()
        half = int(count) // 2
        flood = self.burst(half, writers, device.account, device.resource)
        await asyncio.sleep(0)
        self.clients[device.name].connection.drop()
        flood += self.burst(int(count) - half, writers, device.account, device.resource)
        await self.ask_writers(writers)
        await self.lose(device, flood)

    async def ask_writers(self, writers):
        for _ in range(ROUNDS):
            await asyncio.gather(*(self.clients[w.name].fence() for w in writers))

    @step(r'DEVICE hangs')
    async def hangs(self, device):
        device = self.device(device, ('open',))
        if device:
            await self.settle()
            self.clients[device.name].hang()
            device.session.link = 'deaf'

    @step(r'DEVICE hangs under COUNT from WRITERS…')
    async def hangs_under(self, device, count, writers):
        device = self.device(device, ('open',))
        writers = device and self.writers(writers, device.account)
        if not writers:
            return
        await self.settle()
        session, client, half = device.session, self.clients[device.name], int(count) // 2
        flood = self.burst(half, writers, device.account, device.resource)
        await self.clients[writers[0].name].fence()
        client.hang()
        flood += self.burst(int(count) - half, writers, device.account, device.resource)
        await self.ask_writers(writers)
        for message in flood:
            self.model.process(message)
        if not session.sm:
            for item in session.due:
                item.message.excused, item.must = True, False
        self.model.glimpse(session, client.take_events())
        session.link = 'deaf'
        await self.settle()

    @step(r'DEVICE logs out')
    async def logs_out(self, device):
        device = self.device(device, ('open',))
        if device:
            await self.settle()
            await self.log_out(device, [])

    @step(r'DEVICE logs out under COUNT from WRITERS…')
    async def logs_out_under(self, device, count, writers):
        device = self.device(device, ('open',))
        writers = device and self.writers(writers, device.account)
        if not writers:
            return
        await self.settle()
        flood = self.burst(int(count), writers, device.account, device.resource)
        await self.log_out(device, flood, writers)

    async def log_out(self, device, flood, writers=()):
        session, client = device.session, self.clients[device.name]
        await client.leave()
        await self.ask_writers(writers)
        self.end_in_flight(session, flood, client.take_events(), orderly=True)
        self.model.close(session)
        await self.await_sessions()
        await self.settle()

    # --- XEP-0198: resuming ---

    @step(r'DEVICE resumes[ INLINE]')
    async def resumes(self, device, inline):
        device = self.device(device, ('deaf', 'gone'))
        if device and device.session.sm == 'long':
            await self.settle()
            await self.resume(device, inline == 'inline')

    async def resume(self, device, inline):
        client = self.clients[device.name]
        client.hang()
        if not await client.try_resume(inline):
            self.model.say(device.name + ' could not resume')
            return
        self.model.resume(device.session)
        for message in device.pending:
            self.model.process(message)
        device.pending = []
        await self.await_sessions()
        await self.settle()

    @step(r'DEVICE resumes[ INLINE] under COUNT from WRITERS…')
    async def resumes_under(self, device, inline, count, writers):
        device = self.device(device, ('deaf', 'gone'))
        writers = device and self.writers(writers, device.account)
        if not writers or device.session.sm != 'long':
            return
        await self.settle()
        account = device.account
        during = asyncio.create_task(self.clients[device.name].try_resume(inline == 'inline'))
        flood = []
        while not during.done():
            if len(flood) < int(count):
                flood += self.burst(2, writers, account, device.resource)
            await asyncio.sleep(0.001)
        if not await during:
            self.model.say(device.name + ' could not resume')
            return
        for message in flood:
            self.model.process(message)
        self.model.resume(device.session)
        for message in device.pending:
            self.model.process(message)
        device.pending = []
        await self.settle()
        await self.await_sessions()

    @step(r'DEVICE resumes wrongly WORD')
    async def resumes_wrongly(self, device, word):
        """With an h that is too high, or an id of nobody: refused, and nothing is lost by it."""
        device = self.device(device, ('deaf', 'gone'))
        if not device or device.session.sm != 'long':
            return
        await self.settle()
        client, session = self.clients[device.name], device.session
        before = client.previd, client.seen, client.unacked, client.acked
        client.hang()
        wrong = {'previd': 'nobody'} if word == 'id' else {'h': client.seen + 1000000}
        if await client.try_resume(False, **wrong):
            self.model.say(device.name + ' resumed with a wrong ' + word)
        client.connection.drop()
        client.connection = None
        client.previd, client.seen, client.unacked, client.acked = before
        if word != 'id':
            session.link = 'gone'
        await self.await_sessions()
        await self.settle()

    @step(r'DEVICE overflows from WRITER')
    async def overflows(self, device, writer):
        """More than it may leave unacknowledged: its session ends."""
        device, writer = self.device(device, ('deaf', 'gone')), self.device(writer, ('open',))
        if not device or not writer or not device.session.sm or writer.account == device.account:
            return
        await self.settle()
        session, flood = device.session, []
        while len(flood) < QUEUE + 10:
            flood += [self.send(writer, 'chat', device.account, device.resource) for _ in range(QUEUE // 8)]
            await self.ask_all(self.open_sessions())    # the others acknowledge meanwhile
        await self.ask_writers([writer])
        self.end_in_flight(session, flood, [], orderly=True)
        self.model.close(session)
        self.clients[device.name].drop()
        await self.await_sessions()
        await self.settle()

    # --- what a client says ---

    @step(r'DEVICE is available PRIORITY')
    async def is_available(self, device, priority):
        device = self.device(device, ('open',))
        if device:
            await self.settle()
            await self.present(device.session, int(priority))

    @step(r'DEVICE goes away')
    async def goes_away(self, device):
        device = self.device(device, ('open',))
        if device:
            await self.settle()
            await self.present(device.session, None)

    @step(r'DEVICE is (?P<word>active|inactive)')
    async def is_active(self, device, word):
        device = self.device(device, ('open',))
        if device:
            await self.settle()
            self.clients[device.name].set_active(word == 'active')
            device.session.inactive = word == 'inactive'
            await self.settle()

    @step(r'DEVICE turns carbons WORD')
    async def turns_carbons(self, device, word):
        device = self.device(device, ('open',))
        if device:
            await self.settle()
            await self.clients[device.name].set_carbons(word == 'on')
            device.session.carbons = word == 'on'

    # --- a sender is cut ---

    @step(r'DEVICE sends COUNT to TO and drops')
    async def sends_and_drops(self, device, count, to):
        """What the server took of it stands in the sender's archive."""
        device = self.device(device, ('open',))
        if not device or to == device.account or to not in self.accounts:
            return
        await self.settle()
        session, client = device.session, self.clients[device.name]
        flood = [self.send(device, 'chat', to) for _ in range(int(count))]
        await asyncio.sleep(0.001)
        client.drop()
        self.model.glimpse(session, client.take_events())
        if session.sm == 'long':
            await self.await_gauges(0, 1)
        else:
            await self.await_gauges(-1, 0)
        taken = {ident for _, ident in await self.read_whole_archive(device.account)}
        for message in flood:
            if message.ident in taken:
                message.certain = True
                self.model.process(message)
            elif session.sm == 'long':
                device.pending.append(message)
        self.model.lose(session)
        await self.await_sessions()
        await self.settle()

    async def await_gauges(self, sessions, detached):
        """Until so many more are there than the model knows of."""
        self.difference = (sessions, detached)
        try:
            await self.await_sessions()
        finally:
            self.difference = (0, 0)

    async def read_whole_archive(self, account):
        """By a session of its own, that never takes messages."""
        keeper = Modelled('keeper', self.server.place(self.host), account)
        await keeper.begin('sasl2', None, False, False)
        entries = await keeper.read_archive()
        await keeper.leave()
        return entries

    # --- the server ends ---

    @step(r'the server WORD')
    async def server_ends(self, word):
        await self.settle()
        await self.server_ends_under(word, 0, self.accounts[0], '')

    @step(r'the server WORD under COUNT to TO from WRITERS…')
    async def server_ends_under(self, word, count, to, writers):
        await self.settle()
        crashed = word == 'dies'
        writers = self.writers(writers, to) if int(count) and to in self.accounts else []
        flood = self.burst(count, writers, to, None)
        if flood:
            await asyncio.sleep(0.002)
        await (self.server.kill() if crashed else self.stop_server())
        for name, client in self.clients.items():
            session = self.model.devices[name].session
            if client.connection and session:
                await client.wait_end()
            client.drop()
            self.in_flight_at_end(session, flood, client.take_events())
        await self.server.start()
        archives = {a: await self.read_whole_archive(a) for a in self.accounts}
        self.note_flood(flood, archives)
        self.model.reborn(archives, crashed)
        await self.await_sessions()

    async def stop_server(self):
        problem = await self.server.stop()
        if problem:
            self.model.say(problem)

    def in_flight_at_end(self, session, flood, events):
        if not session or session.link != 'open':
            return
        for message in flood:
            got = self.model.route(message, self.model.sessions[message.to])[0]
            if session in got:
                session.due.append(Item(message, got[session], must=False))
            elif message.device.account == session.account and message.device is not session.device:
                session.due.append(Item(message, SENT, must=False))
        self.model.glimpse(session, events)

    def note_flood(self, flood, archives):
        """What of it the server took, and nobody is known to have, waits."""
        for message in flood:
            if message.ident not in [ident for _, ident in archives[message.to]]:
                self.model.forget(message)
                continue
            got = self.model.route(message, self.model.sessions[message.to])[0]
            lost = any(not s.sm and s.link == 'deaf' for s in got)
            if not message.done:
                self.model.waiting[message.to].append(Item(message, LATER, not lost))
            message.excused |= lost
            for session in got:
                session.device.again.add(message.ident)

    # --- the end of a script ---

    async def end(self):
        """Everybody comes once more, one after another, and gets what is his."""
        await self.settle()
        for name, device in self.model.devices.items():
            if device.session and device.session.link == 'open':
                await self.present(device.session, 0)
                continue
            await self.signs_in(name, 'sasl2 carbons sm priority 0')
            if device.session and not device.session.takes:
                await self.present(device.session, 0)
        await self.settle()
        for name, device in self.model.devices.items():
            if device.is_mam:
                await self.catch_up(device.session)
