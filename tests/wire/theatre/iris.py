# SPDX-License-Identifier: Apache-2.0
"""An irisd of our own: its folder, configuration, process, log, and the accounts in it."""
import asyncio
import contextlib
import json
import os
import re
import signal

from . import clock, language, script, store as stores
from .place import Place, free_port

START_SECONDS = 30.0     # a sanitizer build on a busy machine
STOP_SECONDS = 20.0
SANITIZER = re.compile(r'(ERROR|WARNING): \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer')


class ServerError(Exception):
    pass


class Iris:
    """The contract: `irisctl init`, `irisd` in the foreground with a JSON log on stderr and the event
    "ready", `irisctl user import` over loopback; SIGTERM is an orderly stop with exit code 0."""
    address = '127.0.0.1'

    def __init__(self, folder, build, authority, hosts, workers, config=None, store=None):
        self.folder, self.build, self.authority = folder, build, authority
        self.store = store or stores.Sqlite()
        self.hosts, self.workers = hosts, workers
        self.extra = config or {}
        self.ports = {name: free_port() for name in ('c2s', 'direct', 'web', 'admin')}
        self.environment = {}    # more of it for irisd
        self.prefix = []         # what its programs are run by
        self.clock = None        # that it sees; None: the machine's
        self.process = None
        self.holder = None       # of the database's lock
        self.log = []            # of all starts
        self.noise = []          # lines of stderr that are not JSON
        self.news = asyncio.Condition()
        self.reader = None
        self.config_path = os.path.join(folder, 'iris.yaml')
        os.makedirs(folder, exist_ok=True)

    def place(self, host):
        return Place(self.address, self.ports, host, self.authority)

    # --- configuration ---

    def listener(self, port, what):
        return '\n      - {address: %s, port: %d, %s}' % (self.address, self.ports[port], what)

    def base_config(self):
        crt, key = self.authority.issue_host(os.path.basename(self.folder), self.hosts)
        domains = ''.join('\n      - {name: %s, certificate: %s, key: %s}' % (h, crt, key) for h in self.hosts)
        return {
            'worker': {'count': ' %d' % self.workers},
            'log': {'target': ' stderr', 'level': ' info'},
            'admin': {'address': ' ' + self.address, 'port': ' %d' % self.ports['admin']},
            'hosts': {'domains': domains},
            'listen': {'listeners':
                       self.listener('c2s', 'role: c2s, tls: starttls') +
                       self.listener('direct', 'role: c2s, tls: direct') +
                       self.listener('web', 'role: web, tls: direct, also: [c2s]')},
            # Every play knocks from one address, some with wrong passwords.
            'accounts': {'password-min-length': ' 8', 'password-classes': ' 1', 'address-tries': ' 0',
                         'throttle-delay': ' 0 ms', 'scram-iterations': ' 4096'},
            **self.store.config(os.path.basename(self.folder)),
        }

    def renew_certificate(self):
        self.authority.issue_host(os.path.basename(self.folder), self.hosts, again=True)

    def hold_database(self):
        """Nobody can write until it is released."""
        self.holder = self.store.hold(self.folder)

    def release_database(self):
        if self.holder:
            self.holder.close()     # what was not committed is undone
        self.holder = None

    def write_config(self):
        def port(found):
            return str(self.ports.setdefault(found.group(1), free_port()))
        text = language.write_config(language.merge_config(self.base_config(), self.extra))
        text = re.sub(r'\{port:([a-z0-9_]+)\}', port, text)
        try:
            text = script.fill(text, {'host': self.hosts[0], 'folder': self.folder})
        except script.Unknown as error:
            raise ServerError('the configuration: %s' % error)
        with open(self.config_path, 'w', encoding='utf-8') as f:
            f.write(text)

    # --- the process ---

    async def run(self, program, *args, stdin=''):
        """A program of the build to its end: (exit code, stdout, stderr)."""
        process = await asyncio.create_subprocess_exec(
            *self.prefix, os.path.join(self.build, program), '--config', self.config_path, *args,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(START_SECONDS):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ServerError('%s %s did not end in %g s' % (program, ' '.join(args), START_SECONDS))
        return process.returncode, out.decode(errors='replace'), err.decode(errors='replace')

    async def must(self, program, *args, stdin=''):
        code, out, err = await self.run(program, *args, stdin=stdin)
        if code:
            raise ServerError('%s %s ended with %d: %s' % (program, ' '.join(args), code, (err or out)[-2000:]))
        return out

    async def prepare(self):
        self.write_config()
        await self.store.make(os.path.basename(self.folder))
        await self.must('irisctl', 'init')

    def give_clock(self):
        """One of its own, to be moved."""
        self.clock = clock.Clock(os.path.join(self.folder, 'clock'))
        self.environment = self.clock.environment

    async def spawn(self):
        return await asyncio.create_subprocess_exec(
            *self.prefix, os.path.join(self.build, 'irisd'), '--config', self.config_path,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            limit=1 << 20, start_new_session=True, env={**os.environ, **self.environment})

    async def start(self):
        start = len(self.log)
        self.process = await self.spawn()
        self.reader = asyncio.create_task(self._read())
        await self.wait_log('ready', since=start, seconds=START_SECONDS)

    async def fail_to_start(self, config):
        """With this configuration beside the other: the exit code, and the message of "start-failed"."""
        start, before = len(self.log), self.extra
        self.extra = language.merge_config(before, config)
        self.write_config()
        try:
            self.process = await self.spawn()
            self.reader = asyncio.create_task(self._read())
            async with asyncio.timeout(START_SECONDS):
                code = await self.process.wait()
                await self.reader
        except TimeoutError:
            await self.kill()
            raise ServerError('irisd started, or did not end in %g s' % START_SECONDS)
        finally:
            self.extra = before
            self.write_config()
        return code, next((e.get('message', '') for e in self.log[start:] if e.get('event') == 'start-failed'), None)

    async def _read(self, keep=lambda line: None):
        async for line in self.process.stderr:
            keep(line)
            text = line.decode(errors='replace').rstrip()
            try:
                entry = json.loads(text)
            except ValueError:
                self.noise.append(text)
                continue
            async with self.news:
                self.log.append(entry)
                self.news.notify_all()
        async with self.news:
            self.news.notify_all()

    def is_running(self):
        return self.process is not None and self.process.returncode is None

    async def wait_log(self, event, fields=None, since=0, seconds=5.0):
        """The first entry of this event with these fields from index `since` on."""
        def find():
            for entry in self.log[since:]:
                if entry.get('event') == event and all(str(entry.get(k)) == v for k, v in (fields or {}).items()):
                    return entry
            return None if self.is_running() and not self.reader.done() else False
        try:
            async with asyncio.timeout(seconds), self.news:
                while (entry := find()) is None:
                    await self.news.wait()
        except TimeoutError:
            entry = None
        if not entry:
            why = 'in %g s' % seconds if entry is None else 'before irisd ended'
            raise ServerError('no "%s" in the log %s; the last lines:\n%s' % (event, why, self.tail()))
        return entry

    def tail(self, count=8):
        lines = [json.dumps(e) for e in self.log[-count:]] + self.noise[-60:]
        return '\n'.join('    ' + line for line in lines)

    async def stop(self):
        """Orderly; the exit code, or what went wrong."""
        self.release_database()
        if not self.process:
            return ''
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            return 'irisd did not stop in %g s' % STOP_SECONDS
        finally:
            await self.reader
        return '' if code == 0 else 'irisd ended with %d\n%s' % (code, self.tail())

    async def kill(self):
        self.signal(signal.SIGKILL)
        await self.process.wait()
        await self.reader

    def signal(self, number):
        # Not process.send_signal(): it may reap a process that has just died, and asyncio then misses its exit code.
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):   # it has ended, and asyncio has not told yet
                os.kill(self.process.pid, number)

    def reload(self):
        self.signal(signal.SIGHUP)

    # --- what happened ---

    @staticmethod
    def besides(element):
        return False

    def errors(self, since, allowed=()):
        """Error-level lines and sanitizer reports."""
        found = ['the server logged an error: ' + json.dumps(e) for e in self.log[since:]
                 if e.get('level') == 'error' and e.get('event') not in allowed]
        if any(SANITIZER.search(line) for line in self.noise):
            found.append('a sanitizer reports:\n' + '\n'.join(self.noise[-80:]))
        return found

    # --- accounts: the one place that knows how they are made ---

    async def add_accounts(self, accounts):
        """[(jid, password)]; the server is running."""
        if accounts:
            await self.must('irisctl', 'user', 'import',
                            stdin=''.join('%s %s\n' % account for account in accounts))


class Foreign:
    """Somebody else's server that is already running; `adduser` is a shell command."""

    def __init__(self, address, ports, hosts, adduser):
        self.address, self.ports, self.hosts, self.adduser = address, ports, hosts, adduser
        self.log, self.noise = [], []

    def place(self, host):
        return Place(self.address, self.ports, host)

    def is_running(self):
        return True

    @staticmethod
    def besides(element):
        """Is it something that only this server sends, and may be passed over?"""
        return False

    def errors(self, since, allowed=()):
        return []

    async def add_accounts(self, accounts):
        for jid, password in accounts:
            user, host = jid.split('@')
            process = await asyncio.create_subprocess_shell(
                self.adduser.format(user=user, host=host, password=password),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
            out, _ = await process.communicate()
            if process.returncode:
                raise ServerError('no account %s: %s' % (jid, out.decode(errors='replace')))

    async def stop(self):
        return ''
