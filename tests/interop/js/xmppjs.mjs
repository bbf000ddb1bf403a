// SPDX-License-Identifier: Apache-2.0
// @xmpp/client signs in over WebSocket, adds a contact, shows presence, talks both ways, resumes after a cut,
// and shares a picture.
//
// Usage: xmppjs.mjs JID URL PEER PICTURE; the password comes in IRIS_PASSWORD, the authority in NODE_EXTRA_CA_CERTS.
// Prints what happens, one word first; exits 0 after an answered message and an orderly close.
import { webcrypto } from 'node:crypto'
import WebSocket from 'ws'
import { share } from './transfer.mjs'
globalThis.crypto ??= webcrypto               // Node.js has it since 20, and the next since 22
globalThis.WebSocket ??= WebSocket
const { client, xml } = await import('@xmpp/client')

const [jid, service, peer, picture] = process.argv.slice(2)
const [username, domain] = jid.split('@')
const say = (...words) => console.log(...words)
const fail = why => { say('FAILED', why); process.exit(1) }
setTimeout(() => fail('in time'), 25000).unref()

const xmpp = client({ service, domain, username, password: process.env.IRIS_PASSWORD, resource: 'js' })
xmpp.on('error', error => say('ERROR', error))

const waiting = []
xmpp.on('stanza', stanza => {
  const at = waiting.findIndex(one => one.fits(stanza))
  if (at >= 0) waiting.splice(at, 1)[0].resolve(stanza)
})
const until = fits => new Promise(resolve => waiting.push({ fits, resolve }))
const from = (stanza, type) => stanza.is('presence') && stanza.attrs.type === type && stanza.attrs.from.startsWith(peer)

async function befriend () {
  await xmpp.iqCaller.get(xml('query', 'jabber:iq:roster'))
  await xmpp.iqCaller.set(xml('query', 'jabber:iq:roster', xml('item', { jid: peer, name: 'Peer' })))
  say('ROSTER')
  await xmpp.send(xml('presence'))
  const asked = until(stanza => from(stanza, 'subscribe'))
  const allowed = until(stanza => from(stanza, 'subscribed'))
  await xmpp.send(xml('presence', { to: peer, type: 'subscribe' }))
  await Promise.all([asked, allowed])
  say('SUBSCRIBED')
}

// The connection is cut: the client comes back and resumes its session by itself.
async function survive () {
  const resumed = new Promise(resolve => xmpp.streamManagement.on('resumed', resolve))
  const socket = xmpp.socket.socket ?? xmpp.socket
  socket.terminate ? socket.terminate() : socket.close()
  await resumed
  await xmpp.iqCaller.get(xml('ping', 'urn:xmpp:ping'), domain)
  say('RESUMED')
}

// XEP-0363: the service is among the items of the host.
async function slotFor (file) {
  const NS = 'urn:xmpp:http:upload:0'
  const DISCO = 'http://jabber.org/protocol/disco#'
  const items = await xmpp.iqCaller.get(xml('query', DISCO + 'items'), domain)
  for (const { attrs } of items.getChildren('item')) {
    const info = await xmpp.iqCaller.get(xml('query', DISCO + 'info'), attrs.jid)
    if (!info.getChildren('feature').some(feature => feature.attrs.var === NS)) continue
    const answer = await xmpp.iqCaller.request(xml('iq', { type: 'get', to: attrs.jid },
      xml('request', { xmlns: NS, filename: file.name, size: file.size, 'content-type': file.type })))
    const slot = answer.getChild('slot', NS)
    return { to: slot.getChild('put').attrs.url, link: slot.getChild('get').attrs.url }
  }
  throw new Error('there is no service')
}

try {
  say('CONNECTED', await xmpp.start())
  await befriend()
  await survive()
  const heard = until(stanza => stanza.is('message') && stanza.getChild('body'))
  await xmpp.send(xml('presence', { to: peer, type: 'subscribed' }))
  const message = await heard
  say('GOT', message.getChildText('body'))
  await xmpp.send(xml('message', { to: message.attrs.from, type: 'chat' }, xml('body', {}, 'hello from xmpp.js <&>')))
  const link = await share(picture, 'image/png', slotFor)
  await xmpp.send(xml('message', { to: message.attrs.from, type: 'chat' }, xml('body', {}, link),
    xml('x', 'jabber:x:oob', xml('url', {}, link))))
  say('SHARED')
  await xmpp.stop()
  process.exit(0)
} catch (error) {
  fail(error)
}
