# SPDX-License-Identifier: Apache-2.0
"""Faults for which a server, or a database, of its own is made; each yields a line for the report after each round."""
import asyncio
import calendar
import contextlib
import os
import subprocess
import time

from theatre import iris, store
from theatre.client import StageError
from theatre.clock import Clock, preloaded

from campaign import Campaign, Failed, Skipped
from pair import Pair

ROOM = 1 << 20          # what is left on a small disk when the load begins
DISKS = {'sqlite': 24 << 20, 'postgresql': 96 << 20}
MINUTE, HOUR, DAY = 60, 3600, 86400
STEPS = (2 * MINUTE, 50 * MINUTE, 5 * HOUR, 40 * DAY)
CLOCK_PRECISION = 10    # seconds
TOLD_SECONDS = 30.0


@contextlib.asynccontextmanager
async def campaign_of(options, dice, folder, config=None, keeper=None, environment=None):
    campaign = Campaign(folder, options, dice, config, keeper)
    campaign.server.environment = environment or {}
    try:
        await campaign.start()
        yield campaign
        await campaign.stop()
    except (Failed, StageError, iris.ServerError, OSError, TimeoutError) as error:
        error.campaign = campaign
        raise
    finally:
        await campaign.server.stop()


async def progress(campaign, seconds=TOLD_SECONDS):
    """Until something more is acknowledged."""
    before, deadline = campaign.ledger.acknowledged(), time.monotonic() + seconds
    while campaign.ledger.acknowledged() == before:
        if time.monotonic() > deadline:
            raise Failed('nothing was acknowledged for %g s' % seconds)
        await asyncio.sleep(0.05)


# --- a full disk ---

@contextlib.contextmanager
def small_disk(folder, size, keeper):
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=%d,mode=0700' % size, 'none', folder],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Skipped('no small file system: ' + done.stdout.decode(errors='replace').strip())
    try:
        if keeper:
            keeper.owns(folder)
        yield
    finally:
        subprocess.run(['umount', folder], check=False)


def fill_disk(path):
    """All but ROOM."""
    state = os.statvfs(os.path.dirname(path))
    with open(path, 'wb') as f:
        f.write(b'\0' * max(0, state.f_bavail * state.f_frsize - ROOM))


FULL = {'sqlite': 'commit failed, trying again', 'postgresql': 'writes-wait'}
ROOM_AGAIN = {'sqlite': 'commits succeed again', 'postgresql': 'writes-go-on'}


async def is_full(campaign, engine, mark):
    """Nothing can be written, and nothing is acknowledged."""
    await campaign.server.wait_log(FULL[engine], since=mark, seconds=20)
    await asyncio.sleep(0.5)
    before = campaign.ledger.acknowledged()
    await asyncio.sleep(0.5)
    if campaign.ledger.acknowledged() != before:
        raise Failed('acknowledged on a full disk')


async def make_room(campaign, ballast):
    os.unlink(ballast)
    if campaign.keeper:     # it may have ended itself: it could not even write what it recovers from
        await campaign.keeper.start_server()


async def fill_and_go_on(campaign, engine, ballast):
    """Half of the clients lose their connections meanwhile, and resume."""
    mark = len(campaign.server.log)
    fill_disk(ballast)
    async with campaign.load():
        await is_full(campaign, engine, mark)
        half = campaign.actors[::2]
        for actor in half:
            actor.drop()
        resuming = asyncio.gather(*(a.resume() for a in half))
        await asyncio.sleep(0.5)
        await make_room(campaign, ballast)
        await resuming
        await campaign.server.wait_log(ROOM_AGAIN[engine], since=mark, seconds=TOLD_SECONDS)
        await asyncio.sleep(0.5)
    return 'full and empty again'


async def fill_and_kill(campaign, engine, ballast):
    """SIGKILL while it is full. A server that is started then may serve or refuse, but it harms nothing."""
    mark = len(campaign.server.log)
    fill_disk(ballast)
    async with campaign.load():
        await is_full(campaign, engine, mark)
        await campaign.server.kill()
    try:
        await campaign.server.start()
        started = 'started'
        await campaign.server.kill()
    except iris.ServerError:
        started = 'refused to start'
        await campaign.server.kill()
    await make_room(campaign, ballast)
    await campaign.server.start()
    await campaign.all(lambda a: a.begin())
    return 'killed while full, %s on the full disk' % started


@contextlib.asynccontextmanager
async def on_small_disk(options, dice, folder):
    """(campaign, the file that fills the disk)"""
    if options.engine == 'sqlite':
        disk = os.path.join(folder, 'disk')
        with small_disk(disk, DISKS['sqlite'], None):
            async with campaign_of(options, dice, os.path.join(folder, 'small'),
                                   {'sqlite': {'path': ' %s/iris.db' % disk}}) as campaign:
                yield campaign, os.path.join(disk, 'ballast')
        return
    keeper = store.Postgresql(('max_wal_size=8MB', 'min_wal_size=2MB', 'shared_buffers=16MB'), ('--wal-segsize=1',))
    try:
        with small_disk(keeper.folder + '/disk', DISKS['postgresql'], keeper):
            keeper.data = keeper.folder + '/disk/data'
            await keeper.start()
            try:
                async with campaign_of(options, dice, os.path.join(folder, 'small'), keeper=keeper) as campaign:
                    yield campaign, keeper.folder + '/disk/ballast'
            finally:
                await keeper.stop_server()
    finally:
        await keeper.stop()


async def full(options, dice, folder):
    """The disk fills up under load: nothing is acknowledged any more until there is room again, and nothing is lost."""
    errors = {FULL['sqlite']}
    async with on_small_disk(options, dice, folder) as (campaign, ballast):
        for strike in fill_and_go_on, fill_and_kill:
            text = await strike(campaign, options.engine, ballast)
            await campaign.settle()
            yield '%s, %s' % (text, await campaign.judge(errors))
            errors = None       # of a start that was refused there may be any


# --- the clock ---

async def server_time(actor):
    """XEP-0202: what the server believes."""
    actor.pings += 1
    ident = 'time-%d' % actor.pings
    answer = await actor.ask("<iq type='get' id='%s' to='%s'><time xmlns='urn:xmpp:time'/></iq>" % (
        ident, actor.host), ident)
    utc = answer.find('.//{urn:xmpp:time}utc').text
    return calendar.timegm(time.strptime(utc[:19], '%Y-%m-%dT%H:%M:%S'))


async def sees(campaign, clock):
    """Until the server has seen the step."""
    deadline = time.monotonic() + TOLD_SECONDS
    while True:
        off = await server_time(next(a for a in campaign.actors if a.writing)) - time.time()
        if abs(off - clock.offset) < CLOCK_PRECISION:
            return
        if time.monotonic() > deadline:
            raise Failed('the clock is %d s off, and should be %d' % (off, clock.offset))
        await asyncio.sleep(0.1)


async def step(campaign, clock, down):
    """To another time, while it runs or while it is dead; from a wrong time right again, or past it."""
    seconds = campaign.dice.choice(STEPS)
    if clock.offset and campaign.dice.random() < 0.5:
        seconds = -clock.offset         # right again
    elif clock.offset > 0 or not clock.offset and campaign.dice.random() < 0.5:
        seconds = -seconds
    if down:
        await campaign.server.kill()
        clock.step(seconds)
        await campaign.server.start()
        await campaign.all(lambda a: a.begin())
        await sees(campaign, clock)
    else:
        half = campaign.actors[::2]
        for actor in half:
            actor.drop()        # the time that a session waits for its client is no matter of the clock
        clock.step(seconds)
        await sees(campaign, clock)
        await asyncio.gather(*(a.resume() for a in half))
    return '%s%+.4g h' % ('killed ' if down else '', seconds / HOUR)


async def clock_steps(options, dice, folder):
    """The clock of irisd steps back and forward, by minutes, hours and 40 days; also while irisd is dead."""
    if not preloaded():
        raise Skipped('faketime is not installed')
    keeper = store.Postgresql() if options.engine == 'postgresql' else store.Sqlite()
    await keeper.start()
    os.makedirs(os.path.join(folder, 'clock'))
    clock = Clock(os.path.join(folder, 'clock'))
    try:
        async with campaign_of(options, dice, os.path.join(folder, 'stepping'), keeper=keeper,
                               environment=clock.environment) as campaign:
            for _ in range(options.others):
                steps = []
                async with campaign.load():
                    for _ in range(3):
                        await asyncio.sleep(dice.uniform(0.1, 0.5))
                        steps.append(await step(campaign, clock, dice.random() < 0.4))
                        await progress(campaign)
                await campaign.settle()
                yield '%s, %s' % (', '.join(steps), await campaign.judge())
            yield 'read anew, ' + await campaign.judge(anew=True)
    finally:
        await keeper.stop()


# --- another database server takes over ---

async def failover(options, dice, folder):
    """The primary is killed, or stopped, under load; the standby is promoted; irisd goes on by itself. Then back."""
    pair = Pair()
    try:
        await pair.start()
        async with campaign_of(options, dice, os.path.join(folder, 'pair'), keeper=pair) as campaign:
            for number in range(2 * options.others):
                crash = number == 0 or dice.random() < 0.7
                async with campaign.load():
                    await asyncio.sleep(dice.uniform(0.3, 1))
                    began = time.monotonic()
                    await pair.change_over(crash)
                    await progress(campaign)
                    lasted = time.monotonic() - began
                    await asyncio.sleep(0.3)
                    await pair.add_standby()
                    await progress(campaign)
                await campaign.settle()
                yield '%s, the other writes after %.1f s, %s' % (
                    'killed' if crash else 'stopped', lasted, await campaign.judge())
            yield 'read anew, ' + await campaign.judge(anew=True)
    finally:
        await pair.stop()


APART = {'full': full, 'clock': clock_steps, 'failover': failover}
OF_POSTGRESQL = ('failover',)
