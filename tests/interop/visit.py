# SPDX-License-Identifier: Apache-2.0
"""A visit of somebody else's client to an irisd of our own: an account for it, a partner, a folder, the way to
the server; and the run of many of them. The scripts beside this file say who comes.
"""
import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'wire'))

from theatre import iris, pattern, place, prosody          # noqa: E402
from theatre.client import Client, StageError, wrong       # noqa: E402

HOST = 'interop.test'
SECONDS = 15.0
PASSWORD = 'a-s3cret-of-the-day'
SCENARIOS = []      # (name, needs these programs, coroutine)


class Skip(Exception):
    """What the visitor needs is not on this machine."""


def scenario(name, *programs):
    def register(function):
        SCENARIOS.append((name, programs, function))
        return function
    return register


class Terminal:
    """A client that thinks it has a screen: a tmux of its own."""

    def __init__(self, folder, argv, environment):
        self.socket = os.path.join(folder, 'tmux')
        environment = dict(environment, TERM='screen-256color', LC_ALL='C.UTF-8', HOME=folder,
                           PATH=os.environ['PATH'])
        self.tmux('-f', '/dev/null', 'new-session', '-d', '-s', 'x', '-x', '150', '-y', '45',
                  'env', '-i', *('%s=%s' % item for item in environment.items()), *argv)
        self.tmux('set-option', '-g', 'remain-on-exit', 'on')

    def tmux(self, *arguments):
        return subprocess.run(('tmux', '-S', self.socket) + arguments, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=10).stdout.decode(errors='replace')

    def screen(self):
        return self.tmux('capture-pane', '-p', '-t', 'x')

    async def type(self, text):
        self.tmux('send-keys', '-t', 'x', '-l', text)
        await asyncio.sleep(0.1)      # a terminal client that gets text and Enter in one read takes it as pasted
        self.tmux('send-keys', '-t', 'x', 'Enter')

    async def shows(self, *texts):
        """Waits until one of the texts is on the screen; which."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            screen = self.screen()
            flat = ' '.join(screen.split())
            for text in texts:
                if text in screen or text in flat:
                    return text
            await asyncio.sleep(0.1)
        raise StageError('the screen does not show %s:\n%s' % (
            ' or '.join(texts), '\n'.join(line.rstrip() for line in screen.splitlines() if line.strip())))

    def close(self):
        self.tmux('kill-server')


class Partner:
    """The other side of the conversation, driven by the client of the plays."""

    def __init__(self, client):
        self.client, self.jid = client, '%s@%s' % (client.user, HOST)

    async def until(self, text, seconds=SECONDS):
        """Reads until something matches; other things are passed over."""
        wanted = pattern.parse(text)[0]
        end, passed = time.monotonic() + seconds, []
        while time.monotonic() < end:
            element = await self.client.connection.next(max(end - time.monotonic(), 0.01))
            if element is None:
                break
            why, captured = pattern.match(wanted, element, {})
            if not why:
                return captured
            passed.append(pattern.show(element))
        raise StageError('expected: %s\npassed over: %s' % (text, '\n  '.join(passed) or 'nothing'))

    async def is_added_by(self, jid, allows=None):
        """The visitor asks; we accept and ask back; both see each other. `allows` makes it accept."""
        await self.until("<presence from='%s' type='subscribe'/>" % jid)
        self.client.send_stanza("<presence to='%s' type='subscribed'/>" % jid)
        self.client.send_stanza("<presence to='%s' type='subscribe'/>" % jid)
        if allows:
            await allows()
        await self.until("<presence from='%s' type='subscribed'/>" % jid)
        return (await self.until("<presence from='{full}'/>".replace('{full}', jid + '/{resource}')))['resource']

    def write(self, to, text):
        self.client.send_stanza("<message to='%s' type='chat' id='p1'><body>%s</body></message>" % (to, text))

    async def reads(self, jid, text):
        return await self.until("<message from='%s/{resource}' type='*'><body>%s</body></message>" % (
            jid, text.replace('&', '&amp;').replace('<', '&lt;')))


class Visit:
    """What one scenario has: an account for the visitor, a partner, a folder, the way to the server."""

    def __init__(self, name, server, folder, options):
        self.server, self.place, self.folder = server, server.place(HOST), folder
        self.authority, self.build = options.authority, options.build
        self.jid = '%s@%s' % (name, HOST)
        client = Client('Partner', self.place, server.besides)
        client.user, client.password = name + '-partner', PASSWORD
        self.partner = Partner(client)
        self.port, self.direct = self.place.ports['c2s'], self.place.ports['direct']
        self.environment = {'SSL_CERT_FILE': self.authority, 'IRIS_PASSWORD': PASSWORD}

    async def begin(self):
        client = self.partner.client
        await client.open()
        await client.open_stream()
        await client.negotiate_tls()
        await client.open_stream()
        await client.authenticate()
        await client.open_stream()
        await client.bind('partner')
        await client.become_available()

    async def account(self, name):
        """One more; its address."""
        jid = '%s@%s' % (name, HOST)
        await self.server.add_accounts([(jid, PASSWORD)])
        return jid

    async def program(self, *argv, environment=None):
        """Starts a program; its output is collected in .lines by a task."""
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, 'HOME': self.folder, **self.environment, **(environment or {})}, cwd=self.folder)
        return process

    async def ends(self, process, what, code=0, seconds=SECONDS):
        try:
            async with asyncio.timeout(seconds):
                out = (await process.communicate())[0].decode(errors='replace')
        except TimeoutError:
            process.kill()
            out = (await process.communicate())[0].decode(errors='replace')
            raise StageError('%s did not end:\n%s' % (what, out[-1500:]))
        if (process.returncode == 0) != (code == 0):
            raise StageError('%s ended with %d:\n%s' % (what, process.returncode, out[-1500:]))
        return out


def need_slixmpp():
    if subprocess.run(('/usr/bin/python3', '-c', 'import slixmpp'), stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skip('python3-slixmpp is not installed')


async def program_talks(visit, argv, text, then=None):
    """A program that adds the partner, answers one message, does what `then` waits for, and leaves."""
    process = await visit.program(*argv)
    try:
        resource = await visit.partner.is_added_by(visit.jid)
        visit.partner.write('%s/%s' % (visit.jid, resource), 'hello to you')
        await visit.partner.reads(visit.jid, text)
        if then:
            await then(visit)
        await visit.partner.until("<presence from='%s/*' type='unavailable'/>" % visit.jid)
    except StageError as error:
        with contextlib.suppress(ProcessLookupError):    # it has ended
            process.terminate()
        out = (await process.communicate())[0].decode(errors='replace')
        raise StageError('%s\nthe program said:\n%s' % (error, out[-1500:]))
    out = await visit.ends(process, argv[0])
    for word in ('CONNECTED', 'ROSTER', 'SUBSCRIBED', 'GOT hello to you'):
        if word not in out:
            raise StageError('it did not say %s:\n%s' % (word, out[-1500:]))


async def play(act, server, root, options):
    """'' or what is wrong; Skip when a program is missing."""
    name, programs, function = act
    missing = [p for p in programs if not (shutil.which(p) or os.path.exists(p))]
    if missing:
        raise Skip('%s is not installed' % ', '.join(missing))
    folder = os.path.join(root, name)
    os.makedirs(folder)
    visit = Visit(name, server, folder, options)
    await visit.begin()
    try:
        await function(visit)
    finally:
        if visit.partner.client.connection:
            visit.partner.client.connection.close()


async def run(options, root):
    chosen = [s for s in SCENARIOS if not options.clients or s[0] in options.clients]
    accounts = [(who, PASSWORD) for name, _, _ in chosen for who in (name, name + '-partner')]
    authority = place.Authority(os.path.join(root, 'authority'))
    options.authority = authority.certificate
    if options.against == 'prosody':
        server = prosody.Prosody(os.path.join(root, 'server'), authority, {HOST: accounts})
    else:
        server = iris.Iris(os.path.join(root, 'server'), options.build, authority, [HOST], 2, options.config)
        await server.prepare()
    await server.start()
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    try:
        await server.add_accounts([('%s@%s' % (user, HOST), password) for user, password in accounts])
        for number, (name, programs, function) in enumerate(chosen, 1):
            mark, began = len(server.log), time.monotonic()
            try:
                await play((name, programs, function), server, root, options)
                problem = '\n'.join(server.errors(mark))
            except Skip as skip:
                counts['skipped'] += 1
                print('ok %d - %s # SKIP %s' % (number, name, skip), flush=True)
                continue
            except (StageError, OSError, iris.ServerError) as error:
                problem = '\n'.join([str(error) or repr(error)] + server.errors(mark))
            counts['failed' if problem else 'passed'] += 1
            print('%s %d - %s # %d ms' % ('not ok' if problem else 'ok', number, name,
                                          (time.monotonic() - began) * 1000))
            for line in problem.splitlines():
                print('  # ' + line)
            sys.stdout.flush()
    finally:
        problem = await server.stop()
    if problem:
        counts['failed'] += 1
        print('not ok - the server stops in order\n  # ' + problem.replace('\n', '\n  # '))
    print('%(passed)d passed, %(failed)d failed, %(skipped)d skipped' % counts)
    return counts['failed']


def main(description, configure=None, against=()):
    """`configure(options)`: what irisd needs beside what every play has, section -> option -> text."""
    parser = argparse.ArgumentParser(description=description)
    default_build = os.environ.get('IRIS_BUILDDIR') or os.path.join(HERE, '..', '..', 'build')
    parser.add_argument('clients', nargs='*', help=' '.join(name for name, _, _ in SCENARIOS))
    parser.add_argument('--build', default=default_build, help='where irisd and irisctl are (build/)')
    parser.add_argument('--against', choices=against, help="Debian's prosody instead of irisd")
    parser.add_argument('--keep', action='store_true', help='keep the folder')
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.config = configure(options) if configure else None
    root = tempfile.mkdtemp(prefix='iris-interop-')
    try:
        return 1 if asyncio.run(run(options, root)) else 0
    except iris.ServerError as error:
        print('not ok - the server starts\n  # ' + str(error).replace('\n', '\n  # '))
        print('0 passed, 1 failed, 0 skipped')
        return 1
    finally:
        if options.keep:
            print('kept: ' + root)
        else:
            shutil.rmtree(root, ignore_errors=True)
