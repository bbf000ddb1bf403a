// SPDX-License-Identifier: Apache-2.0
// A person in Chromium at the page with Converse.js: signs in, adds a contact, talks, loads the page anew, shares a picture, leaves.
//
// Usage: converse.mjs PAGE CHROMIUM PIN FOLDER NAME websocket|bosh JID PEER PICTURE; the password comes in IRIS_PASSWORD.
// PIN: what TLS trusts, the digest of the server's public key. Screenshots go to FOLDER/NAME-*.png.
// Prints what happens, one word first. A violation of the page's policy, an error in it, or a request to anybody else is a failure.
import { chromium } from 'playwright-core'

const [url, executablePath, pin, folder, name, transport, jid, peer, picture] = process.argv.slice(2)
const host = new URL(url).hostname
const problems = []
const used = new Set()
const say = (...words) => console.log(...words)
let shots = 0

const browser = await chromium.launchPersistentContext(process.env.HOME + '/chromium', {
  executablePath, headless: true, viewport: { width: 1200, height: 800 }, locale: 'en-US',
  // As root in a container there is no sandbox; the only page is the one under test.
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--ignore-certificate-errors-spki-list=' + pin, `--host-resolver-rules=MAP ${host} 127.0.0.1, MAP * ~NOTFOUND`]
})
const page = browser.pages()[0] ?? await browser.newPage()
page.setDefaultTimeout(15000)
page.on('websocket', socket => {
  used.add('websocket ' + new URL(socket.url()).pathname)
  if (!process.env.IRIS_DEBUG) return
  socket.on('framesent', frame => console.error('SENT', frame.payload))
  socket.on('framereceived', frame => console.error('RECEIVED', frame.payload))
})
page.on('request', request => {
  const to = new URL(request.url())
  if (/^http/.test(to.protocol) && to.origin !== new URL(url).origin) problems.push('the page asks ' + to)
  if (request.method() === 'POST') used.add('bosh ' + to.pathname)
})
page.on('pageerror', error => problems.push('an error: ' + error.message))
page.on('console', line => {
  if (/Content Security Policy|ERR_CERT/.test(line.text())) problems.push(line.text())
  if (process.env.IRIS_DEBUG) console.error(line.text())
})

async function shoot (what) {
  await page.screenshot({ path: `${folder}/${name}-${++shots}-${what}.png` })
}

async function signIn () {
  if (transport === 'bosh') await page.addInitScript(() => { delete globalThis.WebSocket })
  await page.goto(url)
  const field = page.locator('input[name="jid"]')
  await field.waitFor()
  await shoot('page')
  await field.fill(jid.split('@')[0])        // the page knows its domain
  await page.fill('input[name="password"]', process.env.IRIS_PASSWORD)
  await page.locator('converse-login-form [type="submit"]').click()
  await page.locator('converse-roster').waitFor()
  say('CONNECTED')
}

const contact = () => page.locator('converse-roster-contact', { hasText: peer.split('@')[0] })

async function add () {
  await page.locator('.add-contact').first().dispatchEvent('click')
  const form = page.locator('converse-add-contact-modal form')
  await form.locator('input[name="jid"]').fill(peer)
  await shoot('add')
  await form.locator('[type="submit"]').click()
  await page.locator('li[data-status="online"]', { has: contact() }).waitFor()   // he has agreed, and come
  say('ONLINE')
}

const message = text => page.locator('.chat-msg__text', { hasText: text }).first()

async function talk () {
  await contact().locator('a').first().click()
  const field = page.locator('textarea.chat-textarea:visible')
  await field.fill('hello from converse <&>')
  await field.press('Enter')
  await message('hello from converse <&>').waitFor()
  await message('hello from slixmpp <&>').waitFor()
  await shoot('talk')
  say('TALKED')
}

// The page is loaded anew: nothing is asked, and what was said is there.
async function reload () {
  await page.reload()
  await message('hello from slixmpp <&>').waitFor()
  await page.locator('li[data-status="online"]', { has: contact() }).waitFor()
  await shoot('again')
  say('RELOADED')
}

async function share () {
  await page.locator('input.fileupload').first().setInputFiles(picture)
  const image = page.locator('img.chat-image').first()
  await image.waitFor()
  await image.evaluate(img => img.decode())   // it came back through the server
  await shoot('file')
  say('SHARED', await image.getAttribute('src'))
}

async function leave () {
  await page.locator('converse-user-profile .show-profile, converse-user-profile a').first().click()
  await page.locator('converse-profile-modal .btn-danger', { hasText: 'Log out' }).click()
  await page.locator('converse-confirm-modal [type="submit"], .modal.show .btn-primary').first().click()
  await page.locator('input[name="jid"]').waitFor()
  say('LEFT')
}

try {
  for (const step of [signIn, add, talk, reload, share, leave]) {
    try {
      await step()
    } catch (error) {
      problems.push(`${step.name}: ${error.message}`)
      break
    }
  }
  if (problems.length) await shoot('failed')
} finally {
  await browser.close()
}
for (const what of used) say('USED', what)
for (const problem of problems) say('PROBLEM', problem)
process.exit(problems.length ? 1 : 0)
