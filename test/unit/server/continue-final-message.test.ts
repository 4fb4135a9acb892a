/** Answers that go on from the last message of a chat. */
import { expect, test } from 'vitest'
import { appOf, loadDemo } from './app'

const messages = [{ role: 'user', content: 'Hello' }]

test('continue_final_message leaves the last answer open', async () => {
  await using demo = await loadDemo()
  const app = appOf({ demo })
  const ask = async (body: object) => {
    const chat = [...messages, { role: 'assistant', content: 'Good day, ' }]
    const request = { messages: chat, max_tokens: 4, temperature: 0, continue_final_message: true, ...body }
    const response = await app.request('/v1/chat/completions', { method: 'POST', body: JSON.stringify(request) })
    return { status: response.status, answer: (await response.json()) as Record<string, never> }
  }
  const prompt = await demo.tokenizer?.applyChatTemplate([...messages, { role: 'assistant', content: 'Good day, ' }], {
    continueFinalMessage: true,
    tokenize: false,
  })
  expect(prompt).toMatch(/Good day, $/)
  const same = await demo
    .generate(prompt as string, { maxNewTokens: 4, temperature: 0, addSpecialTokens: false })
    .result()
  const { answer } = await ask({ add_generation_prompt: false })
  expect(answer).toMatchObject({
    choices: [{ message: { content: same.text } }],
    usage: { prompt_tokens: same.usage.promptTokens },
  })
  expect((await ask({ add_generation_prompt: true })).status).toBe(400)
})
