# SPDX-License-Identifier: Apache-2.0
"""Faults that strike one server after the other, under load; each returns a line for the report."""
import asyncio
import os
import signal
import sqlite3
import time

from theatre.client import Client

from campaign import HOST, Failed

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


async def signed_in(campaign, user):
    """A client without a ledger; None: it is not let in."""
    client = Client(user, campaign.server.place(HOST), lambda element: element.tag.endswith('}message'))
    client.user, client.password = user, user + '-secret'
    await client.open(direct=True)
    await client.open_stream()
    if await client.try_authenticate() is not None:
        client.connection.drop()
        return None
    await client.open_stream()
    await client.bind('here')
    return client


def orphans(campaign):
    """Entries of the log whose account there is not; on PostgreSQL nobody looks."""
    path = os.path.join(campaign.server.folder, 'iris.db')
    if not os.path.exists(path):
        return 0
    with sqlite3.connect('file:%s?mode=ro' % path, uri=True) as db:
        return db.execute('SELECT count(*) FROM log WHERE reader NOT IN (SELECT id FROM accounts)').fetchone()[0]


async def erase(campaign):
    """SIGKILL while an account with a long archive is deleted: it is there with all it had, or it goes."""
    user = 'gone%d' % campaign.dice.randrange(10 ** 9)
    address = '%s@%s' % (user, HOST)
    await campaign.server.add_accounts([(address, user + '-secret')])
    client = await signed_in(campaign, user)
    for i in range(2000):
        client.send_stanza("<message type='chat' to='%s'><body>%d</body></message>" % (address, i))
    await client.ask("<iq type='get' id='last'><query xmlns='jabber:iq:roster'/></iq>", 'last')
    client.connection.close()
    since = len(campaign.server.log)
    deleting = asyncio.create_task(campaign.server.run('irisctl', 'user', 'delete', '--yes', address))
    await campaign.server.wait_log('signed-in', since=since, seconds=10)
    await asyncio.sleep(campaign.dice.uniform(0, 0.2))
    await campaign.server.kill()
    await deleting
    await campaign.server.start()
    await campaign.all(lambda a: a.begin())
    await campaign.settle()
    client = await signed_in(campaign, user)
    if client:
        client.connection.drop()
        return 'killed before it began'
    async with asyncio.timeout(10):
        while (await campaign.server.run('irisctl', 'user', 'add', address, stdin='A-new-1-of-the-name'))[0]:
            await asyncio.sleep(0.1)
        while orphans(campaign):
            await asyncio.sleep(0.1)
    return 'killed meanwhile, and finished'


FAULTS = {'kill': kill, 'cut': cut, 'leave': leave, 'absent': absent, 'stop': stop, 'freeze': freeze, 'crash': crash,
          'erase': erase}
OF_A_SERVER = ('freeze', 'crash')    # of a database that has one
