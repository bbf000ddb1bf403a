# SPDX-License-Identifier: Apache-2.0
"""Two PostgreSQL servers, one of which stands by: nothing is committed that it has not carried out as well."""
import asyncio
import os
import shutil

from theatre import store

SYNCHRONOUS = ('synchronous_commit=remote_apply', 'wal_keep_size=64MB', 'max_wal_senders=4')
SECONDS = 30.0


class Pair(store.Postgresql):
    """The server that writes is `primary`; the base class's commands go to it."""

    def __init__(self):
        self.primary = store.Postgresql(SYNCHRONOUS)
        self.standby = store.Postgresql(SYNCHRONOUS)
        self.folders = [self.primary.folder, self.standby.folder]

    def hosts(self):
        return ','.join(self.folders)

    async def make(self, name):
        await self.primary.make(name)

    async def start(self):
        await self.primary.start()
        await self.add_standby()

    async def stop(self):
        await self.primary.stop()
        await self.standby.stop()

    async def ask(self, sql):
        """One value of the primary."""
        process = await asyncio.create_subprocess_exec(
            *self.primary.as_user, os.path.join(self.primary.programs, 'psql'), '-XAtq', '-h', self.primary.folder,
            '-U', 'postgres', '-d', 'postgres', '-c', sql, cwd=self.primary.folder,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode().strip()

    async def until(self, sql, wanted):
        async with asyncio.timeout(SECONDS):
            while await self.ask(sql) != wanted:
                await asyncio.sleep(0.05)

    async def add_standby(self):
        """A new copy of the primary, which nothing is committed without from now on."""
        shutil.rmtree(self.standby.folder + '/data', ignore_errors=True)
        await self.standby.must('pg_basebackup', '-D', self.standby.folder + '/data', '-h', self.primary.folder,
                                '-U', 'postgres', '-R', '-c', 'fast', '--no-sync')
        await self.standby.start_server()
        await self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await self.ask('SELECT pg_reload_conf()')
        await self.until('SELECT sync_state FROM pg_stat_replication', 'sync')

    async def change_over(self, crash):
        """The primary ends, killed or in order; the one that stood by writes from now on, alone."""
        if crash:
            await self.primary.crash()
        else:
            await self.primary.stop_server()
        self.primary, self.standby = self.standby, self.primary
        await self.primary.must('pg_ctl', 'promote', '-D', self.primary.folder + '/data', '-w')
        await self.ask("ALTER SYSTEM SET synchronous_standby_names = ''")
        await self.ask('SELECT pg_reload_conf()')
