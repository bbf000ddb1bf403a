// SPDX-License-Identifier: Apache-2.0
// stanza.js signs in over WebSocket or BOSH, adds a contact, shows presence, talks both ways, and shares a picture.
//
// Usage: stanzajs.mjs JID websocket|bosh URL PEER PICTURE; the password comes in IRIS_PASSWORD, the authority in NODE_EXTRA_CA_CERTS.
// Prints what happens, one word first; exits 0 after an answered message and a close.
import * as XMPP from 'stanza'
import { share } from './transfer.mjs'

const [jid, transport, url, peer, picture] = process.argv.slice(2)
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
const service = await client.getUploadService(jid.split('@')[1])
const link = await share(picture, 'image/png', async file => {
  const slot = await client.getUploadSlot(service.jid, { name: file.name, size: file.size, mediaType: file.type })
  return { to: slot.upload.url, headers: Object.fromEntries((slot.upload.headers ?? []).map(h => [h.name, h.value])), link: slot.download }
})
client.sendMessage({ to: message.from, type: 'chat', body: link, links: [{ url: link }] })
say('SHARED')
await client.ping(jid.split('@')[1])          // what was sent before it has arrived
const over = until('disconnected')
// Over BOSH it answers its own close with an error of its own.
if (transport === 'bosh') process.on('uncaughtException', () => process.exit(0))
client.disconnect()
await over
process.exit(0)
