import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseJsonInSlices } from '../../src/checkpoint/sliced-json'
import { Random } from '../support/random.cjs'

const numbers = new Random(5)
const random = (below: number) => numbers.below(below)
const pick = <T>(choices: readonly T[]): T => choices[random(choices.length)] as T

const scalars = ['0', '-0', '12', '-3.25', '1e5', '2E-3', '1.5e+300', 'true', 'false', 'null', '123456789012345678901']
const strings = [
  '',
  'a',
  'Ġhello',
  '你好',
  '😀',
  '\ud800',
  '"',
  '\\',
  '\\"',
  'a\\',
  '\n\t\u0000',
  'x'.repeat(13),
  '__proto__',
  '7',
]
const spaces = ['', '', '', ' ', '\n', '\r\n\t ']

/** The text of a value, with white space everywhere that it may be. */
function randomJson(depth: number): string {
  const space = () => pick(spaces)
  const string = () => JSON.stringify(pick(strings) + pick(strings))
  const inner = () => `${space()}${randomJson(depth - 1)}${space()}`
  switch (depth > 0 ? random(4) : random(2)) {
    case 0:
      return pick(scalars)
    case 1:
      return string()
    case 2:
      return `[${space()}${Array.from({ length: random(5) }, inner).join(',')}]`
    default:
      return `{${space()}${Array.from({ length: random(5) }, () => `${space()}${string()}${space()}:${inner()}`).join(',')}}`
  }
}

/** A value, or that there is none; text that no JSON parser may take is refused alike. */
async function outcome(parse: () => unknown): Promise<unknown> {
  try {
    return { value: await parse() }
  } catch (error) {
    return (error as Error).name
  }
}

/** The text, cut anywhere. */
function piecesOf(text: string): string[] {
  const pieces: string[] = []
  for (let at = 0; at < text.length; ) {
    const length = random(random(2) ? 3 : 40)
    pieces.push(text.slice(at, at + length))
    at += length
  }
  return pieces
}

test('gives what JSON.parse gives', async () => {
  for (let round = 0; round < 3000; round++) {
    const text = pick(spaces) + randomJson(5) + pick(spaces)
    expect(await parseJsonInSlices(text), text).toEqual(JSON.parse(text))
    expect(await parseJsonInSlices(piecesOf(text)), text).toEqual(JSON.parse(text))
  }
})

test('refuses what JSON.parse refuses', async () => {
  const characters = [...'{}[]:,"\\ \n0-.e+tfn', 'u', '\u0001', '\u00a0', '\ufeff', 'é']
  let refused = 0
  for (let round = 0; round < 6000; round++) {
    let text = randomJson(4)
    for (let change = random(3); change >= 0; change--) {
      const at = random(text.length + 1)
      text = text.slice(0, at) + (random(2) ? pick(characters) : '') + text.slice(at + random(3))
    }
    const expected = await outcome(() => JSON.parse(text))
    if (expected === 'SyntaxError') refused++
    expect(await outcome(() => parseJsonInSlices(text)), text).toEqual(expected)
    expect(await outcome(() => parseJsonInSlices(piecesOf(text))), text).toEqual(expected)
  }
  expect(refused).toBeGreaterThan(1000)
  expect(refused).toBeLessThan(5900)
})

test('keeps keys that objects treat specially', async () => {
  const value = (await parseJsonInSlices('{"__proto__": 1, "constructor": 2, "a": 3, "a": 4}')) as object
  expect(Object.entries(value)).toEqual([
    ['__proto__', 1],
    ['constructor', 2],
    ['a', 4],
  ])
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
})

describe('an object that is wanted as a Map', () => {
  const text =
    '{"model": {"vocab": {"b": 0, "1": 1, "b": 2, "__proto__": 3, "c": {}}, "x": {"vocab": {}}}, "vocab": {}}'
  test('is one, in the order of the text, and no other is', async () => {
    expect(await parseJsonInSlices(text, { mapAt: 'model.vocab' })).toEqual({
      model: {
        vocab: new Map<string, unknown>([
          ['b', 2],
          ['1', 1],
          ['__proto__', 3],
          ['c', {}],
        ]),
        x: { vocab: {} },
      },
      vocab: {},
    })
  })
})

test('endless nesting is refused, not followed', async () => {
  expect(await parseJsonInSlices('[{"a":'.repeat(64) + 1 + '}]'.repeat(64))).toEqual(
    JSON.parse('[{"a":'.repeat(64) + 1 + '}]'.repeat(64)),
  )
  await expect(parseJsonInSlices('['.repeat(129))).rejects.toThrow('more than 128 levels')
  await expect(parseJsonInSlices('{"a":'.repeat(1_000_000))).rejects.toThrow(SyntaxError)
})

test('other events are handled in between', async () => {
  const vocabulary = Object.fromEntries(Array.from({ length: 30_000 }, (_, id) => [`token ${id}`, id]))
  const text = JSON.stringify({ model: { vocab: vocabulary, merges: Array(30_000).fill(['a', 'b']) } })
  let turns = 0
  let immediate = setImmediate(function count() {
    turns++
    immediate = setImmediate(count)
  })
  const value = await parseJsonInSlices(text)
  clearImmediate(immediate)
  expect(value).toEqual(JSON.parse(text))
  expect(turns).toBeGreaterThan(20)
})

test('a text in pieces has the same errors as the whole text', async () => {
  const pieces = ['[1, ', '"ab', 'c", x', ']']
  await expect(parseJsonInSlices(pieces)).rejects.toThrow('unexpected "x]" at position 11')
  await expect(parseJsonInSlices(['[1, "ab', 'c'])).rejects.toThrow('a string without an end at position 4')
  const long = Array(3).fill('x'.repeat(1 << 20))
  await expect(parseJsonInSlices(['["', ...long, '"]'])).rejects.toThrow('a string of more than 2097152 characters')
  await expect(parseJsonInSlices(['[', ...long.map((text) => ' '.repeat(text.length)), ']'])).rejects.toThrow(
    'white space',
  )
})

test('a real tokenizer', async () => {
  const text = readFileSync(resolve(__dirname, '../../examples/demo-model/tokenizer.json'), 'utf8')
  expect(await parseJsonInSlices(text)).toEqual(JSON.parse(text))
})
