// SPDX-License-Identifier: Apache-2.0
// HTTP for who shares a file: the host of the link is at 127.0.0.1, whatever its name; its certificate is checked.
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { basename } from 'node:path'

const lookup = (host, options, found) =>
  options.all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4)

// The status of the answer.
const put = (url, headers, body) => new Promise((resolve, reject) => {
  const asked = request(url, { method: 'PUT', headers: { ...headers, 'Content-Length': body.length }, lookup }, answer => {
    answer.resume()
    answer.on('end', () => resolve(answer.statusCode))
  })
  asked.on('error', reject)
  asked.end(body)
})

// slot({ name, size, type }) gives where the file goes, with what headers, and where it will be; the link is returned.
export async function share (path, type, slot) {
  const content = readFileSync(path)
  const { to, headers, link } = await slot({ name: basename(path), size: content.length, type })
  const status = await put(to, { 'Content-Type': type, ...headers }, content)
  if (status !== 201) throw new Error('PUT is ' + status)
  return link
}
