/** OpenAI's client for Node.js, unmodified, against a server. */
import { join } from 'node:path'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModel, type Model } from '../../../src'
import { createServer, type RunningServer } from '../../../src/server'

const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }]
const greedy = { model: 'demo', messages, temperature: 0, max_tokens: 12 }

let model: Model
let server: RunningServer
let client: OpenAI
beforeAll(async () => {
  model = await loadModel(join(__dirname, '../../../examples/demo-model'), { deviceMap: 'cpu' })
  server = await createServer({ demo: model, 'owner/name': model }, { port: 0, apiKeys: ['secret'] })
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'secret', maxRetries: 0 })
})
afterAll(async () => {
  await server.close()
  await model.dispose()
})

/** What the model generates without a server. */
const expected = () => model.generate(messages, { temperature: 0, maxNewTokens: 12 }).result()

describe('chat.completions', () => {
  test('answers', async () => {
    const { text, finishReason, usage } = await expected()
    const { choices, usage: counted } = await client.chat.completions.create(greedy)
    expect(choices).toMatchObject([{ message: { role: 'assistant', content: text }, finish_reason: finishReason }])
    expect(counted).toMatchObject({ prompt_tokens: usage.promptTokens, completion_tokens: usage.completionTokens })
  })

  test('streams chunks, and usage at the end', async () => {
    const { text, usage } = await expected()
    const stream = await client.chat.completions.create({
      ...greedy,
      stream: true,
      stream_options: { include_usage: true },
    })
    let content = ''
    let total = 0
    for await (const chunk of stream) {
      content += chunk.choices[0]?.delta.content ?? ''
      total += chunk.usage?.total_tokens ?? 0
    }
    expect([content, total]).toEqual([text, usage.totalTokens])
  })

  test('accumulates a stream, of several choices', async () => {
    const request = { ...greedy, temperature: 2, n: 3, seed: 5 }
    const whole = await client.chat.completions.create(request)
    const streamed = await client.chat.completions.stream(request).finalChatCompletion()
    const contents = ({ choices }: typeof whole) => choices.map(({ message }) => message.content)
    expect(contents(streamed)).toEqual(contents(whole))
    expect(streamed.choices.map(({ finish_reason }) => finish_reason)).toEqual(
      whole.choices.map(({ finish_reason }) => finish_reason),
    )
  })

  test('frees the sequence of a stream that is left', async () => {
    const request = { ...greedy, temperature: 1, max_tokens: 900, stream: true as const }
    const stream = await client.chat.completions.create({ ...request, ...({ ignore_eos: true } as object) })
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
    await expect.poll(() => model.activity().running).toBe(0)
  })

  test('frees the sequence of an answer that is aborted', async () => {
    const controller = new AbortController()
    const request = { ...greedy, temperature: 1, max_tokens: 900, ...({ ignore_eos: true } as object) }
    const answer = client.chat.completions.create(request, { signal: controller.signal })
    await expect.poll(() => model.activity().running).toBe(1)
    controller.abort()
    await expect(answer).rejects.toThrow(OpenAI.APIUserAbortError)
    await expect.poll(() => model.activity().running).toBe(0)
  })
})

test('completions continues a text', async () => {
  const { text } = await model.generate('The capital of', { temperature: 0, maxNewTokens: 8 }).result()
  const request = { model: 'demo', prompt: 'The capital of', temperature: 0, max_tokens: 8 }
  expect((await client.completions.create(request)).choices[0]?.text).toBe(text)
  const stream = await client.completions.create({ ...request, stream: true })
  let streamed = ''
  for await (const { choices } of stream) streamed += choices[0]?.text ?? ''
  expect(streamed).toBe(text)
})

// The client asks for base64 where its caller says nothing, and decodes it.
test.each(['float', 'base64', undefined] as const)('embeddings as %s have the full width', async (encoding_format) => {
  const input = ['Paris', 'Rome']
  const { embeddings } = await model.embed(input)
  const request = { model: 'demo', input, ...(encoding_format && { encoding_format }) }
  const { data } = await client.embeddings.create(request)
  const vectors = data.map(({ embedding }) =>
    typeof embedding === 'string'
      ? new Float32Array(new Uint8Array(Buffer.from(embedding as string, 'base64')).buffer)
      : Float32Array.from(embedding),
  )
  expect(vectors).toEqual(embeddings)
})

test('models are listed and found by names with slashes', async () => {
  const names: string[] = []
  for await (const { id } of client.models.list()) names.push(id)
  expect(names).toEqual(['demo', 'owner/name'])
  expect((await client.models.retrieve('owner/name')).id).toBe('owner/name')
})

test('errors have their classes', async () => {
  await expect(client.chat.completions.create({ ...greedy, model: 'gpt-4o' })).rejects.toThrow(OpenAI.NotFoundError)
  await expect(client.chat.completions.create({ ...greedy, temperature: 7 })).rejects.toThrow(
    expect.objectContaining({ status: 400, type: 'invalid_request_error', param: 'temperature' }),
  )
  const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'wrong', maxRetries: 0 })
  await expect(stranger.models.list()).rejects.toThrow(OpenAI.AuthenticationError)
})
