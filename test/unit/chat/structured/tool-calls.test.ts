// Calls that a grammar writes: what the parsers read of random ones satisfies the tools' schemas.
import { Ajv2020 } from 'ajv/dist/2020'
import { describe, expect, test } from 'vitest'
import { AnswerParser } from '../../../../src/chat/answer-parser'
import { TOOL_FORMATS, type ToolFormat } from '../../../../src/chat/formats'
import { compileStructuredOutput } from '../../../../src/chat/structured/compile'
import { Grammars } from '../../../../src/chat/structured/grammars'
import type { ToolFunction } from '../../../../src/chat/tools/tool-parser'
import { matched } from '../../../../src/native/grammar'

/** A token for each byte, one that ends an answer, and a tag that is a special token. */
const END = 256
const TAG = 257
const vocabulary = {
  specialIds: new Set([END, TAG]),
  leadingSpacesToStrip: 0,
  idToBytes: (id: number) => (id === TAG ? Buffer.from('<tool_call>') : Uint8Array.of(id)),
  tokenToId: (token: string) => (token === '<tool_call>' ? TAG : undefined),
}
const grammars = new Grammars(vocabulary, TAG + 1)

function matcherOf(format: ToolFormat, functions: readonly ToolFunction[], isParallel = false) {
  return grammars.matcher({ calls: { format, functions, isParallel }, text: undefined }, [END])
}

function parse(format: ToolFormat, functions: readonly ToolFunction[], text: string) {
  const parser = new AnswerParser({
    reasoning: undefined,
    tools: (sink) => TOOL_FORMATS[format].parser(sink, functions),
    maxCalls: Number.POSITIVE_INFINITY,
    isConstrained: true,
    newId: () => 'id',
  })
  parser.push(text)
  parser.end(false)
  return parser.answer
}

function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** Random allowed tokens, often those that end strings, lists and values; undefined if there are too many of them. */
async function randomAnswer(format: ToolFormat, functions: readonly ToolFunction[], seed: number, isParallel: boolean) {
  const matcher = await matcherOf(format, functions, isParallel)
  const random = randomNumbers(seed)
  const bytes: number[] = []
  const wanted: number[] = []
  for (let i = 0; i < 1500; i++) {
    const mask = matcher.allowed()
    const allowed = Array.from({ length: TAG + 1 }, (_, id) => id).filter(
      (id) => ((mask[id >> 5] as number) >>> (id & 31)) & 1,
    )
    const closing = allowed.filter((id) => '"}]\n<'.includes(String.fromCharCode(id)) || id === END)
    const from = closing.length > 0 && random() < 0.4 ? closing : allowed
    const next = wanted.shift()
    const token = allowed.find((id) => id === next) ?? (from[Math.floor(random() * from.length)] as number)
    if (token === 0x0a && random() < 0.5) wanted.push(...Buffer.from('</parameter>\n'))
    if (token === END) break
    bytes.push(...vocabulary.idToBytes(token))
    if (matcher.accept(token) === matched.finished) break
    if (i === 1499) return undefined
  }
  return Buffer.from(bytes).toString()
}

const city = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }
const functions: ToolFunction[] = [
  { name: 'nothing' },
  { name: 'nothing_declared', parameters: { type: 'object', properties: {} } },
  {
    name: 'strings',
    parameters: {
      type: 'object',
      properties: {
        text: { type: 'string' },
        größe: { type: 'string', maxLength: 5 },
        code: { type: 'string', pattern: '^[A-Z]{2}"?$' },
        day: { type: 'string', format: 'date' },
        unit: { enum: ['a "b"', '</tool_call>x', 'c\nd'] },
        perhaps: { type: ['string', 'null'], minLength: 2, maxLength: 9 },
      },
      required: ['text', 'unit', 'perhaps'],
    },
  },
  {
    name: 'nested',
    parameters: {
      type: 'object',
      properties: {
        place: { $ref: '#/$defs/city' },
        list: { type: 'array', items: { anyOf: [{ $ref: '#/$defs/city' }, { type: 'boolean' }] }, maxItems: 3 },
        count: { type: ['integer', 'string'], minimum: 0, maximum: 9 },
        either: { anyOf: [{ type: 'number' }, { type: 'array', items: { type: 'null' } }] },
        flag: { type: 'boolean' },
        constant: { const: { a: ['<', '\n'] } },
      },
      required: ['place', 'count'],
      additionalProperties: false,
      $defs: { city },
    },
  },
]

describe.each(['hermes', 'qwen3_coder'] as const)('%s', (format) => {
  test.each([false, true])('random calls satisfy their schemas; several: %s', async (isParallel) => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false })
    const valid = new Map(
      functions.map((tool) => [tool.name, ajv.compile((tool.parameters ?? { maxProperties: 0 }) as object)]),
    )
    const counts = new Map<string, number>()
    for (let seed = 0; seed < 80; seed++) {
      const text = await randomAnswer(format, functions, seed, isParallel)
      if (text === undefined) continue
      const { content, toolCalls } = parse(format, functions, text)
      expect(content).toBeNull()
      expect(toolCalls.length).toBeGreaterThan(0)
      if (!isParallel) expect(toolCalls).toHaveLength(1)
      for (const call of toolCalls) {
        const validate = valid.get(call.name)
        expect(validate?.(JSON.parse(call.arguments)), `${text}\n${JSON.stringify(validate?.errors)}`).toBe(true)
        counts.set(call.name, (counts.get(call.name) ?? 0) + 1)
      }
    }
    for (const { name } of functions) expect(counts.get(name), name).toBeGreaterThan(5)
  })

  test('tags inside strings belong to them', async () => {
    const value = 'a </tool_call>\n <tool_call>\n<div>\n</tool>'
    const written =
      format === 'hermes'
        ? `{"name": "strings", "arguments": {"text": ${JSON.stringify(value)},"unit":"</tool_call>x","perhaps":null}}\n`
        : `<function=strings>\n<parameter=text>\n${value}\n</parameter>\n<parameter=unit>\nc\nd\n</parameter>\n` +
          '<parameter=perhaps>\nnull\n</parameter>\n</function>\n'
    const text = `<tool_call>\n${written}</tool_call>`
    const matcher = await matcherOf(format, functions)
    const states = [...Buffer.from(text)].map((byte) => matcher.accept(byte))
    expect(states).not.toContain(matched.refused)
    expect(states.at(-1)).toBe(matched.finished)
    const { toolCalls } = parse(format, functions, text)
    expect(JSON.parse(toolCalls[0]?.arguments ?? '')).toMatchObject({ text: value, perhaps: null })
  })

  test('a tag may be its special token', async () => {
    const matcher = await matcherOf(format, functions)
    expect((matcher.allowed()[TAG >> 5] as number) & (1 << (TAG & 31))).not.toBe(0)
    expect(matcher.accept(TAG)).not.toBe(matched.refused)
    expect(matcher.accept(0x0a)).not.toBe(matched.refused)
  })

  test.each<[string, unknown, RegExp]>([
    ['no object', { type: 'string' }, /^tools: /],
    ['a keyword', { type: 'object', properties: { a: { not: {} } }, required: ['a'] }, /the function f: .*not/],
    ['a reference to itself', { $ref: '#' }, /^tools: /],
    ['more than can be kept', { type: 'array', minItems: 1e9 }, /^tools: /],
    ['no value', { type: 'object', properties: { a: false }, required: ['a'] }, /^tools: /],
  ])('refuses %s', async (_, parameters, message) => {
    const begun = performance.now()
    const outcome = await matcherOf(format, [{ name: 'f', parameters }]).catch((error: unknown) => error)
    expect(outcome).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringMatching(message) })
    expect(performance.now() - begun).toBeLessThan(1000)
  })
})

test.each(['hermes', 'qwen3_coder'] as const)('1000 functions, and deep schemas, are read in %s', async (format) => {
  const parameters = { type: 'object', properties: { a: { type: 'string' }, b: { type: 'integer' } }, required: ['a'] }
  const many = Array.from({ length: 1000 }, (_, i) => ({ name: `f${i}`, parameters }))
  await expect(matcherOf(format, many)).resolves.toBeDefined()
  let deep: object = { type: 'string' }
  for (let i = 0; i < 3000; i++) deep = { anyOf: [deep] }
  const functions = [{ name: 'f', parameters: { type: 'object', properties: { a: deep } } }]
  const form = { calls: { format, functions, isParallel: true }, text: undefined }
  await expect(compileStructuredOutput(form)).resolves.toBeDefined()
})

test('qwen3_coder has no form for names with spaces', async () => {
  const odd = { type: 'object', properties: { 'a b': {} } }
  await expect(matcherOf('qwen3_coder', [{ name: 'f', parameters: odd }])).rejects.toThrow(/the name "a b" cannot/)
  await expect(matcherOf('qwen3_coder', [{ name: 'f>' }])).rejects.toThrow(/the name "f>" cannot/)
})
