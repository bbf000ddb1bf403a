# SPDX-License-Identifier: Apache-2.0
"""What every device must have got.  Pure: knows no sockets, no server and no clock.

The model is the server that the standards ask for: accounts, their sessions, what waits, what is archived.  Each
message that it processes becomes items that are due at sessions; what clients then saw is held against that.  An
item that the standards leave to chance (a cut while it is on its way) is a *may*: at most once."""
from dataclasses import dataclass, field

# kind: (type, has content, is archived, may wait, may be copied)
KINDS = {
    'chat': ('chat', True, True, True, True),
    'normal': ('normal', True, True, True, True),
    'headline': ('headline', True, False, False, False),     # RFC 6121 §8.5.2; XEP-0313 §7.1; XEP-0280 §6.1
    'state': ('chat', False, False, False, True),            # XEP-0085 alone: XEP-0160 §3
    'private': ('chat', True, True, True, False),            # XEP-0280 §10
    'no-copy': ('chat', True, True, True, False),            # XEP-0334 §4.3
    'no-store': ('chat', True, False, False, True),          # XEP-0334 §4.2
    'unkept': ('chat', True, False, True, True),             # XEP-0334 §4.1: no permanent store
    'store': ('chat', True, True, True, True),               # XEP-0334 §4.4: a chat state to keep
}
RECALLED, REMEMBERED = 32, 128    # modules/archive: of each archive, after a start and later
ANY_FORM = frozenset(('direct', 'received', 'later'))
DIRECT, RECEIVED, SENT, LATER, ERROR = (frozenset((f,)) for f in ('direct', 'received', 'sent', 'later', 'error'))


@dataclass(eq=False)
class Message:
    ident: str
    number: int            # rises for each sending device
    kind: str
    device: 'Device'       # that sent it
    to: str                # account
    resource: str | None
    done: bool = False     # a client of the recipient has it, as far as a server can know
    excused: bool = False  # refused, or written to a connection that was dead: RFC 6120 has no acknowledgement
    certain: bool = False  # its sender was told that it is handled (XEP-0198 §4), or it was read from an archive
    seen: bool = False     # by any device of its recipient

    def __post_init__(self):
        self.type, self.content, self.history, self.offline, self.copied = KINDS[self.kind]

    @property
    def to_self(self):
        return self.to == self.device.account


@dataclass(eq=False)
class Item:
    """One message on its way to one session."""
    message: Message
    forms: frozenset
    must: bool = True
    ordered: bool = True   # behind all that the same device sent before
    seen: bool = False


@dataclass(eq=False)
class Device:
    name: str
    account: str
    is_mam: bool = False
    bind2: bool = False
    session: 'Session' = None
    resource: str = None
    synced: int = 0        # how much of the archive it has read
    seen: set = field(default_factory=set)     # idents, by whatever way but the archive's
    again: set = field(default_factory=set)    # may come once more: it was not acknowledged
    resend: list = field(default_factory=list)  # sent, and not known to be handled
    left: list = field(default_factory=list)    # the same, of a session that is over
    pending: list = field(default_factory=list)  # sent, and known not to be handled: goes again on resumption


@dataclass(eq=False)
class Session:
    device: Device
    resource: str
    sm: str = None         # 'long', 'short' (expires soon), 'plain' (cannot be resumed)
    carbons: bool = False
    available: bool = False
    priority: int = 0
    inactive: bool = False
    link: str = 'open'     # 'deaf': dead, and the server does not know; 'gone': waits to be resumed
    due: list = field(default_factory=list)
    unacked: list = field(default_factory=list)
    read: set = field(default_factory=set)     # idents that its queries of the archive gave

    @property
    def account(self):
        return self.device.account

    @property
    def takes(self):
        return self.available and self.priority >= 0


class Model:
    def __init__(self):
        self.devices = {}
        self.sessions = {}     # account -> [Session], in order of binding
        self.waiting = {}      # account -> [Item]
        self.archive = {}      # account -> [Message]
        self.ids = {}          # (account, ident) -> id in that account's archive
        self.messages = {}     # ident -> Message
        self.unfollowed = set()    # in no archive, and left by a session
        self.problems = []
        self.story, self.step = {}, ''
        self.count = 0

    def add_device(self, name, is_mam, bind2):
        account = name[0]
        self.devices[name] = Device(name, account, is_mam, bind2)
        for table in (self.sessions, self.waiting, self.archive):
            table.setdefault(account, [])

    def note(self, ident, text):
        """What became of a message, for who looks for a failure."""
        self.story.setdefault(ident, []).append('%s: %s' % (self.step, text))

    def say(self, text):
        self.problems.append(text)

    def new_message(self, device, kind, to, resource):
        self.count += 1
        message = Message('%s-%d-%s' % (device.name, self.count, kind), self.count, kind, device, to, resource)
        self.messages[message.ident] = message
        return message

    # --- routing: RFC 6121 §8.5, XEP-0280 ---

    def route(self, message, sessions):
        """({session: form}, does it wait, is it refused) with these sessions of its recipient."""
        match = [s for s in sessions if message.resource and s.resource == message.resource]
        takers = [s for s in sessions if s.takes]
        if match:
            direct = match
        elif message.resource and message.type != 'chat':       # §8.5.3.2
            return {}, False, message.type == 'normal'
        else:
            direct = takers
        if not direct:
            if message.type == 'headline':
                return {}, False, False
            return {}, message.offline, not message.offline
        got = {s: DIRECT for s in direct}
        for s in sessions:      # XEP-0280 §7: who got it by the rules of RFC 6121 gets no copy, nor does who sent it
            if s.carbons and s not in got and message.copied and s is not message.device.session:
                got[s] = RECEIVED
        return got, False, False

    @staticmethod
    def add(items, item):
        """By two ways, of which one will be taken, it is one item still."""
        known = next((i for i in items if i.message is item.message
                      and (i.forms & ERROR) == (item.forms & ERROR)), None)
        if known is None:
            items.append(item)
        elif known is not item:
            known.must, known.ordered = known.must or item.must, known.ordered and item.ordered
            known.forms |= item.forms

    def give(self, session, item):
        kind = item.message.kind
        self.note(item.message.ident, '%s %s get it (%s, %s)' % (
            session.device.name, 'must' if item.must else 'may', '/'.join(sorted(item.forms)), session.link))
        if (session.inactive or session.link == 'gone') and (
                kind == 'state' or (kind == 'store' and item.forms == SENT)):
            item.must = item.ordered = False    # XEP-0352 §4: may be held, or dropped
        if session.link == 'open':
            self.add(session.due, item)
        if session.sm:
            self.add(session.unacked, item)
        elif item.forms.isdisjoint(SENT | ERROR):
            item.message.done = item.message.done or item.must
            item.message.excused |= session.link == 'deaf'

    def wait(self, message, must):
        """It waits for the next session that takes messages; or that is there already."""
        takers = [s for s in self.sessions[message.to] if s.takes]
        for session in takers:
            if message.ident not in session.read:
                self.give(session, Item(message, ANY_FORM, must and len(takers) == 1, ordered=False))
            elif len(takers) == 1:
                message.done = True
        if not takers:
            self.note(message.ident, 'it waits' if must else 'it may wait')
            self.waiting[message.to].append(Item(message, LATER, must))

    def process_sending(self, message):
        """At the home of its sender."""
        account = message.device.account
        known = message in self.archive[account]     # sent once more with the same origin-id: XEP-0359 §3.2
        if message.to_self or known:
            return
        if message.history:
            self.archive[account].append(message)
        for session in self.sessions[account]:
            if session.carbons and session is not message.device.session and message.copied:
                self.give(session, Item(message, SENT))

    def is_kept(self, message):
        return message in self.archive[message.to] or any(i.message is message for i in self.waiting[message.to])

    def process(self, message):
        self.process_sending(message)
        if self.is_kept(message):
            return
        got, waits, refused = self.route(message, self.sessions[message.to])
        if refused:
            self.refuse(message)
            return
        if message.history and message.type != 'headline':
            self.archive[message.to].append(message)
        for session, forms in got.items():
            self.give(session, Item(message, forms))
        if waits:
            self.wait(message, True)

    def refuse(self, message):
        message.excused = True
        session = message.device.session
        if session:
            self.give(session, Item(message, ERROR))

    def process_during(self, message, states, own):
        """While the recipient's sessions change: `states`, one after another; `own` are those of the device that
        changes.  The others must have it when they get it in each state.  True: it must wait when no one else has it."""
        self.process_sending(message)
        if self.is_kept(message):
            return []
        if message.history:
            self.archive[message.to].append(message)
        routes = [self.route(message, state) for state in states]
        for session in self.sessions[message.to]:
            forms = [got[session] for got, _, _ in routes if session in got]
            if session not in own and forms:
                sure = ordered = len(forms) == len(states)
                if any(s and s.sm for s in own):    # handed on, when one of those ended
                    forms.append(LATER)
                    ordered = False
                self.give(session, Item(message, frozenset().union(*forms), sure, ordered))
        return routes

    # --- what clients saw ---

    def check_event(self, device, event, item):
        message = item.message
        if event.form not in item.forms:
            self.say('%s got %s as "%s", expected as %s' % (
                device.name, message.ident, event.form, '/'.join(sorted(item.forms))))
        if message.ident in device.seen and message.ident not in device.again:
            self.say('%s got %s twice' % (device.name, message.ident))
        device.again.discard(message.ident)
        if event.form not in ('sent', 'error'):
            device.seen.add(message.ident)
            message.seen = True
            self.check_id(device, event, message)

    def check_id(self, device, event, message):
        key = device.account, message.ident
        if message.history and event.stanza_id is None:
            self.say('%s got %s without a stanza-id' % (device.name, message.ident))
        elif message.history and self.ids.setdefault(key, event.stanza_id) != event.stanza_id:
            self.say('%s got %s under another stanza-id than before' % (device.name, message.ident))
        elif not message.offline and event.stanza_id is not None:
            self.say('%s got %s with a stanza-id, but it is not kept' % (device.name, message.ident))

    def match(self, session, events):
        """Each event with its item; what nobody expected is said."""
        device, last, found = session.device, {}, []
        for event in events:
            self.note(event.ident, '%s got it (%s)' % (device.name, event.form))
            item = next((i for i in session.due if i.message.ident == event.ident
                         and (i.forms & ERROR == frozenset()) == (event.form != 'error')), None)
            known = self.messages.get(event.ident)
            if item is None and known in self.unfollowed and known.to == device.account:
                continue
            if item is None:
                self.say('%s got %s (%s), which was not for it%s' % (
                    device.name, event.ident, event.form,
                    ' again' if event.ident in device.seen else ''))
                continue
            session.due.remove(item)
            item.seen = True
            self.check_event(device, event, item)
            found.append(item)
            pair = item.message.device
            if item.ordered and event.form != 'error':
                if item.message.number < last.get(pair, 0):
                    self.say('%s got %s behind a later one of %s' % (device.name, event.ident, pair.name))
                last[pair] = max(item.message.number, last.get(pair, 0))
        return found

    def missing(self, session):
        return [i.message.ident for i in session.due if i.must]

    def settle(self, session, events):
        """All that was due has come, and, with XEP-0198, was acknowledged."""
        for item in self.match(session, events):
            if item.forms.isdisjoint(SENT | ERROR):
                item.message.done = True
                self.forget_waiting(item.message)
        for ident in self.missing(session):
            self.say('%s did not get %s' % (session.device.name, ident))
        session.due, session.unacked = [], []

    def glimpse(self, session, events):
        """What it saw before its connection broke; nothing of that is acknowledged."""
        for item in self.match(session, events):
            if not session.sm and item.forms.isdisjoint(SENT | ERROR):
                item.message.done = True
                self.forget_waiting(item.message)
        session.due = []

    def forget_waiting(self, message):
        queue = self.waiting[message.to]
        queue[:] = [i for i in queue if i.message is not message]

    def heard_all(self, session):
        """The server said that it has all that was sent (XEP-0198 §4)."""
        for message in session.device.resend:
            message.certain = True
        session.device.resend = []

    # --- sessions ---

    def bind(self, device, resource, sm, carbons):
        session = Session(device, resource, sm, carbons)
        if device.bind2:        # XEP-0386 §4: it reads the archive, and gets none of it as an offline message
            session.read = {m.ident for m in self.archive[device.account]}
        device.session, device.resource = session, resource
        self.sessions[device.account].append(session)
        return session

    def set_presence(self, session, available, priority):
        took = session.takes
        session.available, session.priority = available, priority
        if took or not session.takes:
            return
        queue = self.waiting[session.account]
        self.waiting[session.account] = []
        for item in queue:      # XEP-0313 §7: no second copy of what the archive gave
            if item.message.ident in session.read:
                item.message.done = True
            else:
                self.give(session, Item(item.message, LATER, item.must, item.ordered))

    def lose(self, session):
        """The connection broke, and the server knows."""
        if session.sm == 'long':
            session.link = 'gone'
        else:
            self.close(session)

    def resume(self, session):
        """XEP-0198 §5: what the client has not seen comes again."""
        for item in session.unacked:
            if item.seen:
                item.message.done = True
        session.unacked = [i for i in session.unacked if not i.seen]
        session.link, session.inactive = 'open', False
        session.due = list(session.unacked)

    def close(self, session):
        self.sessions[session.account].remove(session)
        if session.device.session is session:
            session.device.session = None
        for item in session.unacked:
            self.hand_on(session, item)
        session.unacked, session.due = [], []

    def hand_on(self, session, item):
        """XEP-0198 §5: as if it had come when the session was not there, unless another session has it."""
        message = item.message
        self.note(message.ident, '%s left it' % session.device.name)
        if item.seen:
            session.device.again.add(message.ident)
        if not item.forms.isdisjoint(SENT | ERROR):
            return
        if not message.history:
            self.hand_on_unkept(message, item)
            return
        if message.done:
            return
        held = [i for s in self.sessions[message.to] for i in s.unacked if i.message is message]
        if any(i.must for i in held):
            return
        self.wait(message, item.must and not held)

    def hand_on_unkept(self, message, item):
        """What is in no archive is not followed: who has acknowledged it meanwhile is not known, and it may come
        once more.  It is not lost, unless nobody would keep it."""
        others = [s for s in self.sessions[message.to] if s.takes]
        self.unfollowed.add(message)
        for device in self.devices.values():
            device.again.add(message.ident)
        if others or not message.offline:
            for other in others:
                self.give(other, Item(message, ANY_FORM, False, ordered=False))
        else:
            self.waiting[message.to].append(Item(message, LATER, item.must and not message.done,
                                                 ordered=False))     # kept only now

    # --- the archive: XEP-0313 ---

    def read(self, session, entries):
        """[(id, ident)] that a device read behind what it had."""
        device, expected = session.device, self.archive[session.account][session.device.synced:]
        self.check_archive(device.name, session.account, entries, expected)
        device.synced += len(expected)
        for message in expected:
            session.read.add(message.ident)
            message.seen |= message.to == device.account
            message.certain = True

    def check_archive(self, who, account, entries, expected):
        idents = [ident for _, ident in entries]
        wanted = [m.ident for m in expected]
        for ident in wanted:
            if ident not in idents:
                self.say('%s did not find %s in the archive' % (who, ident))
        for ident in dict.fromkeys(idents):
            if idents.count(ident) > 1:
                self.say('%s found %s %d times in the archive' % (who, ident, idents.count(ident)))
            if ident not in wanted:
                self.say('%s found %s in the archive, where it does not belong' % (who, ident))
        for archive_id, ident in entries:
            if self.ids.setdefault((account, ident), archive_id) != archive_id:
                self.say('%s found %s in the archive under another id than it came with' % (who, ident))
        self.check_order(who, idents)

    def check_order(self, who, idents):
        last = {}
        for message in (self.messages[i] for i in idents if i in self.messages):
            if message.number < last.get(message.device, 0):
                self.say('%s found %s in the archive behind a later one' % (who, message.ident))
            last[message.device] = message.number

    # --- the server's end and start ---

    def reborn(self, archives, crashed):
        """No session is left.  `archives`: account -> [(id, ident)], whole, as they are now."""
        for account, entries in archives.items():
            self.check_reborn_archive(account, entries)
        for account in archives:
            for session in list(self.sessions[account]):
                self.end_with_server(session, crashed)
        for account, entries in archives.items():
            self.archive[account] = [self.messages[ident] for _, ident in entries if ident in self.messages]
            self.revise_waiting(account, crashed)
        for device in self.devices.values():
            device.left = [m for m in device.left + device.resend if self.is_recalled(m)]
            device.resend = []

    def is_recalled(self, message, count=RECALLED):
        """modules/archive: a server that starts looks at the end of each archive for what may be sent once more."""
        return all(message not in archive or message in archive[-count:]
                   for archive in (self.archive[message.to], self.archive[message.device.account]))

    def check_reborn_archive(self, account, entries):
        idents = [ident for _, ident in entries]
        expected = [m for m in self.archive[account] if m.certain or m.ident in idents]
        strange = [self.messages[i] for i in idents if i in self.messages and account in (
            self.messages[i].to, self.messages[i].device.account)]
        self.check_archive('the keeper of ' + account, account, entries,
                           expected + [m for m in strange if m not in expected])
        for message in self.archive[account]:
            if message.ident not in idents:     # died with the server: sent again it gets another id
                self.ids.pop((account, message.ident), None)

    def forget(self, message):
        """It died with the server, whoever saw it.  Sent once more it is another one."""
        self.ids.pop((message.to, message.ident), None)
        for device in self.devices.values():
            device.again.add(message.ident)

    def end_with_server(self, session, crashed):
        """Nobody takes over: all others end with it."""
        self.sessions[session.account].remove(session)
        session.device.session = None
        for item in session.unacked:
            message = item.message
            if item.seen:
                session.device.again.add(message.ident)
            if not message.history:
                self.unfollowed.add(message)
            if message.done or not message.offline or not item.forms.isdisjoint(SENT | ERROR):
                continue
            queue = self.waiting[message.to]
            if all(i.message is not message for i in queue):
                queue.append(Item(message, LATER, item.must))

    def revise_waiting(self, account, crashed):
        """A crash forgets what has been delivered since the cursor was written: XEP-0160 knows no better."""
        kept = self.archive[account]
        waits = {i.message: i for i in self.waiting[account] if i.message in kept or not i.message.history}
        for message in kept if crashed else ():
            if message.to != account:
                continue
            if message not in waits:
                waits[message] = Item(message, LATER, False)
            for device in self.devices.values():
                if device.account == account:
                    device.again.add(message.ident)
        order = {message: n for n, message in enumerate(kept)}
        self.waiting[account] = sorted(waits.values(), key=lambda i: order.get(i.message, len(order)))
        for item in self.waiting[account]:
            if not item.message.history and not item.message.certain:
                item.must = False

    def judge_end(self):
        """Nothing that may wait was lost to an account as a whole."""
        for message in self.messages.values():
            if message.offline and not message.seen and not message.excused and \
                    (message in self.archive[message.to] or message.certain):
                self.say('%s never came to anybody of %s' % (message.ident, message.to))
