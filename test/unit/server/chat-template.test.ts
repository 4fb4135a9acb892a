/** The server's own chat template, and its variables. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { appOf, loadDemo } from './app'

let model: Model
beforeAll(async () => {
  const chatTemplate = '{% for m in messages %}{{ m.content }}{% endfor %} {{ enable_thinking }} {{ tone }}'
  model = await loadDemo({ chatTemplate })
})
afterAll(() => model.dispose())

const messages = [{ role: 'user', content: 'Hello' }]

async function post(path: string, body: object) {
  const app = appOf({ demo: model }, { templateVariables: { enable_thinking: false, tone: 'dry' } })
  const response = await app.request(path, { method: 'POST', body: JSON.stringify({ messages, ...body }) })
  expect(response.status).toBe(200)
  return response.json()
}

/** The length of a prompt of the template with these variables. */
const tokensOf = async (text: string) => (await model.tokenizer?.encode(text, { addSpecialTokens: false }))?.length

test('a given template replaces the one of the checkpoint; requests go before its defaults', async () => {
  const { tokens } = (await post('/tokenize', {})) as { tokens: number[] }
  expect(model.tokenizer?.decode(tokens)).toBe('Hello False dry')
  const own = (await post('/tokenize', { chat_template_kwargs: { tone: 'wry' } })) as { tokens: number[] }
  expect(model.tokenizer?.decode(own.tokens)).toBe('Hello False wry')
})

test.each([
  [{}, 'Hello False dry'],
  [{ chat_template_kwargs: { tone: 'a longer tone' } }, 'Hello False a longer tone'],
  [{ reasoning_effort: 'high' }, 'Hello True dry'],
])('a chat with %j has the prompt %j', async (body, text) => {
  const answer = (await post('/v1/chat/completions', { max_tokens: 1, ...body })) as {
    usage: { prompt_tokens: number }
  }
  expect(answer.usage.prompt_tokens).toBe(await tokensOf(text))
})

test("Anthropic's messages have them, too", async () => {
  const { input_tokens } = (await post('/v1/messages/count_tokens', {})) as { input_tokens: number }
  expect(input_tokens).toBe(await tokensOf('Hello False dry'))
  const thinking = { thinking: { type: 'adaptive' } }
  const { usage } = (await post('/v1/messages', { max_tokens: 1, ...thinking })) as { usage: { input_tokens: number } }
  expect(usage.input_tokens).toBe(await tokensOf('Hello True dry'))
})

test.each([
  [{}, 'Hello False dry'],
  [{ reasoning: { effort: 'high' } }, 'Hello True dry'],
])('a response with %j has the prompt %j', async (body, text) => {
  const { usage } = (await post('/v1/responses', { input: 'Hello', messages: undefined, ...body })) as {
    usage: { input_tokens: number }
  }
  expect(usage.input_tokens).toBe(await tokensOf(text))
})

test('a template that cannot be read is refused', async () => {
  await expect(loadDemo({ chatTemplate: '{% if %}' })).rejects.toThrow(/options.chatTemplate/)
})
