// What JSON schemas make of answers, and which are refused.
import { describe, expect, test } from 'vitest'
import { compileStructuredOutput } from '../../../../src/chat/structured/compile'
import { Grammars } from '../../../../src/chat/structured/grammars'
import { matched } from '../../../../src/native/grammar'

/** A token for each byte, and one that ends an answer. */
const END = 256
const vocabulary = {
  specialIds: new Set([END]),
  leadingSpacesToStrip: 0,
  idToBytes: (id: number) => Uint8Array.of(id),
  tokenToId: () => undefined,
}

/** Whether a text, written byte by byte, is a complete answer. */
async function accepts(form: Parameters<typeof compileStructuredOutput>[0], text: string): Promise<boolean> {
  const matcher = await new Grammars(vocabulary, END + 1).matcher(form, [END])
  for (const byte of Buffer.from(text)) if (matcher.accept(byte) === matched.refused) return false
  return matcher.allowed()[END / 32] === 1
}

const text = (value: unknown) =>
  typeof value === 'string' && value.startsWith('=') ? value.slice(1) : JSON.stringify(value)

test.each<[name: string, schema: object, good: unknown[], bad: unknown[]]>([
  [
    'integers',
    { type: 'integer', minimum: -12, maximum: 120 },
    [-12, -1, 0, 7, 99, 120],
    [-13, 121, 1.5, '=01', '=-0'],
  ],
  ['limits of integers that are no integers', { type: 'integer', minimum: 0.5, exclusiveMaximum: 3 }, [1, 2], [0, 3]],
  ['numbers', { type: 'number' }, [0, -1.25, '=1e5', '=2.5E-3'], ['=1.', '=.5', '=+1', '=1e', 'a']],
  [
    'limits of numbers',
    { type: 'number', exclusiveMinimum: -1.5, maximum: 10.25 },
    [-1.25, '=-1.4999', 0, '=-0.5', 10, 10.25, '=10.249', '=10.250'],
    [-1.5, -2, 10.26, 11, '=10.2501'],
  ],
  ['negative limits', { type: 'number', minimum: -20, maximum: -3.5 }, [-20, -3.5, -4], [-3, -20.1, 0, 4]],
  ['lengths in characters', { type: 'string', minLength: 2, maxLength: 3 }, ['ab', '北京🐟', '="a\\n"'], ['a', 'abcd']],
  [
    'long strings',
    { type: 'string', minLength: 70, maxLength: 200 },
    ['x'.repeat(70), 'x'.repeat(200)],
    ['x'.repeat(69), 'x'.repeat(201)],
  ],
  [
    'characters of strings',
    { type: 'string' },
    ['="\\u00e9"', 'é', '\\', '"'],
    ['="\n"', '="\\x"', '="\\ud800"', '="'],
  ],
  ['patterns', { type: 'string', pattern: '^a"?[^b]$' }, ['ac', 'a"x', 'a\n'], ['ab', 'abb', 'xac']],
  ['patterns anywhere', { type: 'string', pattern: 'b+' }, ['abc', 'b'], ['ac', '']],
  ['formats', { type: 'string', format: 'date' }, ['2026-02-28'], ['2026-02-30', '2026-13-01', 'today']],
  [
    'members in order, if they are there',
    {
      type: 'object',
      properties: { a: { type: 'integer' }, b: { type: 'integer' }, c: { type: 'null' } },
      required: ['b'],
    },
    [{ a: 1, b: 2, c: null }, { b: 2 }, { b: 2, c: null }, '={ "b": 2 }', '={\n  "a": 1,\n  "b": 2\n}'],
    [{ a: 1 }, {}, { b: 2, a: 1 }, { b: 2, d: 1 }, '={"b":2,}', '={"b" :2}'],
  ],
  [
    'other members',
    { type: 'object', properties: { ab: { type: 'integer' } }, additionalProperties: { type: 'boolean' } },
    [{}, { ab: 1 }, { ab: 1, x: true, y: false }, { a: true }, { abc: true }, { é: true }],
    [{ x: 1 }, '={"ab":true}', '={"ab":1,"ab":true}'],
  ],
  ['any object', { type: 'object' }, [{}, { a: [1, { b: null }] }], [[], 1]],
  ['no limits at all', {}, [1, 'a', [true], { a: {} }], ['=a']],
  [
    'arrays',
    { type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 2 },
    [[1], [1, 2]],
    [[], [1, 2, 3], ['a']],
  ],
  [
    'tuples',
    { type: 'array', prefixItems: [{ type: 'integer' }, { const: 'x' }], items: false },
    [[1, 'x']],
    [
      [1, 'y'],
      [1, 'x', 2],
    ],
  ],
  ['enum and type', { type: 'string', enum: ['a', 1, null] }, ['a'], [1, null]],
  ['const', { const: { a: [1, 'b'] } }, [{ a: [1, 'b'] }], [{ a: [1] }]],
  ['types', { type: ['integer', 'null'] }, [1, null], [1.5, 'a']],
  [
    'anyOf beside other keywords',
    { type: 'object', properties: { a: { type: 'integer' } }, anyOf: [{ required: ['a'] }] },
    [{ a: 1 }],
    [{}],
  ],
  [
    'oneOf by a required constant',
    {
      oneOf: [
        { type: 'object', properties: { kind: { const: 'a' }, x: { type: 'integer' } }, required: ['kind', 'x'] },
        { type: 'object', properties: { kind: { const: 'b' } }, required: ['kind'] },
      ],
    },
    [{ kind: 'a', x: 1 }, { kind: 'b' }],
    [{ kind: 'a' }, { kind: 'b', x: 1 }],
  ],
  [
    'allOf',
    {
      allOf: [
        { type: 'number', minimum: 1 },
        { type: 'integer', maximum: 3 },
      ],
    },
    [1, 2, 3],
    [0, 4, 1.5],
  ],
  [
    'schemas within themselves',
    { type: 'object', properties: { next: { anyOf: [{ $ref: '#' }, { type: 'null' }] } }, required: ['next'] },
    [{ next: null }, { next: { next: { next: null } } }],
    [{}, { next: 1 }],
  ],
  [
    'references beside descriptions',
    { $defs: { 'a/b': { type: 'null' } }, $ref: '#/$defs/a~1b', description: 'x' },
    [null],
    [1],
  ],
])('%s', async (_, json, good, bad) => {
  for (const value of good) expect(await accepts({ json }, text(value)), `accepts ${text(value)}`).toBe(true)
  for (const value of bad) expect(await accepts({ json }, text(value)), `refuses ${text(value)}`).toBe(false)
})

describe('refuses', () => {
  test.each<[name: string, schema: unknown, message: RegExp]>([
    ...[
      'not',
      'if',
      'contains',
      'patternProperties',
      'propertyNames',
      'dependentRequired',
      'unevaluatedProperties',
    ].map((keyword): [string, unknown, RegExp] => [
      keyword,
      { type: 'object', properties: { 'x/y': { [keyword]: {} } } },
      new RegExp(
        `^structuredOutput\\.json: #/properties/x~1y/${keyword} of the schema is a keyword that is not supported`,
      ),
    ]),
    ['a misspelled keyword', { type: 'string', maxLenght: 3 }, /#\/maxLenght of the schema is a keyword/],
    ['uniqueItems', { type: 'array', uniqueItems: true }, /#\/uniqueItems of the schema is not supported/],
    ['multipleOf', { type: 'integer', multipleOf: 3 }, /#\/multipleOf /],
    ['an unknown format', { type: 'string', format: 'color' }, /#\/format of the schema must be one of date, /],
    ['oneOf that may match twice', { oneOf: [{ type: 'integer' }, { type: 'number' }] }, /#\/oneOf .* 0 and 1,/],
    ['limits that leave nothing', { type: 'integer', minimum: 3, maximum: 2 }, /no text matches it/],
    ['a remote reference', { $ref: 'https://example.com/schema.json' }, /#\/\$ref .* must point into the schema/],
    ['a missing reference', { $ref: '#/$defs/none' }, /which is not in the schema/],
    ['a reference to a prototype', { $ref: '#/constructor' }, /which is not in the schema/],
    ['a reference to itself', { $ref: '#' }, /begins with itself|no text matches/],
    ['an array for a schema', { properties: { a: [] } }, /#\/properties\/a of the schema must be an object/],
    ['an enum that is no array', { enum: 'a' }, /#\/enum of the schema must be an array/],
    ['a negative length', { type: 'string', minLength: -1 }, /#\/minLength of the schema must be a whole number/],
    [
      'two ways to limit a string',
      { type: 'string', pattern: 'a', maxLength: 3 },
      /#\/maxLength of the schema stands beside pattern/,
    ],
  ])('%s', async (_, json, message) => {
    await expect(compileStructuredOutput({ json } as never)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(message),
    })
  })
})

test.each<[string, string, string[], string[]]>([
  ['alternatives', 'cat|dogs?', ['cat', 'dog', 'dogs'], ['ca', 'cats', ' cat']],
  ['classes', '[^\\W\\d_]{2}\\s?[\\u00e0-\\u00ff-]*', ['ab', 'ab é-', 'xy\t'], ['a1', 'ab1']],
  ['anchors at the ends', '^a$|b', ['a', 'b'], ['ab']],
  ['all characters', '.', ['a', 'é', '🐟'], ['\n', 'ab']],
])('regular expressions: %s', async (_, regex, good, bad) => {
  for (const value of good) expect(await accepts({ regex }, value), value).toBe(true)
  for (const value of bad) expect(await accepts({ regex }, value), value).toBe(false)
})

test.each(['(?=a)b', 'a(?<!b)', '(a)\\1', 'a\\b', '(', 'a{2,1}', 'a^b', '\\p{L}'])(
  'refuses the pattern %s',
  async (regex) => {
    await expect(compileStructuredOutput({ regex })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  },
)

test('grammars: literals, classes, counts and recursion', async () => {
  const grammar = `
    root ::= list | "\\x41\\u00e9" [^a-c\\]]{2} # a comment
    list ::= "(" (item ("," item)*)? ")"
    item ::= list
      | [0-9]+`
  for (const good of ['()', '(1,(2),())', 'Aéxy', 'Aé🐟"']) expect(await accepts({ grammar }, good), good).toBe(true)
  for (const bad of ['(', '(1,)', 'Aéxa', 'Aé]x']) expect(await accepts({ grammar }, bad), bad).toBe(false)
})

test.each<[string, RegExp]>([
  ['', /the rule root is not defined/],
  ['root ::= "a" other', /the rule other is not defined \(line 1, column 14\)/],
  ['root ::= "a', /a text in quotes does not end/],
  ['root ::= (', /expected \)/],
  ['root = "a"', /expected ::= after root/],
  ['root ::= root "a" | "b"', /The rule root begins with itself/],
  ['root ::= a b\na ::= "x"?\nb ::= a root | "y"', /begins with itself/],
  ['root ::= "a" root', /no text matches it/],
  ['root ::= "a"\nroot ::= "b"', /the rule root is defined twice \(line 2, column 1\)/],
  ['root ::= "a"{3', /expected \{n\}/],
])('refuses the grammar %j', async (grammar, message) => {
  await expect(compileStructuredOutput({ grammar })).rejects.toMatchObject({ message: expect.stringMatching(message) })
})
