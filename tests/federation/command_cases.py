# SPDX-License-Identifier: Apache-2.0
"""What operators see of other servers, and do about them: `irisctl federation …`."""
import asyncio
import json
import urllib.request

from cases import PING, case, need


async def ask(server, *words):
    """The rows as dictionaries, and the note."""
    answer = json.loads(await server.must('irisctl', '--json', 'federation', *words))
    return answer.get('rows', []), answer.get('note', '')


async def metric(server, name):
    url = 'http://127.0.0.1:%d/metrics' % server.ports['admin']
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    return next(int(line.split()[-1]) for line in text.splitlines() if line.startswith(name + ' '))


@case
async def operators_see_links(bed):
    """Links with their TLS and counts, a page at a time; closed ones come back with what comes next."""
    bed.romeo.say(bed.juliet.jid, 'seen')
    await bed.juliet.message('seen')
    rows, _ = await ask(bed.a, 'list', '--domain', 'b.example')
    out = [row for row in rows if row['link'] != 'in']
    need(out and out[0]['ours'] == 'a.example' and out[0]['tls'] == 'TLSv1.3' and int(out[0]['out']) > 0,
         'the link is listed as %s' % rows)
    rows, note = await ask(bed.a, 'list', '--limit', '1')
    need(len(rows) == 1, 'a page of one has %d' % len(rows))
    every, _ = await ask(bed.a, 'list')
    seen = [rows[0]]
    while '--after' in note:
        rows, note = await ask(bed.a, 'list', '--limit', '1', '--after', note.split('"')[1])
        seen += rows
    names = [[(row['domain'], row['ours'], row['link']) for row in found] for found in (seen, every)]
    need(names[0] == names[1], 'pages %s, whole %s' % tuple(names))
    _, note = await ask(bed.a, 'close', 'b.example')
    need('closed' in note, 'close says %s' % note)
    bed.romeo.say(bed.juliet.jid, 'anew')
    await bed.juliet.message('anew')
    code, _, err = await bed.a.run('irisctl', 'federation', 'close', 'nobody.example')
    need(code == 1 and 'no link' in err, 'close of nobody: %d %s' % (code, err))


@case
async def operators_see_failures(bed):
    """What waits for a server that is down, why, and that it is dialled when they say so."""
    bed.romeo.send_stanza(PING % ('d1', 'silent.example'))
    await bed.a.wait_log('unreachable', {'domain': 'silent.example'})
    rows, note = await ask(bed.a, 'show', 'silent.example')
    need(rows and rows[0]['ours'] == 'a.example' and rows[0]['link'] == 'none' and 'Failures in a row' in note,
         'show says %s %s' % (rows, note))
    need(await metric(bed.a, 'iris_federation_unreachable') > 0, 'the metric knows of nobody')
    since = len(bed.a.log)
    await ask(bed.a, 'retry', 'silent.example')
    await bed.a.wait_log('unreachable', {'domain': 'silent.example'}, since=since)
    await bed.romeo.error('d1', 'remote-server-timeout')
    _, note = await ask(bed.a, 'show', 'denied.example')
    need('Not talked to' in note and 'lately' in note, 'show of a denied domain says %s' % note)
    code, _, err = await bed.a.run('irisctl', 'federation', 'retry', 'never.example')
    need(code == 1 and 'lately' in err, 'retry of nobody: %d %s' % (code, err))
