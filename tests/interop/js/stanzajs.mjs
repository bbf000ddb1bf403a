// SPDX-License-Identifier: Apache-2.0
// stanza.js signs in over WebSocket or BOSH, adds a contact, shows presence, and talks both ways.
//
// Usage: stanzajs.mjs JID websocket|bosh URL PEER; the password comes in IRIS_PASSWORD, the authority in NODE_EXTRA_CA_CERTS.
// Prints what happens, one word first; exits 0 after an answered message and a close.
import * as XMPP from 'stanza'

const [jid, transport, url, peer] = process.argv.slice(2)
const say = (...words) => console.log(...words)
const fail = why => { say('FAILED', why); process.exit(1) }
setTimeout(() => fail('in time'), 25000).unref()

const client = XMPP.createClient({
  jid, password: process.env.IRIS_PASSWORD, server: jid.split('@')[1], resource: 'js', autoReconnect: false,
  transports: { websocket: transport === 'websocket' && url, bosh: transport === 'bosh' && url }
})
const until = event => new Promise(resolve => client.once(event, resolve))

if (process.env.IRIS_DEBUG) client.on('raw', (way, text) => console.error(Date.now() % 100000, way, text))
client.on('auth:failed', () => fail('to sign in'))
client.on('subscribe', presence => client.acceptSubscription(presence.from))
client.on('subscribed', () => say('SUBSCRIBED'))

const started = until('session:started')
const heard = until('chat')
client.connect()
await started
say('CONNECTED', client.jid)
await client.getRoster()
await client.updateRosterItem({ jid: peer, name: 'Peer' })
say('ROSTER')
client.sendPresence()
await client.ping(jid.split('@')[1])
client.subscribe(peer)
const message = await heard
say('GOT', message.body)
client.sendMessage({ to: message.from, type: 'chat', body: 'hello from stanza.js <&>' })
await client.ping(jid.split('@')[1])          // what was sent before it has arrived
const over = until('disconnected')
// Over BOSH it answers its own close with an error of its own.
if (transport === 'bosh') process.on('uncaughtException', () => process.exit(0))
client.disconnect()
await over
process.exit(0)
