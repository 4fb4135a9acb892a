/** The openai package, unmodified, in front of scripted answers. */
import OpenAI from 'openai'
import { expect, test } from 'vitest'
import { type Script, scriptedModel, weatherCall } from '../../support/scripted-chat'
import { appOf } from './app'

const messages = [{ role: 'user' as const, content: 'Hello' }]
const parameters = { type: 'object', properties: { city: { type: 'string' } } }
const tool = { type: 'function' as const, function: { name: 'weather', parameters } }

function clientOf(...scripts: Script[]) {
  const { model, asked } = scriptedModel(scripts)
  const app = appOf({ scripted: model })
  const client = new OpenAI({
    apiKey: 'none',
    baseURL: 'http://billfish.test/v1',
    fetch: async (url, init) => app.request(String(url), init as RequestInit),
  })
  return { client, asked }
}

test('puts a streamed answer with reasoning and two calls together', async () => {
  const { client } = clientOf({
    parts: [
      '<think>',
      'Hm',
      '</think>',
      '\n\n',
      'Let me look.\n',
      ...weatherCall('Oslo'),
      '\n',
      ...weatherCall('Rome'),
    ],
    reasoning: 'qwen3',
  })
  const stream = client.chat.completions.stream({
    model: 'scripted',
    messages,
    tools: [tool],
    stream_options: { include_usage: true },
  })
  const { choices, usage } = await stream.finalChatCompletion()
  const [choice] = choices
  expect(choice?.finish_reason).toBe('tool_calls')
  expect(choice?.message.content).toBe('Let me look.')
  expect(choice?.message).toMatchObject({ reasoning: 'Hm' })
  expect(choice?.message.tool_calls?.map((called) => called.type === 'function' && called.function)).toMatchObject([
    { name: 'weather', arguments: '{"city": "Oslo"}' },
    { name: 'weather', arguments: '{"city": "Rome"}' },
  ])
  expect(new Set(choice?.message.tool_calls?.map(({ id }) => id)).size).toBe(2)
  expect(usage?.completion_tokens_details?.reasoning_tokens).toBe(3)
})

test.each([true, false])('runs tools until there is an answer, streamed: %s', async (stream) => {
  const { client, asked } = clientOf({ parts: weatherCall('Oslo') }, { parts: ['It', ' rains.'] })
  const runner = client.chat.completions.runTools({
    model: 'scripted',
    messages,
    stream: stream as false,
    tools: [
      {
        type: 'function',
        function: {
          name: 'weather',
          description: 'The weather',
          parameters,
          parse: JSON.parse,
          function: ({ city }: { city: string }) => ({ city, rain: true }),
        },
      },
    ],
  })
  expect(await runner.finalContent()).toBe('It rains.')
  expect(asked[1]?.messages).toMatchObject([
    { role: 'user' },
    { role: 'assistant', content: null, tool_calls: [{ type: 'function', function: { name: 'weather' } }] },
    { role: 'tool', content: '{"city":"Oslo","rain":true}' },
  ])
})
