# SPDX-License-Identifier: Apache-2.0
"""One server with its accounts, the load on it, and the ledger of all that happens."""
import asyncio
import contextlib
import os
import time

from theatre import iris, place

from actor import Actor
from ledger import Ledger

HOST = 'fault.test'
FENCES = 3              # a stanza crosses at most three homes before it is where it belongs
BACKLOG_SECONDS = 10


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


class Campaign:
    def __init__(self, folder, options, dice, config=None, keeper=None):
        self.dice, self.pace, self.keeper = dice, options.pace, keeper
        users = ['u%d' % i for i in range(options.users)]
        self.ledger = Ledger(users)
        self.server = iris.Iris(folder, options.build, place.Authority(os.path.join(folder, 'authority')),
                                [HOST], options.workers, config, keeper)
        self.actors = [Actor(user, self.server.place(HOST), self.ledger, dice) for user in users]
        self.log_read = 0

    async def start(self):
        await self.server.prepare()
        await self.server.start()
        await self.server.add_accounts([(a.address, a.password) for a in self.actors])
        await self.all(lambda a: a.begin())

    async def stop(self):
        for actor in self.actors:
            actor.close()
        problem = await self.server.stop()
        if problem:
            raise Failed(problem)

    async def all(self, step):
        await asyncio.gather(*(step(actor) for actor in self.actors))

    # --- load ---

    def peers(self, actor):
        """Three for each, so that every account has several writers and every pair is busy."""
        at, users = self.actors.index(actor), self.ledger.users
        return [users[(at + step) % len(users)] for step in (1, 2, 5) if step % len(users)]

    @contextlib.asynccontextmanager
    async def load(self, only=None):
        """Everybody writes to his peers, or to one alone."""
        tasks = [asyncio.create_task(a.write_on([only.user] if only else self.peers(a), self.pace))
                 for a in self.actors if a is not only]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        broken = [e for e in ends if e and not isinstance(e, asyncio.CancelledError)]
        if broken:
            raise broken[0]

    # --- the judge ---

    async def settle(self):
        """Everything sent is acknowledged, and everything on its way has come."""
        await self.all(lambda a: a.drain())
        for _ in range(FENCES):
            await self.all(lambda a: a.fence())
        deadline = time.monotonic() + BACKLOG_SECONDS       # a long backlog comes in portions
        while self.ledger.outstanding() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def judge(self, errors=(), anew=False):
        """`errors`: what the server may have logged; None: anything."""
        archives = {a.user: await a.read_archive(anew) for a in self.actors}
        problems = self.ledger.judge(archives)
        problems += self.server.errors(self.log_read, errors) if errors is not None else []
        self.log_read = len(self.server.log)
        if problems:
            raise Failed('\n'.join(problems))
        return '%d messages, %d acknowledged' % (len(self.ledger.sends), self.ledger.acknowledged())
