import { describe, expect, test } from 'vitest'
import type { ToolFunction } from '../../../src/chat/tools/tool-parser'
import { accumulated, read, type Setting } from '../../support/answers'

const tools: readonly ToolFunction[] = [
  {
    name: 'f',
    parameters: {
      type: 'object',
      properties: {
        city: { type: 'string' },
        days: { type: 'integer' },
        ratio: { type: 'number' },
        metric: { type: 'boolean' },
        ids: { type: 'array', items: { type: 'integer' } },
        place: { $ref: '#/$defs/place' },
        note: { type: ['string', 'null'] },
        level: { anyOf: [{ type: 'null' }, { type: 'integer' }] },
        unit: { enum: ['c', 'f'] },
        loop: { $ref: '#/$defs/loop' },
      },
      $defs: { place: { type: 'object' }, loop: { $ref: '#/$defs/loop' } },
    },
  },
  { name: 'g' },
]
const hermes: Setting = { format: 'hermes', tools }
const xml: Setting = { format: 'qwen3_coder', tools }

const json = (name: string, args: string) => `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`
const call = (name: string, ...parameters: string[]) =>
  `<tool_call>\n<function=${name}>\n${parameters.map((parameter) => `${parameter}\n`).join('')}</function>\n</tool_call>`
const parameter = (name: string, value: string) => `<parameter=${name}>\n${value}\n</parameter>`

interface Wanted {
  readonly content?: string | null
  readonly reasoning?: string
  /** Name and arguments; undefined for arguments that are no JSON. */
  readonly calls?: readonly (readonly [string, unknown])[]
  readonly callsTools?: boolean
}
type Case = readonly [what: string, setting: Setting, text: string, wanted: Wanted]

const thinking: Case[] = [
  ['text', {}, 'Hello <think> there', { content: 'Hello <think> there' }],
  ['nothing', {}, '', { content: '' }],
  [
    'a tagged thought',
    { reasoning: 'tagged' },
    '\n<think>\nHm\n\nyes\n</think>\n\nHi',
    { reasoning: 'Hm\n\nyes', content: 'Hi' },
  ],
  ['no thought where one may be', { reasoning: 'tagged' }, ' \nHi <think>', { content: ' \nHi <think>' }],
  ['nearly a tag', { reasoning: 'tagged' }, '<thin', { content: '<thin' }],
  ['an empty thought', { reasoning: 'tagged' }, '<think>\n\n</think>\n\nHi', { content: 'Hi' }],
  ['a thought that the prompt opened', { reasoning: 'open' }, 'Hm\n</think>\n\nHi', { reasoning: 'Hm', content: 'Hi' }],
  [
    'an opening tag that is repeated',
    { reasoning: 'open' },
    '<think>\nHm</think>Hi',
    { reasoning: 'Hm', content: 'Hi' },
  ],
  [
    'a thought that is cut off',
    { reasoning: 'open', isCut: true },
    'Hm </thi',
    { reasoning: 'Hm </thi', content: null },
  ],
  ['a thought that the prompt closed', { reasoning: 'closed' }, 'Hi </think>', { content: 'Hi </think>' }],
  ['only the first end', { reasoning: 'open' }, 'a</think>b</think>c', { reasoning: 'a', content: 'b</think>c' }],
  ['a < b', { reasoning: 'open' }, 'a < b <</think> c < d', { reasoning: 'a < b <', content: ' c < d' }],
  [
    'a tag of a call that is only mentioned',
    { ...hermes, reasoning: 'open' },
    'I use <tool_call> then.</think>Well',
    { reasoning: 'I use <tool_call> then.', content: 'Well' },
  ],
  [
    'a call that ends the thought',
    { ...xml, reasoning: 'open' },
    `Hm\n${call('g')}`,
    { reasoning: 'Hm', content: null, calls: [['g', {}]] },
  ],
  [
    'a thought and a call',
    { ...hermes, reasoning: 'tagged' },
    `<think>\nHm\n</think>\n\n${json('f', '{}')}`,
    { reasoning: 'Hm', content: null, calls: [['f', {}]] },
  ],
]

const hermesCases: Case[] = [
  ['a call', hermes, json('f', '{"city": "Oslo"}'), { content: null, calls: [['f', { city: 'Oslo' }]] }],
  [
    'text and two calls',
    hermes,
    `Let me look.\n${json('f', '{"a": [1, {"b": "}"}]}')}\n${json('g', '{}')}\n`,
    {
      content: 'Let me look.',
      calls: [
        ['f', { a: [1, { b: '}' }] }],
        ['g', {}],
      ],
    },
  ],
  ['text behind a call', hermes, `${json('g', '{}')}\nDone.`, { content: '\nDone.', calls: [['g', {}]] }],
  [
    'tags in a string',
    hermes,
    json('f', '{"q": "</tool_call> \\"<tool_call>"}'),
    { content: null, calls: [['f', { q: '</tool_call> "<tool_call>' }]] },
  ],
  [
    'the arguments first',
    hermes,
    '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
    { content: null, calls: [['f', { a: 1 }]] },
  ],
  [
    'parameters, and other members',
    hermes,
    '<tool_call>{"id": 7, "name": "f", "parameters": {"a": 1}, "x": [null]}</tool_call>',
    { content: null, calls: [['f', { a: 1 }]] },
  ],
  ['arguments as a string', hermes, json('f', '"{\\"a\\": 1}"'), { content: null, calls: [['f', { a: 1 }]] }],
  ['an empty string', hermes, json('f', '""'), { content: null, calls: [['f', {}]] }],
  ['null', hermes, json('f', 'null'), { content: null, calls: [['f', {}]] }],
  ['a list', hermes, json('f', '[1]'), { content: null, calls: [['f', [1]]] }],
  ['no arguments', hermes, '<tool_call>{"name": "f"}</tool_call>', { content: null, calls: [['f', {}]] }],
  ['line breaks in a string', hermes, json('f', '{"a": "1\n\t2"}'), { content: null, calls: [['f', { a: '1\n\t2' }]] }],
  [
    'a brace too many',
    hermes,
    '<tool_call>\n{"name": "f", "arguments": {}}}\n</tool_call>',
    { content: null, calls: [['f', {}]] },
  ],
  [
    'no end tag',
    hermes,
    '<tool_call>\n{"name": "f", "arguments": {}}\n<tool_call>{"name": "g"}',
    {
      content: null,
      calls: [
        ['f', {}],
        ['g', {}],
      ],
    },
  ],
  [
    'a name with an escape',
    hermes,
    '<tool_call>{"n\\u0061me": "\\u0066"}</tool_call>',
    { content: null, calls: [['f', {}]] },
  ],
  [
    'a tag that is mentioned',
    hermes,
    'Write <tool_call>  or <tool_call',
    { content: 'Write <tool_call>  or <tool_call' },
  ],
  [
    'quotes of Python',
    hermes,
    "<tool_call>{'name': 'f'}</tool_call>",
    { content: "<tool_call>{'name': 'f'}</tool_call>" },
  ],
  [
    'no name',
    hermes,
    '<tool_call>{"arguments": {}}</tool_call>',
    { content: '<tool_call>{"arguments": {}}</tool_call>' },
  ],
  [
    'a name that is none',
    hermes,
    '<tool_call>{"name": 5}</tool_call>',
    { content: '<tool_call>{"name": 5}</tool_call>' },
  ],
  ['an end before the name', { ...hermes, isCut: true }, '<tool_call>{"na', { content: '<tool_call>{"na' }],
  [
    'an end in the arguments',
    { ...hermes, isCut: true },
    '<tool_call>{"name": "f", "arguments": {"a": "b',
    { content: null, calls: [['f', undefined]], callsTools: false },
  ],
  [
    'a forgotten brace at the end',
    hermes,
    '<tool_call>{"name": "f", "arguments": {"a": 1}',
    { content: null, calls: [['f', { a: 1 }]] },
  ],
  [
    'a missing comma',
    hermes,
    '<tool_call>{"name": "f" "arguments": {}}</tool_call>',
    { content: null, calls: [['f', undefined]] },
  ],
  [
    'rubbish behind the arguments',
    hermes,
    '<tool_call>{"name": "f", "arguments": {} oops</tool_call> Hi',
    { content: ' Hi', calls: [['f', {}]] },
  ],
  [
    'calls, of which one is wanted',
    { ...hermes, maxCalls: 1 },
    `${json('f', '{}')}\n${json('g', '{}')} more`,
    { content: null, calls: [['f', {}]] },
  ],
]

const xmlCases: Case[] = [
  ['a call', xml, call('f', parameter('city', 'Oslo')), { content: null, calls: [['f', { city: 'Oslo' }]] }],
  [
    'values of all types',
    xml,
    call(
      'f',
      parameter('city', '5'),
      parameter('days', '12'),
      parameter('ratio', '-1.5e3'),
      parameter('metric', 'True'),
      parameter('ids', '[1, 2]'),
      parameter('place', "{'lat': 1, 'ok': True, 'names': ['a\\'b',], 'n': None}"),
      parameter('note', 'null'),
      parameter('level', '3'),
      parameter('unit', 'c'),
      parameter('loop', 'x'),
      parameter('other', '7'),
    ),
    {
      content: null,
      calls: [
        [
          'f',
          {
            city: '5',
            days: 12,
            ratio: -1500,
            metric: true,
            ids: [1, 2],
            place: { lat: 1, ok: true, names: ["a'b"], n: null },
            note: null,
            level: 3,
            unit: 'c',
            loop: 'x',
            other: '7',
          },
        ],
      ],
    },
  ],
  [
    'values that do not fit',
    xml,
    call('f', parameter('days', 'three'), parameter('metric', 'yes'), parameter('ids', '[1'), parameter('place', '[]')),
    { content: null, calls: [['f', { days: 'three', metric: 'yes', ids: '[1', place: '[]' }]] },
  ],
  [
    'null where it is not a text',
    xml,
    call('f', parameter('days', 'None'), parameter('city', 'null')),
    { content: null, calls: [['f', { days: null, city: 'null' }]] },
  ],
  [
    'lines, quotes and blanks',
    xml,
    call('f', parameter('city', ' a\n\n"b"\\\t\n')),
    { content: null, calls: [['f', { city: ' a\n\n"b"\\\t\n' }]] },
  ],
  [
    'an empty value',
    xml,
    call('f', '<parameter=city>\n</parameter>', '<parameter=note></parameter>'),
    { content: null, calls: [['f', { city: '', note: '' }]] },
  ],
  [
    'values in one line',
    xml,
    '<tool_call><function=f><parameter=city>Oslo</parameter><parameter=days>3</parameter></function></tool_call>',
    { content: null, calls: [['f', { city: 'Oslo', days: 3 }]] },
  ],
  [
    'text and two calls',
    xml,
    `Well.\n${call('g')}\n${call('g', parameter('x', '1'))}`,
    {
      content: 'Well.',
      calls: [
        ['g', {}],
        ['g', { x: '1' }],
      ],
    },
  ],
  ['a function that no one knows', xml, call('h', parameter('x', '1')), { content: null, calls: [['h', { x: '1' }]] }],
  [
    'no tag of the call',
    xml,
    'Well.\n<function=f>\n<parameter=days>\n1\n</parameter>\n</function>',
    { content: 'Well.', calls: [['f', { days: 1 }]] },
  ],
  [
    'a function that is mentioned',
    xml,
    'Use <function=f> or\n<function=h> or <tool_call> now',
    { content: 'Use <function=f> or\n<function=h> or <tool_call> now' },
  ],
  [
    'no end of a parameter',
    xml,
    '<tool_call>\n<function=f>\n<parameter=city>\nOslo\n<parameter=days>\n2\n</function>\n</tool_call>',
    { content: null, calls: [['f', { city: 'Oslo', days: 2 }]] },
  ],
  [
    'an end twice',
    xml,
    '<tool_call>\n<function=f>\n<parameter=city>\nOslo\n</parameter>\n</parameter>\n</function>\n</tool_call>',
    { content: null, calls: [['f', { city: 'Oslo' }]] },
  ],
  [
    'ends with spelling mistakes',
    xml,
    '<tool_call>\n<function=f>\n<parameter=city>\nOslo\n</parameter1>\n<parameter=days>\n1\n</parameter/>\n</function>\n</tool_call>',
    { content: null, calls: [['f', { city: 'Oslo', days: 1 }]] },
  ],
  [
    'starts with spelling mistakes',
    xml,
    '<tool_call>\n<function=f>\n<parameter=ids: [1, 2]\n</parameter>\n<parameter=note=\nx\n</parameter>\n<parameter=\n</parameter>\n<parameter=a b>\n</parameter>\n</function>\n</tool_call>',
    { content: null, calls: [['f', { ids: [1, 2], note: 'x' }]] },
  ],
  [
    'a tag in a text',
    xml,
    call('f', parameter('city', 'a </parameter> b\n</function>\n</parameter> c\n<parameter=x>\nd')),
    { content: null, calls: [['f', { city: 'a </parameter> b\n</function>\n</parameter> c\n<parameter=x>\nd' }]] },
  ],
  [
    'a call in a text',
    xml,
    call('f', parameter('city', `See:\n${call('f', parameter('city', 'x'))}\nEnd`)),
    { content: null, calls: [['f', { city: `See:\n${call('f', parameter('city', 'x'))}\nEnd` }]] },
  ],
  [
    'no end of function or call',
    xml,
    `<tool_call>\n<function=g>\n${parameter('x', '1')}\n<tool_call>\n<function=g>\n${parameter('x', '2')}`,
    {
      content: null,
      calls: [
        ['g', { x: '1' }],
        ['g', { x: '2' }],
      ],
    },
  ],
  [
    'no end at all',
    xml,
    '<tool_call>\n<function=f>\n<parameter=city>\nOslo\n',
    { content: null, calls: [['f', { city: 'Oslo' }]] },
  ],
  [
    'an end in a value',
    { ...xml, isCut: true },
    '<tool_call>\n<function=f>\n<parameter=city>\nOs',
    { content: null, calls: [['f', undefined]], callsTools: false },
  ],
  ['an end in a name', { ...xml, isCut: true }, '<tool_call>\n<function=f', { content: '<tool_call>\n<function=f' }],
  [
    'calls, of which one is wanted',
    { ...xml, maxCalls: 1 },
    `${call('g')}\n${call('g')}`,
    { content: null, calls: [['g', {}]] },
  ],
]

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const outcome = ({ answer, callsTools }: ReturnType<typeof read>) => ({
  content: answer.content,
  reasoning: answer.reasoning,
  calls: answer.toolCalls.map(({ name, arguments: json }) => [name, parsed(json)]),
  callsTools,
})

describe.each([
  ['reasoning', thinking],
  ['hermes', hermesCases],
  ['qwen3_coder', xmlCases],
])('%s', (_, cases) => {
  test.each(cases)('reads %s', (_, setting, text, wanted) => {
    const { calls = [], callsTools = calls.length > 0, content, reasoning } = wanted
    expect(outcome(read([text], setting))).toEqual({ content, reasoning, calls, callsTools })
  })

  test.each(cases)('reads %s alike in any parts, and as its events add up', (_, setting, text) => {
    const whole = read([text], setting)
    const characters = [...text]
    const partitions = [
      characters,
      ...characters.map((_, at) => [characters.slice(0, at).join(''), characters.slice(at).join('')]),
      ...Array.from({ length: 20 }, (_, seed) => randomParts(characters, seed)),
    ]
    for (const parts of partitions) {
      const split = read(parts, setting)
      expect(split.answer).toEqual(whole.answer)
      expect(split.callsTools).toBe(whole.callsTools)
      const { content, reasoning, calls } = accumulated(split.events)
      expect(content).toBe(whole.answer.content ?? '')
      expect(reasoning).toBe(whole.answer.reasoning ?? '')
      expect(calls.map(({ isComplete, ...rest }) => rest)).toEqual(whole.answer.toolCalls)
    }
  })
})

/** The same parts for the same seed. */
function randomParts(characters: readonly string[], seed: number): string[] {
  const parts: string[] = []
  let state = seed + 1
  for (let at = 0; at < characters.length; ) {
    state = (state * 48271) % 2147483647
    const length = 1 + (state % 9)
    parts.push(characters.slice(at, at + length).join(''))
    at += length
  }
  return parts
}

describe('any mixture of tags', () => {
  const pieces = [
    ...[
      '<tool_call>',
      '</tool_call>',
      '<function=f>',
      '</function>',
      '<parameter=city>',
      '<parameter=days>',
      '</parameter>',
    ],
    ...[
      '<think>',
      '</think>',
      '\n',
      ' ',
      '{',
      '}',
      '"',
      '"name": "f"',
      '"arguments":',
      ',',
      '[',
      ']',
      'x',
      '<',
      '\\',
      '5',
    ],
  ]
  test.each(['hermes', 'qwen3_coder'] as const)('of %s is read alike in any parts', (format) => {
    for (let seed = 0; seed < 400; seed++) {
      let state = seed * 7919 + 1
      const next = (below: number) => {
        state = (state * 48271) % 2147483647
        return state % below
      }
      const text = Array.from({ length: 5 + next(40) }, () => pieces[next(pieces.length)]).join('')
      const setting: Setting = {
        format,
        tools,
        reasoning: (['open', 'tagged', 'closed'] as const)[next(3)] ?? 'open',
        isCut: next(2) === 0,
      }
      const whole = read([text], setting)
      for (const parts of [[...text], randomParts([...text], seed)]) {
        expect(read(parts, setting).answer, JSON.stringify([text, setting])).toEqual(whole.answer)
      }
    }
  })
})

test('a call begins before its arguments are there, and they come in parts', () => {
  const types = (text: string, setting: Setting) => read([...text], setting).events.map(({ type }) => type)
  for (const [text, setting] of [
    [json('f', '{"city": "Oslo"}'), hermes],
    [call('f', parameter('city', 'Oslo')), xml],
  ] as const) {
    const all = types(text, setting)
    expect(all[0]).toBe('toolCallBegin')
    expect(all.at(-1)).toBe('toolCallEnd')
    expect(all.filter((type) => type === 'toolCallArguments').length).toBeGreaterThan(4)
  }
})

test('a schema that refers to itself many times costs no more than its size', () => {
  const node: Record<string, unknown> = { anyOf: Array.from({ length: 50 }, () => ({ $ref: '#/$defs/node' })) }
  const parameters = { properties: { tree: { $ref: '#/$defs/node' } }, $defs: { node } }
  const { answer } = read([call('f', parameter('tree', '1'))], { ...xml, tools: [{ name: 'f', parameters }] })
  expect(answer.toolCalls[0]?.arguments).toBe('{"tree": "1"}')
})

test('numbers keep the digits that the model wrote', () => {
  const { answer } = read([call('f', parameter('days', '9007199254740993'))], xml)
  expect(answer.toolCalls[0]?.arguments).toBe('{"days": 9007199254740993}')
})

describe('a hostile answer of a megabyte takes linear time', () => {
  const SIZE = 1 << 20
  const fill = (text: string) => text.repeat(SIZE / text.length)
  test.each<[string, string, string]>([
    ['tags', '', '<tool_call>'],
    ['starts of tags', '', '<'],
    ['blanks', '', ' '],
    ['blanks behind a tag', '<tool_call>', ' '],
    ['line breaks', '', '\n'],
    ['blanks behind a call', '<tool_call>{"name": "f"}', ' '],
    ['escapes of Python', "<tool_call>\n<function=f>\n<parameter=ids>\n['", '\\n'],
    ['braces', '<tool_call>{"name": "f", "arguments": ', '{'],
    ['backslashes', '<tool_call>{"name": "f", "arguments": {"', '\\'],
    ['a name', '<tool_call>\n<function=', 'f'],
    ['a name of a parameter', '<tool_call>\n<function=g>\n<parameter=', 'f'],
    ['a value', '<tool_call>\n<function=g>\n<parameter=x>\n', '\n<parameter=y'],
    ['ends', '<tool_call>\n<function=g>\n<parameter=x>\n', '\n</parameter>'],
    ['calls in a value', '<tool_call>\n<function=g>\n<parameter=x>\n', '\n<tool_call>\n<function=g>'],
    ['a list that does not end', '<tool_call>\n<function=f>\n<parameter=ids>\n', '['],
    ['a thought', '<think>', '\n'],
  ])('%s', (_, start, repeated) => {
    const text = start + fill(repeated)
    for (const format of ['hermes', 'qwen3_coder'] as const) {
      for (const parts of [[text], text.slice(0, SIZE / 4)]) {
        const before = performance.now()
        read(parts, { format, tools, reasoning: 'tagged' })
        expect(performance.now() - before).toBeLessThan(5000)
      }
    }
  })
})
