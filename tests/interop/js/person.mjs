// SPDX-License-Identifier: Apache-2.0
// A person in Chromium at the page with Converse.js, who has signed in or not: what the scripts beside this one share.
// PIN: what TLS trusts, the digest of the server's public key. Screenshots go to FOLDER/NAME-*.png.
// A violation of the page's policy, an error in it, or a request to anybody else is a problem.
import { chromium } from 'playwright-core'

export async function open ({ url, executablePath, pin, folder, name, transport, jid }) {
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

  return { page, problems, used, say, shoot, signIn, close: () => browser.close() }
}
