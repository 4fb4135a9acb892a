/** `billfish/server`: a server, or its endpoints, in a program of one's own. */
import { join } from 'node:path'
import { Hono } from 'hono'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModel, type Model } from '../../../src'
import { createApp, createServer, type Models } from '../../../src/server'

const demo = join(__dirname, '../../../examples/demo-model')
const body = JSON.stringify({ messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4 })

let model: Model
beforeAll(async () => {
  model = await loadModel(demo, { deviceMap: 'cpu' })
})
afterAll(() => model.dispose())

describe('createServer()', () => {
  test('serves a model without a name, until it is closed', async () => {
    const server = await createServer(model, { port: 0 })
    const response = await fetch(`${server.url}/v1/chat/completions`, { method: 'POST', body })
    expect(await response.json()).toMatchObject({ object: 'chat.completion', model: 'default' })
    await Promise.all([server.close(), server.close()])
    await expect(fetch(server.url)).rejects.toThrow()
  })

  test('serves several names, and asks for keys', async () => {
    const server = await createServer({ one: model, two: model }, { port: 0, apiKeys: ['secret'] })
    expect((await fetch(`${server.url}/v1/models`)).status).toBe(401)
    const { data } = (await (
      await fetch(`${server.url}/v1/models`, { headers: { authorization: 'Bearer secret' } })
    ).json()) as { data: { id: string }[] }
    expect(data.map(({ id }) => id)).toEqual(['one', 'two'])
    await server.close()
  })

  test.each([
    ['no models', {}, /^models is empty/],
    ['something else than a model', { qwen: {} }, /^models\.qwen is .* must be a model that loadModel\(\) returned/],
    ['a path', './qwen', /^models is "\.\/qwen", but must be a model/],
  ])('refuses %s', async (_, models, message) => {
    await expect(createServer(models as unknown as Models)).rejects.toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  test('names an option that does not exist', async () => {
    const options = { maxBodySize: 1 } as object
    await expect(createServer(model, options)).rejects.toThrow(/maxBodySize.*maxBodyBytes/)
    await expect(createServer(model, { port: 70_000 })).rejects.toThrow(/^port is 70000, but must be/)
  })
})

describe('createApp()', () => {
  const ask = (path: string, init: RequestInit = {}) => new Request(`http://localhost${path}`, init)

  test("answers under a path of another app, beside that app's own", async () => {
    const app = new Hono()
    app.get('/', ({ text }) => text('mine'))
    app.mount('/llm', createApp({ qwen: model }).fetch)
    expect(await (await app.fetch(ask('/'))).text()).toBe('mine')
    const response = await app.fetch(ask('/llm/v1/chat/completions', { method: 'POST', body }))
    expect(await response.json()).toMatchObject({ object: 'chat.completion', model: 'qwen' })
    expect((await app.fetch(ask('/llm/nothing'))).status).toBe(404)
  })

  test('asks for keys, and limits bodies', async () => {
    const { fetch } = createApp(model, { apiKeys: ['secret'], maxBodyBytes: 32 })
    const post = (headers: Record<string, string>) =>
      fetch(ask('/v1/chat/completions', { method: 'POST', body, headers }))
    expect((await post({})).status).toBe(401)
    expect((await post({ 'x-api-key': 'secret' })).status).toBe(413)
  })

  test('ends what runs once its signal aborts, and refuses the rest', async () => {
    const controller = new AbortController()
    const { fetch } = createApp(model, { signal: controller.signal })
    const endless = { messages: [{ role: 'user', content: 'Hello' }], ignore_eos: true, stream: true, temperature: 1 }
    const post = () => fetch(ask('/v1/chat/completions', { method: 'POST', body: JSON.stringify(endless) }))
    const running = await post()
    controller.abort()
    expect(await running.text()).toMatch(/data: {"error":.*}\n\ndata: \[DONE\]\n\n$/)
    expect(model.activity().running).toBe(0)
    expect((await post()).status).toBe(503)
  })

  test('ends the generation of a request that is aborted', async () => {
    const app = new Hono()
    app.mount('/llm', createApp(model).fetch)
    const controller = new AbortController()
    const endless = JSON.stringify({ ...JSON.parse(body), max_tokens: 900, ignore_eos: true, n: 4 })
    const request = ask('/llm/v1/chat/completions', { method: 'POST', body: endless, signal: controller.signal })
    const response = Promise.resolve(app.fetch(request))
    await expect.poll(() => model.activity().running).toBeGreaterThan(0)
    controller.abort()
    expect((await response).status).toBe(500)
    expect(model.activity().running).toBe(0)
  })
})
