import { expect, it } from 'vitest'
import { changeNumbers } from '../../../src/padding/json-numbers'

const size = { path: ['metadata', 'total_size'], change: (before: number) => before + 8 }

it('changes the number under a path and nothing else', () => {
  const text =
    '{ "rope": 1000000.0,\n  "metadata": {"total_size":100, "seed": 12345678901234567890}, "total_size": 1 }\n'
  expect(changeNumbers(text, [size])).toBe(text.replace('100,', '108,'))
})

it('changes several numbers, whatever their order', () => {
  const changes = [{ path: ['b'], change: () => 1234 }, size, { path: ['a'], change: () => 0 }]
  expect(changeNumbers('{"a":17,"metadata":{"total_size":1},"b":-2.5e3}', changes)).toBe(
    '{"a":0,"metadata":{"total_size":9},"b":1234}',
  )
})

it.each([
  ['NaN before it', '{"loss":NaN,"metadata":{"total_size":1}}'],
  ['-Infinity before it', '{"limits":[-Infinity, Infinity],"metadata":{"total_size":1}}'],
  ['the path spelled with a dot before it', '{"metadata.total_size":5,"metadata":{"total_size":1}}'],
  ['escapes and braces in a string before it', '{"note":"\\"}{\\\\","metadata":{"total_size":1}}'],
])('finds a number that has %s', (_, text) => {
  expect(changeNumbers(text, [size])).toBe(text.replace('"total_size":1', '"total_size":9'))
})

it.each(['{"metadata":{"total_size":"1"}}', '{"metadata":null}', '[]', 'null'])('leaves %s as it is', (text) => {
  expect(changeNumbers(text, [size])).toBe(text)
})
