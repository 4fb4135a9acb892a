/** Tools and reasoning of `billfish/ai-sdk`, with scripted answers. */
import { generateText, stepCountIs, streamText, tool } from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { BillfishLanguageModel } from '../../../src/providers/ai-sdk/language-model'
import { type Script, scriptedModel, weatherCall } from '../../support/scripted-chat'

const prompt = 'How warm is it?'
const weather = tool({
  description: 'Tells the weather.',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => ({ warm: city.length }),
})

/** A model that follows scripts, one an answer, and keeps what it was asked. */
function following(...scripts: Script[]) {
  const { model, asked } = scriptedModel(scripts)
  return { asked, model: new BillfishLanguageModel('scripted', model) }
}

describe('tools', () => {
  test('are called, and their results answered, whole or streamed', async () => {
    const scripts = () => [
      { parts: ['Let me look.', ...weatherCall('Oslo'), ...weatherCall('Rome')] },
      { parts: ['4', ' degrees.'] },
    ]
    const options = { prompt, tools: { weather }, stopWhen: stepCountIs(3) }
    const whole = following(...scripts())
    const answer = await generateText({ model: whole.model, ...options })
    const streamed = following(...scripts())
    const stream = streamText({ model: streamed.model, ...options })
    await stream.consumeStream()
    for (const steps of [answer.steps, await stream.steps]) {
      expect(steps.map(({ text, finishReason }) => [text, finishReason])).toEqual([
        ['Let me look.', 'tool-calls'],
        ['4 degrees.', 'stop'],
      ])
      expect(steps[0]?.toolCalls.map(({ toolName, input }) => [toolName, input])).toEqual([
        ['weather', { city: 'Oslo' }],
        ['weather', { city: 'Rome' }],
      ])
    }
    for (const { asked } of [whole, streamed]) {
      expect(asked[0]?.options.tools).toMatchObject([
        {
          type: 'function',
          function: { name: 'weather', description: 'Tells the weather.', parameters: { required: ['city'] } },
        },
      ])
      expect(asked[1]?.messages.map(({ role, content }) => [role, content])).toEqual([
        ['user', prompt],
        ['assistant', 'Let me look.'],
        ['tool', '{"warm":4}'],
        ['tool', '{"warm":4}'],
      ])
    }
  })

  test('are streamed as input first, then as a call of the same id', async () => {
    const { model } = following({ parts: ['Well.', ...weatherCall('Oslo')] })
    const { stream } = await model.doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
      tools: [{ type: 'function', name: 'weather', inputSchema: { type: 'object' } }],
    })
    const parts: { type: string; id?: string; delta?: string; toolCallId?: string; input?: string }[] = []
    for await (const part of stream) parts.push(part)
    const types = parts.map(({ type }) => type)
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'stream-start',
      'response-metadata',
      'text-start',
      'text-delta',
      'text-end',
      'tool-input-start',
      'tool-input-delta',
      'tool-input-end',
      'tool-call',
      'finish',
    ])
    const made = parts.find(({ type }) => type === 'tool-call')
    const inputs = parts.filter(({ type }) => type.startsWith('tool-input'))
    expect(new Set(inputs.map(({ id }) => id))).toEqual(new Set([made?.toolCallId]))
    expect(inputs.map(({ delta = '' }) => delta).join('')).toBe(made?.input)
    expect(JSON.parse(made?.input ?? '')).toEqual({ city: 'Oslo' })
  })

  test('are not called where the answer was cut off', async () => {
    const script: Script = { parts: weatherCall('Oslo').slice(0, 2), finishReason: 'length' }
    const answer = await generateText({ model: following(script).model, prompt, tools: { weather } })
    const stream = streamText({ model: following(script).model, prompt, tools: { weather } })
    expect([answer.toolCalls, answer.finishReason]).toEqual([[], 'length'])
    expect([await stream.toolCalls, await stream.finishReason]).toEqual([[], 'length'])
  })

  test('are chosen as asked for', async () => {
    const choose = async (toolChoice: 'none' | 'required' | { type: 'tool'; toolName: 'weather' }) => {
      const { model, asked } = following({ parts: toolChoice === 'none' ? ['No.'] : weatherCall('Oslo') })
      const { warnings } = await generateText({ model, prompt, tools: { weather }, toolChoice })
      return { warnings, choice: asked[0]?.options.toolChoice }
    }
    expect(await choose('none')).toEqual({ warnings: [], choice: 'none' })
    expect(await choose('required')).toEqual({ warnings: [], choice: 'required' })
    expect(await choose({ type: 'tool', toolName: 'weather' })).toEqual({ warnings: [], choice: { name: 'weather' } })
  })
})

test('reasoning is apart from the text, and goes back with the next question', async () => {
  const script: Script = { parts: ['<think>', 'Two', ' plus two.', '</think>', '4', '.'], reasoning: 'qwen3' }
  const answer = await generateText({ model: following(script).model, prompt })
  const stream = streamText({ model: following(script).model, prompt })
  expect([answer.reasoningText, answer.text]).toEqual(['Two plus two.', '4.'])
  expect([await stream.reasoningText, await stream.text]).toEqual(['Two plus two.', '4.'])
  expect(answer.usage.outputTokenDetails.reasoningTokens).toBeGreaterThan(0)
  const { model, asked } = following({ parts: ['Yes.'] })
  await generateText({ model, messages: [{ role: 'user', content: prompt }, ...answer.response.messages] })
  expect(asked[0]?.messages[1]).toEqual({ role: 'assistant', content: '4.', reasoning_content: 'Two plus two.' })
})
