# SPDX-License-Identifier: Apache-2.0
"""A member of a bubble with slixmpp's own plug-ins, which does what it is told: in a line of stdin [WHAT, ARGUMENT…] in
JSON, out a line `DONE RESULT` or `FAILED WHY`; until stdin ends.
    slixmpp_member.py JID HOST PORT AUTHORITY     (password in IRIS_PASSWORD)"""
import asyncio
import json
import logging
import os
import sys

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout

BOOKMARKS = 'urn:xmpp:bookmarks:1'
SECONDS = 20
PLUGINS = ('xep_0004', 'xep_0030', 'xep_0045', 'xep_0050', 'xep_0059', 'xep_0060', 'xep_0115', 'xep_0163', 'xep_0313')


class Member(slixmpp.ClientXMPP):
    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.here = asyncio.get_event_loop().create_future()
        self.said, self.refused = [], []    # in the order in which they came
        self.bookmarks = set()
        self.news = asyncio.Condition()
        for plugin in PLUGINS:
            self.register_plugin(plugin)
        self.add_event_handler('session_start', self.on_start)
        self.add_event_handler('failed_auth', lambda _: self.here.set_exception(ValueError('not let in')))
        self.add_event_handler('groupchat_message', self.on_said)
        self.add_event_handler('message_error', self.on_refused)
        for event in ('pubsub_publish', 'pubsub_retract'):
            self.add_event_handler(event, self.on_bookmark)

    async def on_start(self, _):
        self['xep_0163'].add_interest(BOOKMARKS)    # which is kept by the address that it has now
        await self['xep_0115'].update_caps(broadcast=False)
        self.send_presence()
        self.here.set_result(None)

    async def on_said(self, message):
        await self.tell(lambda: message['body'] and self.said.append(message['body']))

    async def on_refused(self, message):
        await self.tell(lambda: self.refused.append(message['error']['condition']))

    async def on_bookmark(self, message):
        items = message.xml.find('.//{*}items')
        if items.get('node') != BOOKMARKS:
            return
        for item in items:
            change = self.bookmarks.discard if item.tag.endswith('retract') else self.bookmarks.add
            await self.tell(lambda: change(item.get('id')))     # pylint: disable=cell-var-from-loop

    async def tell(self, change):
        async with self.news:
            change()
            self.news.notify_all()

    async def until(self, predicate, what):
        try:
            async with asyncio.timeout(SECONDS), self.news:
                await self.news.wait_for(predicate)
        except TimeoutError:
            raise ValueError('%s; it knows %r' % (what, (self.said, self.refused, sorted(self.bookmarks))))

    # --- what it can be told to do ---

    async def command(self, node, fields):
        """As a person does it: the form is asked for, filled in, sent."""
        domain = self.boundjid.domain
        asked = await self['xep_0050'].send_command(domain, node)
        session = asked['command']['sessionid']
        empty = {field['var'] for field in asked['command']['form'].get_fields().values()}
        if not set(fields) <= empty:
            raise ValueError('the form of %s has only %s' % (node, sorted(empty)))
        form = self['xep_0004'].make_form(ftype='submit')
        for name, value in fields.items():
            form.add_field(var=name, value=value)
        done = await self['xep_0050'].send_command(domain, node, action='complete', sessionid=session, payload=[form])
        if done['command']['status'] != 'completed':
            raise ValueError('%s is %s' % (node, done['command']['status']))

    async def enters(self, room, nick):
        await self['xep_0045'].join_muc_wait(slixmpp.JID(room), nick, timeout=SECONDS)

    async def says(self, room, text):
        self.send_message(mto=room, mbody=text, mtype='groupchat')

    async def sees(self, text):
        await self.until(lambda: text in self.said, 'it does not hear ' + text)

    async def is_refused(self, condition):
        await self.until(lambda: condition in self.refused, 'nothing is refused as ' + condition)

    async def order(self, texts):
        return [text for text in self.said if text in texts]

    async def history(self, room):
        return [message['mam_result']['forwarded']['stanza']['body']
                async for message in self['xep_0313'].iterate(jid=slixmpp.JID(room))]

    async def has_bookmark(self, room):
        await self.until(lambda: room in self.bookmarks, 'no bookmark comes for ' + room)

    async def has_no_bookmark(self, room):
        """Neither of what it was told, nor of what it reads."""
        await self.until(lambda: room not in self.bookmarks, 'the bookmark stays: ' + room)
        kept = await self['xep_0060'].get_items(self.boundjid.bare, BOOKMARKS)
        if room in [item['id'] for item in kept['pubsub']['items']]:
            raise ValueError('the bookmark can be read: ' + room)


def why(error):
    if isinstance(error, IqError):
        return '%s: %s' % (error.iq['error']['condition'], error.iq['error']['text'])
    return 'no answer' if isinstance(error, IqTimeout) else str(error) or repr(error)


async def obey(member):
    lines = asyncio.StreamReader()
    await asyncio.get_event_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print('DONE null', flush=True)
    async for line in lines:
        what, *arguments = json.loads(line)
        try:
            print('DONE', json.dumps(await getattr(member, what)(*arguments)), flush=True)
        except (ValueError, IqError, IqTimeout, TimeoutError, slixmpp.exceptions.PresenceError) as error:
            print('FAILED', why(error).replace('\n', ' '), flush=True)


async def main():
    if os.environ.get('IRIS_DEBUG'):
        logging.basicConfig(level=logging.DEBUG)
    jid, host, port, authority = sys.argv[1:]
    member = Member(jid, os.environ['IRIS_PASSWORD'])
    member.ca_certs = authority
    member.connect((host, int(port)), force_starttls=True)
    await asyncio.wait_for(member.here, SECONDS)
    await obey(member)
    await member.disconnect()

asyncio.get_event_loop().run_until_complete(main())
