// SPDX-License-Identifier: Apache-2.0
// A person in Chromium, at the page with Converse.js, who is a member of a bubble and does what is told: in a line of stdin
// [WHAT, ARGUMENT…] in JSON, out a line `DONE RESULT` or `FAILED WHY`; until stdin ends.
//
// Usage: bubble.mjs PAGE CHROMIUM PIN FOLDER NAME websocket|bosh JID; the password comes in IRIS_PASSWORD.
import { createInterface } from 'node:readline'
import { open } from './person.mjs'

const [url, executablePath, pin, folder, name, transport, jid] = process.argv.slice(2)
const { page, problems, say, shoot, signIn, close } =
  await open({ url, executablePath, pin, folder, name, transport, jid })
const room = () => page.locator('converse-muc')
const field = () => room().locator('textarea.chat-textarea')

// It types, and what it types stands there until it is sent.
async function says (text) {
  await field().fill(text)
  await field().press('Enter')
}

// The server knows what it is to be told of when it has its presence and what that stands for, which it asks for once
// for all that have the same; the question comes before the presence comes back.
function isKnown () {
  return new Promise(resolve => page.on('websocket', socket => {
    const asked = new Set()
    let here = false
    socket.on('framereceived', ({ payload }) => {
      if (/^<iq [^>]*type='get'/.test(payload) && payload.includes('disco#info')) asked.add(/ id='([^']*)'/.exec(payload)[1])
      here ||= payload.startsWith('<presence ') && payload.includes(` from='${jid}/`)
      if (here && !asked.size) resolve()
    })
    socket.on('framesent', ({ payload }) => {
      if (payload.startsWith('<iq ')) asked.delete(/ id="([^"]*)"/.exec(payload)[1])
      if (here && !asked.size) resolve()
    })
  }))
}

const acts = {
  async signIn () {
    const known = isKnown()
    await signIn()
    await known
  },
  // The bookmark has come, and the room has opened by it: it is in the list, and one click away.
  async enters (title) {
    await page.locator('converse-rooms-list a.open-room', { hasText: title }).first().click()
    await field().waitFor()
  },
  says: (_, text) => says(text),
  sees: text => room().getByText(text).first().waitFor(),
  order: texts => page.locator('converse-muc .chat-msg__text').evaluateAll(
    (found, wanted) => found.map(each => each.textContent.trim()).filter(each => wanted.includes(each)), texts),
  revokes: nick => says('/revoke ' + nick),
  shoot
}

for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...args] = JSON.parse(line)
  try {
    const result = await acts[what](...args)
    if (problems.length) throw new Error(problems.join('; '))
    say('DONE', JSON.stringify(result ?? null))
  } catch (error) {
    await shoot('failed')
    say('FAILED', error.message.replaceAll('\n', ' '))
  }
}
await close()
