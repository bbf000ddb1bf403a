#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""slixmpp signs in over TLS, adds a contact, shows presence, and talks both ways.

Usage: slixmpp_client.py JID HOST PORT starttls|tls CA-FILE PEER; the password comes in IRIS_PASSWORD.
Prints what happens, one word first; exits 0 after an answered message and an orderly close.
"""
import asyncio
import os
import sys

import slixmpp


def say(*words):
    print(*words, flush=True)


class Visitor(slixmpp.ClientXMPP):
    def __init__(self, jid, password, peer):
        super().__init__(jid, password)
        self.peer = peer
        self.over = asyncio.get_event_loop().create_future()
        for plugin in ('xep_0030', 'xep_0198', 'xep_0199'):
            self.register_plugin(plugin)
        self.add_event_handler('session_start', self.on_start)
        self.add_event_handler('message', self.on_message)
        self.add_event_handler('presence_subscribed', lambda p: say('SUBSCRIBED', p['from']))
        self.add_event_handler('failed_auth', lambda _: self.end('FAILED'))
        self.add_event_handler('disconnected', lambda _: self.end('CLOSED'))

    def end(self, word):
        say(word)
        if not self.over.done():
            self.over.set_result(word)

    async def on_start(self, _):
        say('CONNECTED', self.boundjid)
        await self.get_roster()
        await self.update_roster(self.peer, name='Peer')
        say('ROSTER')
        self.send_presence()
        self.send_presence_subscription(pto=self.peer)
        rtt = await self['xep_0199'].ping(self.boundjid.domain, timeout=5)
        say('PING', rtt >= 0)

    def on_message(self, message):
        if message['type'] in ('chat', 'normal') and message['body']:
            say('GOT', message['body'])
            message.reply('hello from slixmpp <&>').send()
            self.disconnect(wait=2)


async def main():
    jid, host, port, mode, authority, peer = sys.argv[1:]
    visitor = Visitor(jid, os.environ['IRIS_PASSWORD'], peer)
    visitor.ca_certs = authority
    visitor.connect((host, int(port)), use_ssl=mode == 'tls', force_starttls=mode != 'tls', disable_starttls=mode == 'tls')
    word = await asyncio.wait_for(visitor.over, 60)
    return word != 'CLOSED'

sys.exit(asyncio.get_event_loop().run_until_complete(main()))
