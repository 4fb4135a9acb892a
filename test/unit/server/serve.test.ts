/** `billfish serve` as a process: sockets, clients that leave, and its end. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import type { Status } from '../../../src/server/status'

const root = join(__dirname, '../../..')
const messages = [{ role: 'user', content: 'Hello' }]
const endless = { messages, ignore_eos: true, temperature: 1, max_tokens: 900 }

let started: ChildProcessWithoutNullStreams[] = []
afterEach(() => {
  for (const child of started) child.kill('SIGKILL')
  started = []
})

/** Starts a server of the demo model on a free port. */
async function serve(...options: string[]) {
  const cli = join(root, 'dist/cli/main.js')
  const model = join(root, 'examples/demo-model')
  const child = spawn(process.execPath, [
    cli,
    'serve',
    model,
    '--device-map',
    'cpu',
    '--port',
    '0',
    '--json',
    ...options,
  ])
  started.push(child)
  let errors = ''
  child.stderr.on('data', (text) => {
    errors += text
  })
  const [line] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => [undefined])])
  if (line === undefined) throw new Error(errors)
  const { url, models } = JSON.parse(String(line)) as { url: string; models: string[] }
  const ask = (body: object, signal?: AbortSignal) =>
    fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body), ...(signal && { signal }) })
  return { child, url, models, ask }
}

const exitOf = async (child: ChildProcessWithoutNullStreams) => (await once(child, 'exit'))[0]

test('answers under the names given, and ends at once where nothing runs', async () => {
  const { child, models, ask } = await serve('--served-model-name', 'qwen', 'Qwen/Qwen3-8B')
  expect(models).toEqual(['qwen', 'Qwen/Qwen3-8B'])
  const answer = await (await ask({ model: 'Qwen/Qwen3-8B', messages, max_tokens: 4 })).json()
  expect(answer).toMatchObject({ model: 'Qwen/Qwen3-8B', object: 'chat.completion' })
  child.kill('SIGTERM')
  expect(await exitOf(child)).toBe(0)
})

test('is named after its directory, and asks for the key of the environment', async () => {
  const { models, url } = await serve('--api-key', 'secret')
  expect(models).toEqual(['demo-model'])
  expect((await fetch(`${url}/v1/models`)).status).toBe(401)
  expect((await fetch(`${url}/v1/models`, { headers: { authorization: 'Bearer secret' } })).status).toBe(200)
})

test('serves several models by name', async () => {
  const { models, ask, child } = await serve(`other=${join(root, 'examples/demo-model')}`)
  expect(models).toEqual(['demo-model', 'other'])
  for (const model of models) {
    expect(await (await ask({ model, messages, max_tokens: 4 })).json()).toMatchObject({ model })
  }
  child.kill('SIGTERM')
  expect(await exitOf(child)).toBe(0)
})

test.each([
  [['examples/demo-model'], /Two models would be named demo-model/],
  [
    ['other=examples/demo-model', '--served-model-name', 'qwen'],
    /--served-model-name names one model, and there are 2/,
  ],
  [['other=./examples/none'], /examples\/none/],
])('refuses %j', async (given, message) => {
  await expect(serve(...given)).rejects.toThrow(message)
})

test('a client that leaves makes room, streamed or not', async () => {
  const { ask } = await serve('--sequences', '1')
  for (const stream of [true, false]) {
    const controller = new AbortController()
    const asked = ask({ ...endless, stream, max_tokens: undefined, n: 4 }, controller.signal)
    if (stream) await (await asked).body?.getReader().read()
    else await new Promise((resolve) => setTimeout(resolve, 50))
    controller.abort()
    await asked.catch(() => {})
    const started = performance.now()
    expect((await ask({ messages, max_tokens: 1 })).status).toBe(200)
    expect(performance.now() - started).toBeLessThan(5000)
  }
})

test('a draining server finishes what runs, and takes nothing else', async () => {
  const { child, ask } = await serve()
  const response = await ask({ ...endless, stream: true })
  const ended = exitOf(child)
  child.kill('SIGINT')
  const text = await response.text()
  expect(text).toMatch(/"finish_reason":"length"/)
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
  expect(await ended).toBe(0)
  await expect(ask({ messages })).rejects.toThrow()
})

test('what takes longer than the drain timeout is ended with an error', async () => {
  const { child, ask } = await serve('--drain-timeout', '0')
  const response = await ask({ ...endless, stream: true })
  const ended = exitOf(child)
  child.kill('SIGTERM')
  const text = await response.text()
  expect(text).toMatch(/data: {"error":{"message":"The server was stopped\."/)
  expect(await ended).toBe(0)
})

test('a port that is taken is an error with the way out', async () => {
  const { url } = await serve()
  await expect(serve('--port', new URL(url).port)).rejects.toThrow(/choose another port/)
  await expect(serve('--port', '70000')).rejects.toThrow(/a whole number from 0 to 65535/)
})

test('a socket that never reads frees its sequences', async () => {
  const { url } = await serve('--stall-timeout', '2')
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  socket.pause()
  // As long an answer as fills the buffers of both sockets: many choices with many alternatives each.
  const body = JSON.stringify({ ...endless, stream: true, n: 16, logprobs: true, top_logprobs: 20 })
  const head = ['POST /v1/chat/completions HTTP/1.1', `host: ${hostname}`, `content-length: ${body.length}`]
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  const sequences = async () => {
    const { models } = (await (await fetch(`${url}/status.json`)).json()) as Status
    const [{ running = 0, waiting = 0, paused = 0 } = {}] = models
    return { paused, all: running + waiting + paused }
  }
  while ((await sequences()).paused === 0) await sleep(20)
  while ((await sequences()).all > 0) await sleep(100)
  socket.destroy()
}, 20_000)
