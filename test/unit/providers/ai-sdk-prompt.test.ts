import type { LanguageModelV3Prompt } from '@ai-sdk/provider'
import { describe, expect, test } from 'vitest'
import { templateMessages } from '../../../src/providers/ai-sdk/prompt'

type ToolMessage = Extract<LanguageModelV3Prompt[number], { role: 'tool' }>
type Output = Extract<ToolMessage['content'][number], { type: 'tool-result' }>['output']

describe('templateMessages()', () => {
  test('gives templates the names that they know', () => {
    const prompt: LanguageModelV3Prompt = [
      { role: 'system', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'How warm is it ' },
          { type: 'text', text: 'in Paris and Rome?' },
        ],
      },
      {
        role: 'assistant',
        content: [
          { type: 'reasoning', text: 'Two calls.' },
          { type: 'text', text: 'Let me see.' },
          { type: 'tool-call', toolCallId: 'a', toolName: 'weather', input: { city: 'Paris' } },
          { type: 'tool-call', toolCallId: 'b', toolName: 'weather', input: { city: 'Rome' } },
        ],
      },
      {
        role: 'tool',
        content: [
          { type: 'tool-result', toolCallId: 'a', toolName: 'weather', output: { type: 'json', value: { warm: 20 } } },
          { type: 'tool-result', toolCallId: 'b', toolName: 'weather', output: { type: 'text', value: '25' } },
        ],
      },
    ]
    const call = (id: string, city: string) => ({
      id,
      type: 'function',
      function: { name: 'weather', arguments: { city } },
    })
    expect(templateMessages(prompt)).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'How warm is it in Paris and Rome?' },
      {
        role: 'assistant',
        content: 'Let me see.',
        reasoning_content: 'Two calls.',
        tool_calls: [call('a', 'Paris'), call('b', 'Rome')],
      },
      { role: 'tool', tool_call_id: 'a', name: 'weather', content: '{"warm":20}' },
      { role: 'tool', tool_call_id: 'b', name: 'weather', content: '25' },
    ])
  })

  test('leaves out what an answer has none of', () => {
    expect(templateMessages([{ role: 'assistant', content: [{ type: 'text', text: 'Yes.' }] }])).toEqual([
      { role: 'assistant', content: 'Yes.' },
    ])
  })

  test.each<[Output, string]>([
    [{ type: 'error-text', value: 'no network' }, 'no network'],
    [{ type: 'error-json', value: [1, null] }, '[1,null]'],
    [{ type: 'execution-denied', reason: 'too dear' }, 'too dear'],
    [{ type: 'execution-denied' }, 'The user did not allow this call.'],
    [
      {
        type: 'content',
        value: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      'ab',
    ],
  ])('tells a tool %j as text', (output, content) => {
    const part = { type: 'tool-result' as const, toolCallId: 'a', toolName: 'f', output }
    expect(templateMessages([{ role: 'tool', content: [part] }])).toMatchObject([{ content }])
  })

  const image = { type: 'image-data' as const, data: '', mediaType: 'image/png' }
  test.each<[string, LanguageModelV3Prompt[number]]>([
    ['an image', { role: 'user', content: [{ type: 'file', data: new Uint8Array(), mediaType: 'image/png' }] }],
    ['a file in an answer', { role: 'assistant', content: [{ type: 'file', data: '', mediaType: 'application/pdf' }] }],
    [
      'an image that a tool made',
      {
        role: 'tool',
        content: [{ type: 'tool-result', toolCallId: 'a', toolName: 'f', output: { type: 'content', value: [image] } }],
      },
    ],
  ])('refuses %s', (_, message) => {
    expect(() => templateMessages([message])).toThrow(
      expect.objectContaining({ name: 'AI_UnsupportedFunctionalityError' }),
    )
  })
})
