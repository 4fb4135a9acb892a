/** Forms of answers in requests: response_format, structured_outputs and guided_ fields. */
import Ajv from 'ajv'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { appOf, loadDemo } from './app'

const messages = [{ role: 'user', content: 'Who are you?' }]
const schema = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 20 }, age: { type: 'integer', minimum: 0, maximum: 99 } },
  required: ['name', 'age'],
  additionalProperties: false,
}

let model: Model
beforeAll(async () => {
  model = await loadDemo()
})
afterAll(() => model.dispose())

async function post(fields: object, path = '/v1/chat/completions') {
  const body = JSON.stringify({
    max_tokens: 120,
    temperature: 0,
    ...(path.includes('chat') && { messages }),
    ...fields,
  })
  return appOf({ demo: model }).request(path, { method: 'POST', body })
}

interface Answer {
  readonly choices: readonly {
    readonly message: { readonly content: string }
    readonly text: string
    readonly finish_reason: string
  }[]
  readonly error: { readonly message: string; readonly param: string | null }
}

const answer = async (fields: object, path?: string) => (await (await post(fields, path)).json()) as Answer

test.each<[string, object]>([
  [
    'response_format',
    { response_format: { type: 'json_schema', json_schema: { name: 'person', strict: true, schema } } },
  ],
  ['json_object with a schema, as for llama-server', { response_format: { type: 'json_object', schema } }],
  ['structured_outputs.json', { structured_outputs: { json: schema } }],
  ['a schema as text', { structured_outputs: { json: JSON.stringify(schema), regex: null } }],
  ['guided_json', { guided_json: schema, response_format: { type: 'text' } }],
])('a schema by %s', async (_, fields) => {
  const validate = new Ajv().compile(schema)
  const { choices } = await answer({ ...fields, n: 2, temperature: 1, seed: 4 })
  expect(choices).toHaveLength(2)
  for (const { message, finish_reason } of choices) {
    expect(validate(JSON.parse(message.content)), message.content).toBe(true)
    expect(finish_reason).toBe('stop')
  }
})

test.each<[string, object, RegExp]>([
  ['a pattern', { structured_outputs: { regex: '[a-f]{4}' } }, /^[a-f]{4}$/],
  ['choices', { structured_outputs: { choice: ['left', 'right'] } }, /^(left|right)$/],
  ['a grammar', { structured_outputs: { grammar: 'root ::= "x" [0-9]' } }, /^x\d$/],
  ['guided_regex', { guided_regex: 'q{3}' }, /^qqq$/],
  ['guided_choice', { guided_choice: ['a'] }, /^a$/],
  ['guided_grammar', { guided_grammar: 'root ::= "b"' }, /^b$/],
  ['any object', { response_format: { type: 'json_object' } }, /^\{/],
  ['any object, as for vLLM', { structured_outputs: { json_object: true } }, /^\{/],
])('%s, in chats and in completions', async (_, fields, form) => {
  expect((await answer(fields)).choices[0]?.message.content).toMatch(form)
  expect((await answer({ ...fields, prompt: 'Hello' }, '/v1/completions')).choices[0]?.text).toMatch(form)
})

test('streams have the form, too', async () => {
  const text = await (await post({ structured_outputs: { regex: 'ab{9}c' }, stream: true })).text()
  const parts = text.match(/"content":"([^"]*)"/g) ?? []
  expect(parts.map((part) => part.slice('"content":"'.length, -1)).join('')).toBe('abbbbbbbbbc')
})

describe('refuses with 400', () => {
  test.each<[string, object, RegExp]>([
    ['two forms', { guided_regex: 'a', guided_choice: ['a'] }, /guided_regex and guided_choice are given together/],
    [
      'no schema',
      { response_format: { type: 'json_schema' } },
      /^response_format: the type json_schema needs json_schema/,
    ],
    ['another type', { response_format: { type: 'xml' } }, /^response_format\.type: /],
    ['what vLLM alone has', { structured_outputs: { structural_tag: '{}' } }, /structural_tag/],
    ['a keyword', { guided_json: { not: {} } }, /^structured_outputs\.json: #\/not of the schema/],
    ['a text that is no schema', { guided_json: '{' }, /^guided_json is a string/],
  ])('%s', async (_, fields, message) => {
    for (const stream of [false, true]) {
      const response = await post({ ...fields, stream })
      expect(response.status).toBe(400)
      expect(((await response.json()) as Answer).error.message).toMatch(message)
    }
  })
})
