# SPDX-License-Identifier: Apache-2.0
"""Where the servers of a run keep their data: a file each, or a database each in a private PostgreSQL."""
import asyncio
import glob
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile

START_SECONDS = 60.0


class Sqlite:
    def config(self, name):
        return {'vault': {'engine': ' sqlite', 'master-key': ' master.key'}, 'sqlite': {'path': ' iris.db'}}

    async def start(self):
        pass

    async def make(self, name):
        pass

    def hold(self, folder):
        holder = sqlite3.connect(os.path.join(folder, 'iris.db'), timeout=5.0, isolation_level=None)
        holder.execute('BEGIN IMMEDIATE')
        return holder               # close() undoes it

    async def stop(self):
        pass


class Holder:
    def __init__(self, psql):
        self.psql = psql

    def close(self):
        self.psql.communicate()     # the end of its input ends it, and undoes what it began


class Postgresql:
    """One cluster for the run, from Debian's package; reached through a socket in its own folder only."""

    def __init__(self, settings=(), initdb=()):
        found = sorted(glob.glob('/usr/lib/postgresql/*/bin/initdb'))
        if not found:
            raise SystemExit('run: PostgreSQL is not installed (Debian: postgresql)')
        self.programs = os.path.dirname(found[-1])
        self.folder = tempfile.mkdtemp(prefix='postgresql-')     # short: the path of a socket is limited
        self.settings = [word for setting in settings for word in ('-c', setting)]
        self.initdb = initdb
        self.data = self.folder + '/data'
        self.process = None
        self.as_user = []
        if os.geteuid() == 0:
            self.as_user = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', '--pdeathsig=INT']
        self.owns(self.folder)

    def owns(self, folder):
        if self.as_user:
            user = pwd.getpwnam('postgres')
            os.chown(folder, user.pw_uid, user.pw_gid)

    def config(self, name):
        return {'vault': {'engine': ' postgresql', 'master-key': ' master.key'},
                'postgresql': {'connect': ' "host=%s user=postgres dbname=%s"' % (self.hosts(), self.database(name))}}

    def hosts(self):
        return self.folder

    @staticmethod
    def database(name):
        return name.replace('-', '_')

    async def run(self, program, *args):
        return await asyncio.create_subprocess_exec(
            *self.as_user, os.path.join(self.programs, program), *args, cwd=self.folder, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=open(self.folder + '/log', 'a', encoding='utf-8'),
            stderr=asyncio.subprocess.STDOUT)

    async def must(self, program, *args):
        process = await self.run(program, *args)
        if await process.wait():
            with open(self.folder + '/log', encoding='utf-8') as f:
                raise SystemExit('run: %s: %s' % (program, f.read()[-2000:]))

    async def start(self):
        await self.must('initdb', '-D', self.data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8',
                        '--locale=C', '--no-sync', *self.initdb)
        await self.start_server()

    def is_running(self):
        return self.process is not None and self.process.returncode is None

    async def start_server(self):
        async with asyncio.timeout(START_SECONDS):
            while await (await self.run('pg_isready', '-q', '-h', self.folder)).wait():
                # After a SIGKILL it does not start before the last child of the killed one has gone.
                if not self.is_running():
                    self.process = await self.run('postgres', '-D', self.data, '-k', self.folder, '-c',
                                                  'listen_addresses=', '-c', 'max_connections=400', *self.settings)
                await asyncio.sleep(0.05)

    def signal(self, number):
        """To the server and all of its processes. The one that makes new ones holds still meanwhile."""
        os.kill(self.process.pid, signal.SIGSTOP)
        with open('/proc/%d/task/%d/children' % (self.process.pid, self.process.pid), encoding='ascii') as f:
            children = f.read().split()
        for pid in [*map(int, children), self.process.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    async def crash(self):
        self.signal(signal.SIGKILL)
        await self.process.wait()

    async def stop_server(self):
        """Fast: what is connected is told, and everything is written."""
        if self.is_running():
            self.process.send_signal(signal.SIGINT)
            await self.process.wait()

    async def make(self, name):
        await self.must('createdb', '-h', self.folder, '-U', 'postgres', self.database(name))

    def hold(self, folder):
        """The engine's marks are locked, with which each of its transactions begins."""
        psql = subprocess.Popen(
            [*self.as_user, os.path.join(self.programs, 'psql'), '-X', '-h', self.folder, '-U', 'postgres',
             self.database(os.path.basename(folder))],
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        psql.stdin.write(b'BEGIN; LOCK TABLE vault_writers IN EXCLUSIVE MODE;\n')
        psql.stdin.flush()
        while psql.stdout.readline() != b'LOCK TABLE\n':
            if psql.poll() is not None:
                raise OSError('psql ended')
        return Holder(psql)

    async def stop(self):
        await self.stop_server()
        shutil.rmtree(self.folder, ignore_errors=True)
