// SPDX-License-Identifier: Apache-2.0
// A person in Chromium at the page with Converse.js: signs in, adds a contact, talks, loads the page anew, shares a picture, leaves.
//
// Usage: converse.mjs PAGE CHROMIUM PIN FOLDER NAME websocket|bosh JID PEER PICTURE; the password comes in IRIS_PASSWORD.
// PIN: what TLS trusts, the digest of the server's public key. Screenshots go to FOLDER/NAME-*.png.
// Prints what happens, one word first. A violation of the page's policy, an error in it, or a request to anybody else is a failure.
import { open } from './person.mjs'

const [url, executablePath, pin, folder, name, transport, jid, peer, picture] = process.argv.slice(2)
const { page, problems, used, say, shoot, signIn, close } =
  await open({ url, executablePath, pin, folder, name, transport, jid })

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
  await close()
}
for (const what of used) say('USED', what)
for (const problem of problems) say('PROBLEM', problem)
process.exit(problems.length ? 1 : 0)
