import type { StructuredOutput } from '../../src/chat/structured/spec'

const nested = (depth: number, wrap: (inner: object) => object): object => {
  let schema: object = { type: 'null' }
  for (let i = 0; i < depth; i++) schema = wrap(schema)
  return schema
}
const refs = (count: number, of: (i: number) => object) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`d${i}`, of(i)]))

/** Forms of answers that are made to take long. */
export const hostileForms: Record<string, StructuredOutput> = {
  'a loop of references': {
    json: { $defs: refs(5000, (i) => ({ $ref: `#/$defs/d${(i + 1) % 5000}` })), $ref: '#/$defs/d0' },
  },
  'references that double': {
    json: {
      $defs: refs(60, (i) => ({ allOf: [{ $ref: `#/$defs/d${i + 1}` }, { $ref: `#/$defs/d${i + 1}` }] })),
      $ref: '#/$defs/d0',
    },
  },
  'schemas that double': {
    json: {
      $defs: refs(40, (i) => ({
        type: 'object',
        allOf: [
          { properties: { a: { $ref: `#/$defs/d${i + 1}` } } },
          { properties: { a: { $ref: `#/$defs/d${i + 1}`, type: 'object' } } },
        ],
      })),
      $ref: '#/$defs/d0',
    },
  },
  'a huge enum': { json: { enum: Array.from({ length: 200_000 }, (_, i) => `${i} of many values`) } },
  'an enum of long texts': { json: { enum: Array.from({ length: 10_000 }, (_, i) => `${i} `.repeat(20)) } },
  'deep nesting': { json: nested(100_000, (inner) => ({ type: 'array', minItems: 1, items: inner })) },
  'deep combinations': { json: nested(5000, (inner) => ({ allOf: [inner] })) },
  'many items': { json: { type: 'array', minItems: 1e9 } },
  'many items of many items': {
    json: nested(3, (items) => ({ type: 'array', items, minItems: 9000, maxItems: 10_000 })),
  },
  'a long string': { json: { type: 'string', maxLength: 2 ** 40 } },
  'nested counts': { regex: '(((a{999}){999}){999}){999}' },
  'counts of nothing': { regex: '((((){9999}){9999}){9999}){9999}' },
  'an endless count': { regex: 'a{1000000000}' },
  'a pattern deep in brackets': { regex: '('.repeat(4000) },
  'a long pattern': { regex: 'a|'.repeat(100_000) },
  'counts in a grammar': { grammar: 'root ::= ((("a"{9999}){9999}){9999}){9999}' },
  'a grammar deep in brackets': { grammar: `root ::= ${'('.repeat(100_000)}` },
  'many empty rules': {
    grammar: `root ::= r0 "."\n${Array.from({ length: 4000 }, (_, i) => `r${i} ::= r${i + 1} r${i + 1} | ""`).join('\n')}\nr4000 ::= ""`,
  },
}
