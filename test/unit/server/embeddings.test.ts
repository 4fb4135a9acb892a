/** POST /v1/embeddings, without sockets. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { appOf, loadDemo } from './app'

let model: Model
beforeAll(async () => {
  model = await loadDemo()
})
afterAll(() => model.dispose())

const post = async (body: object) =>
  appOf({ demo: model }).request('/v1/embeddings', { method: 'POST', body: JSON.stringify(body) })

test.each([
  ['a text', 'Hello'],
  ['texts', ['Hello', 'The capital of France']],
  ['token ids', [1, 2, 3]],
  ['token ids of many', [[1, 2, 3], [4]]],
])('%s', async (_, input) => {
  const { embeddings, usage } = await model.embed(input as string[])
  const answer = (await (await post({ input })).json()) as { data: object[]; usage: object }
  expect(answer.data).toEqual(
    embeddings.map((vector, index) => ({ object: 'embedding', index, embedding: Array.from(vector) })),
  )
  expect(answer.usage).toEqual({ prompt_tokens: usage.promptTokens, total_tokens: usage.totalTokens })
})

test('base64 is little-endian fp32, of as many numbers as asked for', async () => {
  const { embeddings } = await model.embed('Hello', { dimensions: 3 })
  const answer = await (await post({ input: 'Hello', encoding_format: 'base64', dimensions: 3 })).json()
  const { embedding } = (answer as { data: { embedding: string }[] }).data[0] as { embedding: string }
  const bytes = Buffer.from(embedding, 'base64')
  expect([0, 1, 2].map((i) => bytes.readFloatLE(4 * i))).toEqual(Array.from(embeddings[0] as Float32Array))
  expect(bytes.length).toBe(12)
})

test.each([
  ['nothing', {}, /^input: /],
  ['an empty list', { input: [] }, /^input/],
  ['too many numbers', { input: 'a', dimensions: 1e6 }, /^dimensions is 1000000/],
  ['an unknown format', { input: 'a', encoding_format: 'hex' }, /^encoding_format: /],
  ['an unknown token', { input: [99_999_999] }, /99999999/],
])('%s is refused', async (_, body, message) => {
  const response = await post(body)
  expect(response.status).toBe(400)
  expect(((await response.json()) as { error: { message: string } }).error.message).toMatch(message)
})
