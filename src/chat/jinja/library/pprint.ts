import { PythonError } from '../errors'
import { codePointCount } from '../values/code-points'
import { ordered } from '../values/compare'
import { Dict } from '../values/dict'
import type { Runtime } from '../values/values'
import { Tuple, textOf, typeName, type Value } from '../values/values'
import { type Filter, filter } from './filter'

const WIDTH = 80

/** pprint.pformat with the default width: containers that do not fit on a line get one line per item. */
export const PPRINT: [string, Filter] = filter('pprint', '', (rt, value) => pretty(rt, value, 0, 0))

/**
 * @param indent column where the value begins
 * @param allowance characters that must fit after it
 */
function pretty(rt: Runtime, value: Value, indent: number, allowance: number): string {
  const plain = flat(rt, value)
  if (codePointCount(rt, plain) <= WIDTH - indent - allowance) return plain
  rt.budget.enter()
  const text = broken(rt, value, indent, allowance) ?? plain
  rt.budget.leave()
  rt.budget.text(text.length)
  return text
}

function broken(rt: Runtime, value: Value, indent: number, allowance: number): string | undefined {
  if (Array.isArray(value)) return lines(rt, '[', value, ']', indent, allowance)
  if (value instanceof Tuple)
    return lines(rt, '(', value.items, value.items.length === 1 ? ',)' : ')', indent, allowance)
  if (!(value instanceof Dict) || value.size === 0) return undefined
  const pairs = sortedPairs(rt, value)
  const texts = pairs.map(([key, item], index) => {
    const name = rt.repr(key)
    const isLast = index === pairs.length - 1
    return `${name}: ${pretty(rt, item, indent + 1 + codePointCount(rt, name) + 2, isLast ? allowance + 1 : 1)}`
  })
  return `{${texts.join(separator(rt, indent, texts.length))}}`
}

function lines(rt: Runtime, open: string, items: readonly Value[], close: string, indent: number, allowance: number) {
  const texts = items.map((item, index) => {
    const isLast = index === items.length - 1
    return pretty(rt, item, indent + 1, isLast ? allowance + close.length : 1)
  })
  return open + texts.join(separator(rt, indent, texts.length)) + close
}

function separator(rt: Runtime, indent: number, count: number): string {
  rt.budget.text((indent + 3) * count)
  return `,\n${' '.repeat(indent + 1)}`
}

/** Like repr, but with sorted dict keys. */
function flat(rt: Runtime, value: Value): string {
  if (textOf(value) !== undefined) return rt.repr(value)
  rt.budget.enter()
  let text: string
  if (Array.isArray(value)) text = `[${value.map((item) => flat(rt, item)).join(', ')}]`
  else if (value instanceof Dict) {
    text = `{${sortedPairs(rt, value)
      .map(([key, item]) => `${flat(rt, key)}: ${flat(rt, item)}`)
      .join(', ')}}`
  } else if (value instanceof Tuple && value.items.length !== 1) {
    text = `(${value.items.map((item) => flat(rt, item)).join(', ')})`
  } else text = rt.repr(value)
  rt.budget.leave()
  rt.budget.text(text.length)
  return text
}

/** Sorts by key; keys that are not comparable by type name. */
function sortedPairs(rt: Runtime, dict: Dict): [Value, Value][] {
  const pairs = [...dict.entries()]
  rt.budget.items(pairs.length * 2)
  const less = (a: Value, b: Value) => {
    try {
      return ordered(rt, '<', a, b)
    } catch (error) {
      if (!PythonError.is(error, 'TypeError')) throw error
      return typeName(a) < typeName(b)
    }
  }
  return pairs.sort(([a], [b]) => (less(a, b) ? -1 : less(b, a) ? 1 : 0))
}
