# SPDX-License-Identifier: Apache-2.0
"""Faults that strike one server after the other, under load; each returns a line for the report."""
import asyncio
import signal
import time

from campaign import Failed

BACKLOG = 2500          # messages for one who is away: more than xep0198's queue-stanzas


async def strike_again(campaign):
    """Killed while everybody is coming back, offline messages are handed out and writers write."""
    await campaign.server.start()
    async with campaign.load():
        coming = asyncio.gather(*(a.begin() for a in campaign.actors), return_exceptions=True)
        await asyncio.sleep(campaign.dice.uniform(0, 0.6))
        await campaign.server.kill()
        await coming


async def kill(campaign):
    """SIGKILL at any moment, now and then again while the clients come back."""
    after = campaign.dice.uniform(0.05, 1.5)
    async with campaign.load():
        await asyncio.sleep(after)
        await campaign.server.kill()
    again = 0
    while again < 2 and campaign.dice.random() < 0.4:
        await strike_again(campaign)
        again += 1
    await campaign.server.start()
    await campaign.dice.choice(campaign.actors).is_forgotten()
    await campaign.all(lambda a: a.begin())
    await campaign.settle()
    return 'killed after %.2f s%s' % (after, ' and %d times more' % again if again else '')


async def cut(campaign):
    """Connections are reset, or just replaced, and their sessions resumed."""
    until = time.monotonic() + campaign.dice.uniform(3, 5)
    cuts = 0

    async def suffer(actor):
        nonlocal cuts
        while time.monotonic() < until:
            await asyncio.sleep(campaign.dice.uniform(0.02, 0.5))
            if campaign.dice.random() < 0.3:
                actor.leave_open()
            else:
                actor.drop()
                await asyncio.sleep(campaign.dice.choice((0, 0, campaign.dice.uniform(0, 0.3))))
            await actor.resume()
            cuts += 1

    async with campaign.load():
        await campaign.all(suffer)
    await campaign.settle()
    return '%d connections cut and resumed' % cuts


async def leave(campaign):
    """Connections are reset, and their clients come back with new sessions: the old ones' messages are handed on."""
    until = time.monotonic() + campaign.dice.uniform(2, 4)
    left = 0

    async def suffer(actor):
        nonlocal left
        while time.monotonic() < until:
            await asyncio.sleep(campaign.dice.uniform(0.1, 0.6))
            actor.drop()
            await asyncio.sleep(campaign.dice.uniform(0, 0.3))
            await actor.begin()
            left += 1

    async with campaign.load():
        await campaign.all(suffer)
    await campaign.settle()
    return '%d sessions given up' % left


async def absent(campaign):
    """One is away, more comes for him than a session may have unacknowledged, and he returns under load."""
    actor = campaign.dice.choice(campaign.actors)
    await actor.disconnect()
    before = len(campaign.ledger.sends)
    async with campaign.load(actor):
        while len(campaign.ledger.sends) < before + BACKLOG:
            await asyncio.sleep(0.01)
    waiting = len(campaign.ledger.sends) - before
    async with campaign.load():
        await actor.begin()
        await asyncio.sleep(campaign.dice.uniform(0.2, 0.6))
    await campaign.settle()
    return '%d messages waited for one' % waiting


async def stop(campaign):
    """SIGTERM under load."""
    after = campaign.dice.uniform(0.3, 1.0)
    async with campaign.load():
        await asyncio.sleep(after)
        problem = await campaign.server.stop()
    if problem:
        raise Failed(problem)
    untold = [a.user for a in campaign.actors if 'system-shutdown' not in (a.stream_error or '')]
    if untold:
        raise Failed('not told of the shutdown: ' + ', '.join(untold))
    await campaign.server.start()
    await campaign.all(lambda a: a.begin())
    await campaign.settle()
    return 'stopped after %.2f s' % after


async def freeze(campaign):
    """SIGSTOP to the database's server, for a while: what is online is delivered, what is acknowledged is kept."""
    seconds = campaign.dice.uniform(0.5, 4)
    async with campaign.load():
        await asyncio.sleep(campaign.dice.uniform(0.2, 0.8))
        campaign.keeper.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(0.3)
            before, sent = campaign.ledger.acknowledged(), len(campaign.ledger.sends)
            await asyncio.sleep(seconds)
            if campaign.ledger.acknowledged() != before:
                raise Failed('acknowledged by a frozen database')
            if len(campaign.ledger.sends) == sent:
                raise Failed('nobody could write any more')
        finally:
            campaign.keeper.signal(signal.SIGCONT)
        await asyncio.sleep(0.5)
    await campaign.settle()
    return 'frozen for %.2f s' % seconds


async def crash(campaign):
    """SIGKILL to the database's server, under load; after a while it starts again."""
    async with campaign.load():
        await asyncio.sleep(campaign.dice.uniform(0.05, 1))
        await campaign.keeper.crash()
        await asyncio.sleep(campaign.dice.uniform(0, 1))
        await campaign.keeper.start_server()
        await asyncio.sleep(0.5)
    await campaign.settle()
    return 'crashed and recovered'


FAULTS = {'kill': kill, 'cut': cut, 'leave': leave, 'absent': absent, 'stop': stop, 'freeze': freeze, 'crash': crash}
OF_A_SERVER = ('freeze', 'crash')    # of a database that has one
