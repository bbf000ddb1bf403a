# SPDX-License-Identifier: Apache-2.0
"""Four clients in one bubble: slixmpp, whose bubble it is; Converse.js in a browser; profanity; poezio. Each finds
the bubble in its bookmarks, and is told by the room, as by any room of XEP-0045.
"""
import asyncio
import contextlib
import json
import os

from terminals import poezio_command, sign_in_profanity, start_poezio, start_profanity
from visit import HOST, SECONDS, StageError

HERE = os.path.dirname(os.path.abspath(__file__))
TITLE = 'Plans of four'
ROOM = 'plans@rooms.' + HOST
ARCHIVED = 'This bubble was archived: it can be read, not changed.'
ROUNDS = 3      # messages of each
PAGE_SECONDS = 60.0     # of one step in a browser


class Told:
    """A program that does what it is told: a line each way (slixmpp_member.py, js/bubble.mjs)."""

    def __init__(self, name, process, echoes):
        self.name, self.process, self.echoes = name, process, echoes
        self.heard = []     # all that it has printed

    async def answer(self, what):
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                while raw := await self.process.stdout.readline():
                    line = raw.decode(errors='replace').rstrip()
                    self.heard.append(line)
                    if line.startswith('DONE '):
                        return json.loads(line[5:])
                    if line.startswith('FAILED '):
                        break
        except TimeoutError:
            self.heard.append('no answer')
        latest = 0 if 'IRIS_DEBUG' in os.environ else -20
        raise StageError('%s, %s:\n%s' % (self.name, what, '\n'.join(self.heard[latest:])))

    async def does(self, what, *arguments):
        self.process.stdin.write((json.dumps([what, *arguments]) + '\n').encode())
        return await self.answer('%s %s' % (what, arguments))

    async def says(self, text):
        await self.does('says', ROOM, text)

    async def sees(self, text):
        await self.does('sees', text)

    async def order(self, texts):
        return await self.does('order', texts)

    async def leaves(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.stdin.close()
            try:
                async with asyncio.timeout(SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()


class Shown:
    """A client with a screen, the room on it."""

    def __init__(self, name, terminal, echoes, said):
        """`said`: how a line looks that it has said."""
        self.name, self.terminal, self.echoes, self.said = name, terminal, echoes, said

    async def says(self, text):
        """One after the other: two lines in one read are taken as pasted."""
        await self.terminal.type(text)
        await self.sees(self.said % text)

    async def sees(self, *texts):
        try:
            return await self.terminal.shows(*texts)
        except StageError as error:
            raise StageError('%s: %s' % (self.name, error))

    async def order(self, texts):
        screen = self.terminal.screen()
        return sorted((text for text in texts if text in screen), key=screen.index)


class Four:
    """Who is there."""

    def __init__(self, visit, page):
        """`page(shot)`: the program that is a person at the page, its screenshots called so."""
        self.visit, self.page = visit, page
        self.organizer = self.device = self.converse = self.profanity = self.poezio = None
        self.here = contextlib.AsyncExitStack()

    async def tell_program(self, name, *argv, echoes=False):
        folder = os.path.join(self.visit.folder, name)
        os.makedirs(folder)
        told = Told(name, await self.visit.program(*argv, environment={'HOME': folder}), echoes)
        self.here.push_async_callback(told.leaves)
        return told

    async def slixmpp(self, name, jid):
        member = await self.tell_program(
            name, '/usr/bin/python3', os.path.join(HERE, 'slixmpp_member.py'), jid, '127.0.0.1',
            str(self.visit.port), self.visit.authority)
        await member.answer('signs in')
        return member

    async def browser(self, name, jid):
        person = await self.tell_program(name, *self.page('bubble-' + name), jid, echoes=True)
        await person.does('signIn')
        return person

    def folder(self, name):
        path = os.path.join(self.visit.folder, name)
        os.makedirs(path)
        return path

    async def start_profanity(self, jid):
        """It reads its bookmarks when it signs in."""
        terminal = await start_profanity(self.visit, self.folder('profanity'))
        self.here.callback(terminal.close)
        await sign_in_profanity(self.visit, terminal, jid)
        self.profanity = Shown('profanity', terminal, True, jid.split('@')[0] + ': %s')
        await self.profanity.sees('Autojoined ' + ROOM)
        await terminal.type('/win ' + ROOM)
        await self.profanity.sees(jid.split('@')[0])

    async def start_poezio(self, jid):
        """As profanity."""
        terminal = start_poezio(self.visit, self.folder('poezio'), jid)
        self.here.callback(terminal.close)
        self.poezio = Shown('poezio', terminal, False, 'poezio> %s')
        await self.poezio.sees('Authentication success', 'Your online presence')
        await self.poezio.sees('1.' + TITLE)       # its tab
        await poezio_command(terminal, 'win 1')
        await self.poezio.sees('Your nickname is', 'You (poezio)')

    def all(self):
        return [self.organizer, self.converse, self.profanity, self.poezio]


async def all_see(members, *texts):
    for text in texts:
        await asyncio.gather(*(member.sees(text) for member in members))


def not_its_own(member, order):
    return [text for text in order if not (member.echoes and text.endswith(' of ' + member.name))]


async def they_talk(members, subject):
    """All at once; each sees all of it, and in one order: the archive's. Converse.js and profanity show what they say
    when it is said, not when the room has it: theirs is compared without that, and
    Converse's once more when it reads the archive."""
    texts = ['%s %d of %s' % (subject, number, member.name) for member in members for number in range(1, ROUNDS + 1)]

    async def speaks(member):
        for number in range(1, ROUNDS + 1):
            await member.says('%s %d of %s' % (subject, number, member.name))
    await asyncio.gather(*(speaks(member) for member in members))
    await all_see(members, *texts)
    first = await members[0].order(texts)
    for member in members:
        order = await member.order(texts)
        if len(order) != len(texts) or not_its_own(member, order) != not_its_own(member, first):
            raise StageError('not one order:\nslixmpp: %s\n%s: %s' % (first, member.name, order))
    return first


async def they_come(four):
    """Converse is there before the bubble is, and sees it come; profanity and poezio sign in when they belong to it."""
    visit = four.visit
    names = ('bubble-converse', 'bubble-profanity', 'bubble-poezio')
    converse, profanity, poezio = [await visit.account(name) for name in names]
    four.organizer = await four.slixmpp('slixmpp', visit.jid)
    four.device = await four.slixmpp('another-device', poezio)      # of whom will be removed
    four.converse = await four.browser('converse', converse)
    await four.organizer.does('command', 'bubble/create', {'name': TITLE, 'address': ROOM})
    await four.organizer.does('has_bookmark', ROOM)
    await four.organizer.does('enters', ROOM, 'slixmpp')
    for jid in (converse, profanity, poezio):
        await four.organizer.does('command', 'bubble/invite', {'bubble': ROOM, 'member': jid})
    await four.device.does('has_bookmark', ROOM)
    await four.converse.does('enters', TITLE)
    await asyncio.gather(four.start_profanity(profanity), four.start_poezio(poezio))
    await four.converse.does('shoot', 'entered')


async def one_is_promoted_one_removed(four):
    """The new co-organizer may what a participant may not, with its client's own command."""
    await four.organizer.does('command', 'bubble/promote', {'bubble': ROOM, 'member': 'bubble-converse@' + HOST})
    await four.converse.sees('bubble-converse is now an admin')
    await four.converse.does('revokes', 'poezio')
    await four.device.does('has_no_bookmark', ROOM)
    await four.poezio.sees('has left the room', 'have left the room', 'Disconnected')
    await four.converse.does('shoot', 'removed')


async def it_is_archived(four, remain, said):
    """Read, not changed: nobody is heard; who opens it in another browser, or reads the archive, finds all of it."""
    await four.organizer.does('command', 'bubble/archive', {'bubble': ROOM})
    await all_see([four.organizer, four.profanity], ARCHIVED)   # Converse.js does not show what a room itself says
    for member in remain:
        await member.says('never heard of ' + member.name)
    await four.organizer.does('is_refused', 'not-allowed')
    await four.profanity.sees('The bubble is archived', 'not-allowed')
    await four.converse.sees('The bubble is archived')
    await four.converse.does('shoot', 'archived')
    anew = await four.browser('converse-anew', 'bubble-converse@' + HOST)
    await anew.does('enters', TITLE)
    await anew.sees(said[-1])
    order = await anew.order(said)
    if order != said:
        raise StageError('Converse.js finds another order in the archive: %s, not %s' % (order, said))
    await anew.does('shoot', 'read')
    history = await four.organizer.does('history', ROOM)
    if [text for text in history if text in said] != said or any('never heard' in text for text in history):
        raise StageError('the archive has %r' % history)


async def in_one_bubble(visit, page):
    four = Four(visit, page)
    async with four.here:
        await they_come(four)
        said = await they_talk(four.all(), 'word')
        await four.converse.does('shoot', 'talk')
        await one_is_promoted_one_removed(four)
        remain = [four.organizer, four.converse, four.profanity]
        said += await they_talk(remain, 'later')
        if 'later' in four.poezio.terminal.screen():
            raise StageError('poezio is out, and hears')
        await it_is_archived(four, remain, said)
        await four.organizer.does('command', 'bubble/restore', {'bubble': ROOM})
        await they_talk(remain, 'again')
        await four.converse.does('shoot', 'restored')
