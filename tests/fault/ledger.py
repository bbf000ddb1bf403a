# SPDX-License-Identifier: Apache-2.0
"""What was sent, acknowledged and received; and the judge.  Pure: knows no sockets and no server."""
import collections
from dataclasses import dataclass

SHOWN = 12      # problems of one kind; more of them say nothing new


@dataclass
class Send:
    """One sending of one message.  Sent again after a crash it is another one, with another id."""
    ident: str
    sender: str
    recipient: str
    number: int            # rises for each pair
    acknowledged: bool = False
    refused: bool = False  # an error came back


@dataclass
class Entry:
    """One message in an account's archive, as XEP-0313 gives it out."""
    archive_id: str
    ident: str             # what it looks like, when it has none


class Ledger:
    def __init__(self, users):
        self.users = users
        self.sends = {}                                    # ident -> Send, in order
        self.sessions = {user: [] for user in users}       # of [(ident, stanza-id)], in order of arrival
        self.came = set()                                  # (recipient, ident)
        self.next_number = collections.Counter()

    def send(self, sender, recipient):
        self.next_number[sender, recipient] += 1
        number = self.next_number[sender, recipient]
        send = Send('%s-%s-%d' % (sender, recipient, number), sender, recipient, number)
        self.sends[send.ident] = send
        return send

    def receive(self, user, ident, stanza_id):
        self.sessions[user][-1].append((ident, stanza_id))
        self.came.add((user, ident))

    def outstanding(self):
        """What was acknowledged and has not come."""
        return [s for s in self.sends.values()
                if s.acknowledged and not s.refused and (s.recipient, s.ident) not in self.came]

    def acknowledged(self):
        return sum(send.acknowledged for send in self.sends.values())

    def judge(self, archives):
        """What is wrong, in sentences.  `archives`: user -> [Entry] as read back, whole."""
        problems = []
        for user in self.users:
            problems += self._judge_archive(user, archives[user])
            problems += self._judge_sessions(user, archives[user])
        return problems + _say([s.ident for s in self.sends.values() if s.refused], 'refused')

    def _judge_archive(self, user, entries):
        """Every acknowledged message once, others once or not, and each pair in the order of sending."""
        count = collections.Counter(entry.ident for entry in entries)
        lost = [s.ident for s in self.sends.values()
                if user in (s.sender, s.recipient) and s.acknowledged and not s.refused and not count[s.ident]]
        doubled = ['%s (%d times)' % (ident, n) for ident, n in count.items() if n > 1]
        strange = [ident for ident in count if ident not in self.sends]
        ids = collections.Counter(entry.archive_id for entry in entries)
        return (_say(lost, 'acknowledged, but not in the archive of ' + user) +
                _say(doubled, 'doubled in the archive of ' + user) +
                _say(strange, 'sent by nobody, but in the archive of ' + user) +
                _say([i for i, n in ids.items() if n > 1], 'given to two entries in the archive of ' + user) +
                _say(self._disorder([e.ident for e in entries]), 'out of order in the archive of ' + user))

    def _judge_sessions(self, user, entries):
        """What was acknowledged came at least once, always under the id that it has in the archive."""
        archive_id = {entry.ident: entry.archive_id for entry in entries}
        owner = {entry.archive_id: entry.ident for entry in entries}
        came = [pair for session in self.sessions[user] for pair in session]
        missing = [s.ident for s in self.outstanding() if s.recipient == user]
        renamed = ['%s (as %s, archived as %s)' % (ident, sid, archive_id[ident])
                   for ident, sid in came if archive_id.get(ident, sid) != sid]
        # What died with the server may be in no archive, but its id must never be another message's.
        reused = ['%s (%s, now of %s)' % (ident, sid, owner[sid])
                  for ident, sid in came if ident not in archive_id and sid in owner]
        problems = (_say(missing, 'acknowledged, but never came to ' + user) +
                    _say(renamed, 'came under another id than the archive gives it, to ' + user) +
                    _say(reused, 'came under an id that is now of another message, to ' + user))
        for session in self.sessions[user]:
            problems += _say(self._disorder([ident for ident, _ in session]),
                             'out of order or doubled in one session of ' + user)
        return problems

    def _disorder(self, idents):
        """Those whose number does not rise within its pair."""
        last, found = {}, []
        for ident in idents:
            send = self.sends.get(ident)
            if not send:
                continue
            pair = send.sender, send.recipient
            if send.number <= last.get(pair, 0):
                found.append('%s after %d' % (ident, last[pair]))
            last[pair] = send.number
        return found


def _say(found, what):
    if not found:
        return []
    more = ' and %d more' % (len(found) - SHOWN) if len(found) > SHOWN else ''
    return ['%s: %s%s' % (what, ', '.join(found[:SHOWN]), more)]
