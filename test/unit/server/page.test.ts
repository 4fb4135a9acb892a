import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { loadPage } from '../../../src/server/page'
import type { Status } from '../../../src/server/status'
import { appOf, loadDemo } from './app'

let model: Model
let folder: string
const html = '<style>p{}</style><p>page</p><script type="module">run()</script>'

beforeAll(async () => {
  model = await loadDemo({ deviceMap: 'balanced', devices: ['cpu:0', 'cpu:1'] })
  folder = mkdtempSync(join(tmpdir(), 'billfish-page-'))
  writeFileSync(join(folder, 'index.html'), html)
})
afterAll(async () => {
  await model.dispose()
  rmSync(folder, { recursive: true })
})

const page = () => loadPage(join(folder, 'index.html'))

test('the page needs no key, its numbers do', async () => {
  const app = appOf({ demo: model }, { page: page(), keys: ['secret'] })
  const response = await app.request('/')
  expect(response.status).toBe(200)
  expect(await response.text()).toBe(html)
  expect((await app.request('/status.json')).status).toBe(401)
  const headers = { authorization: 'Bearer secret' }
  expect((await app.request('/status.json', { headers })).status).toBe(200)
  expect((await app.request('/', { method: 'POST', headers })).status).toBe(405)
})

test('browsers run its own script and styles alone', () => {
  const policy = page()().headers.get('content-security-policy')
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain(`script-src ${hash('run()')};`)
  expect(policy).toContain(`style-src ${hash('p{}')};`)
  expect(policy).not.toContain('unsafe')
})

test('without a page there is nothing at /', async () => {
  expect((await appOf({ demo: model }).request('/')).status).toBe(404)
})

test('a page that was not built is an error that says what to do', () => {
  expect(() => loadPage(join(folder, 'none.html'))).toThrow(/none\.html cannot be read .*npm run build:ts/)
})

test('status tells of models, stages and devices', async () => {
  const app = appOf({ demo: model, alias: model })
  const read = async () => (await (await app.request('/status.json')).json()) as Status
  const before = await read()
  await model.generate('Hello', { maxNewTokens: 5, ignoreEos: true }).text
  const { uptime, devices, models } = await read()
  expect(uptime).toBeGreaterThan(before.uptime)
  expect(devices.map(({ device }) => device)).toEqual(['cpu:0', 'cpu:1'])
  expect(models).toHaveLength(1)
  const [served] = models
  expect(served).toMatchObject({
    names: ['demo', 'alias'],
    architecture: 'Qwen2ForCausalLM',
    quantization: { method: 'gptq', bits: 4 },
    chats: true,
    tokens: { generated: 5 },
  })
  const stages = served?.stages ?? []
  expect(stages.map(({ devices }) => devices)).toEqual([['cpu:0'], ['cpu:1'], ['cpu:0']]) // the tied head
  expect(stages.flatMap(({ modules }) => modules)).toEqual(Object.keys(model.deviceMap))
  const busyBefore = before.models[0]?.stages ?? []
  stages.forEach(({ busy }, index) => {
    expect(busy).toBeGreaterThan(busyBefore[index]?.busy ?? 0)
  })
  expect(served?.memory).toEqual(model.memory())
})
