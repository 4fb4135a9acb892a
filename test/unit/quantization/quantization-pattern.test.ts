import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ModuleRule } from '../../../src/checkpoint/types'
import { Pattern } from '../../../src/quantization/pattern'
import { ruleFor } from '../../../src/quantization/rules'

const pattern = (source: string) => Pattern.of(source, 'The test')
const matches = (source: string, text: string) => pattern(source).matchesStart(text)

interface Case {
  readonly pattern: string
  /** A 1 for each text that matches; null where Python refuses the pattern. */
  readonly match: string | null
  readonly search: string | null
}
const python = JSON.parse(readFileSync(join(__dirname, '../../fixtures/patterns/python-re.json'), 'utf8')) as {
  texts: string[]
  cases: Case[]
}

describe('a pattern', () => {
  const bits = (test: (text: string) => boolean) => python.texts.map((text) => (test(text) ? '1' : '0')).join('')

  it.each(python.cases.filter(({ match }) => match !== null))(
    "$pattern means what Python's re takes it for",
    (wanted) => {
      expect(bits((text) => pattern(wanted.pattern).matchesStart(text))).toBe(wanted.match)
      expect(bits((text) => pattern(wanted.pattern).matchesAnywhere(text))).toBe(wanted.search)
    },
  )

  it.each(python.cases.filter(({ match }) => match === null))('$pattern is refused, as in Python', (wanted) => {
    expect(() => matches(wanted.pattern, 'a')).toThrow(
      expect.objectContaining({
        code: 'INVALID_CHECKPOINT',
        message: expect.stringMatching(/^The test: the pattern "/),
      }),
    )
  })

  it.each([
    ['(', 'unmatched ('],
    [')', 'unmatched )'],
    ['[a', 'unmatched ['],
    ['*a', 'nothing to repeat'],
    ['a**', 'nothing to repeat'],
    ['a{3,2}', 'impossible repetition'],
    ['\\1', 'refers to an undefined group'],
    ['\\', 'ends with a backslash'],
    ['\\q', 'unsupported escape \\q'],
    ['(a)(?(1)a|b)', 'kind of group'],
    ['[!a'.repeat(400), 'more than 1000'],
  ])('%s is refused with the reason', (source, part) => {
    expect(() => matches(source, 'a')).toThrow(part)
  })

  it.each([
    ['(a+)+$', `${'a'.repeat(1000)}!`],
    ['(a|a)*(a|a)*(a|a)*b', 'a'.repeat(1000)],
    ['(?<=(a+)+)b', 'a'.repeat(1000)],
    ['(a*)*\\.b', 'a'.repeat(1000)],
  ])('%s takes linear time', (source, text) => {
    const start = performance.now()
    expect(matches(source, text)).toBe(false)
    expect(performance.now() - start).toBeLessThan(1000)
  })

  it.each([
    [`(?i)${'[^a]{0,1000}'.repeat(60)}`, true],
    ['(?:a?){999}'.repeat(80), true],
    ['(?<=.*a.{0,1000})'.repeat(50), false],
    ['(?:[a-z]{0,31}){0,31}'.repeat(45), true],
    ['(?:(?:a{0,30}){0,30}){0,2}', true],
    ['a{1000}'.repeat(140), false],
  ])('%s is not expanded in memory or time', (source, expected) => {
    const start = performance.now()
    expect(matches(source, 'a'.repeat(200))).toBe(expected)
    expect(performance.now() - start).toBeLessThan(1000)
  })

  it.each([
    ['(a+)+(?=$)', `${'a'.repeat(100)}!`],
    ['((a{0,100}){0,100}){0,100}(?=b)', 'a'.repeat(200)],
    ['(?=(.*)*x)y', 'a'.repeat(200)],
    ['(a|aa)+\\1b', 'a'.repeat(200)],
  ])('%s is stopped', (source, text) => {
    const start = performance.now()
    expect(() => matches(source, text)).toThrow('takes longer than 300 ms for "aaa')
    expect(performance.now() - start).toBeLessThan(1000)
  })
})

it('many slow patterns are stopped together', () => {
  const rules = Array.from({ length: 1000 }, (_, i): ModuleRule => {
    const pattern = `${'(?:[a-z]{0,31}){0,31}'.repeat(40)}(?=${i})`
    return { pattern, match: 'anywhere', action: {}, where: 'The test' }
  })
  const start = performance.now()
  const decide = () => {
    for (let i = 0; i < 100; i++) ruleFor(rules, `${'a'.repeat(150)}${i}`)
  }
  expect(decide).toThrow(/take(s)? longer than (300 ms|1 s)/)
  expect(performance.now() - start).toBeLessThan(2000)
})
