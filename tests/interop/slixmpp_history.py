# SPDX-License-Identifier: Apache-2.0
"""Reads its history back with slixmpp's own plug-ins for XEP-0059, XEP-0313 and XEP-0441: forwards, backwards, with
whom, between which times, what is kept.
    slixmpp_history.py JID HOST PORT AUTHORITY PEER COUNT     (password in IRIS_PASSWORD)
PEER has sent the messages "history 1" … "history COUNT"."""
import asyncio
import os
import sys

import slixmpp

PAGE = 7


class Reader(slixmpp.ClientXMPP):
    def __init__(self, jid, password, peer, count):
        super().__init__(jid, password)
        self.peer, self.wanted = peer, ['history %d' % (n + 1) for n in range(count)]
        self.over = asyncio.get_event_loop().create_future()
        for plugin in ('xep_0059', 'xep_0313', 'xep_0441'):
            self.register_plugin(plugin)
        self.add_event_handler('session_start', self.on_start)
        self.add_event_handler('failed_auth', lambda _: self.over.set_exception(ValueError('not let in')))

    async def on_start(self, _):
        try:
            await self.read_back()
            self.over.set_result(None)
        except Exception as error:      # told by main()
            self.over.set_exception(error)

    async def history(self, **query):
        """[(body, time)]"""
        found = []
        async for message in self['xep_0313'].iterate(rsm={'max': PAGE}, **query):
            forwarded = message['mam_result']['forwarded']
            found.append((forwarded['stanza']['body'], forwarded['delay']['stamp']))
        return found

    def check(self, word, found, wanted):
        if found != wanted:
            raise ValueError('%s: %r instead of %r' % (word, found, wanted))
        print(word, flush=True)

    async def read_back(self):
        all_of_it = await self.history()
        self.check('FORWARDS', [body for body, _ in all_of_it], self.wanted)
        backwards = await self.history(reverse=True)
        self.check('BACKWARDS', [body for body, _ in reversed(backwards)], self.wanted)
        self.check('WITH', [body for body, _ in await self.history(with_jid=self.peer)], self.wanted)
        self.check('WITHOUT', await self.history(with_jid='nobody@' + self.boundjid.domain), [])
        begin, end = all_of_it[len(all_of_it) // 3][1], all_of_it[-2][1]
        self.check('BETWEEN', await self.history(start=begin, end=end),
                   [entry for entry in all_of_it if begin <= entry[1] <= end])
        fields = await self['xep_0313'].get_fields()
        self.check('FIELDS', {'with', 'start', 'end'} <= set(fields.get_fields()), True)
        first = (await self['xep_0313'].get_archive_metadata())['mam_metadata']['start']['timestamp']
        self.check('METADATA', first, all_of_it[0][1])
        await self['xep_0441'].set_preferences('roster', always=[slixmpp.JID(self.peer)], never=[])
        default, always, never = await self['xep_0441'].get_preferences()
        self.check('PREFERENCES', (default, [str(jid) for jid in always], list(never)), ('roster', [self.peer], []))


async def main():
    jid, host, port, authority, peer, count = sys.argv[1:]
    reader = Reader(jid, os.environ['IRIS_PASSWORD'], peer, int(count))
    reader.ca_certs = authority
    reader.connect((host, int(port)), force_starttls=True)
    await asyncio.wait_for(reader.over, 25)
    await reader.disconnect()

asyncio.get_event_loop().run_until_complete(main())
