/** POST /tokenize and /detokenize, without sockets. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model, Tokenizer } from '../../../src'
import { appOf, loadDemo } from './app'

let model: Model
let tokenizer: Tokenizer
beforeAll(async () => {
  model = await loadDemo()
  tokenizer = model.tokenizer as Tokenizer
})
afterAll(() => model.dispose())

async function post(path: string, body: object) {
  const response = await appOf({ demo: model }).request(path, { method: 'POST', body: JSON.stringify(body) })
  return { status: response.status, answer: (await response.json()) as Record<string, unknown> }
}

const messages = [{ role: 'user', content: 'Hello' }]

test('texts and chats become the tokens of their prompts, and these texts again', async () => {
  const { answer } = await post('/tokenize', { prompt: 'Hello there', return_token_strs: true })
  const tokens = await tokenizer.encode('Hello there')
  expect(answer).toEqual({
    count: tokens.length,
    max_model_len: model.limits.maxModelLength,
    tokens,
    token_strs: tokens.map((id) => tokenizer.idToToken(id)),
  })
  expect((await post('/detokenize', { tokens })).answer).toEqual({ prompt: 'Hello there', content: 'Hello there' })
  const chat = await post('/tokenize', { messages })
  expect(chat.answer.tokens).toEqual(await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }))
  const llamaServer = await post('/tokenize', { content: 'Hello' })
  expect(llamaServer.answer.tokens).toEqual(await tokenizer.encode('Hello', { addSpecialTokens: false }))
})

test.each([
  ['/tokenize', {}],
  ['/tokenize', { prompt: 'a', messages }],
  ['/tokenize', { prompt: 1 }],
  ['/detokenize', {}],
  ['/detokenize', { tokens: [-1] }],
])('%s refuses %j', async (path, body) => {
  expect((await post(path, body)).status).toBe(400)
})
