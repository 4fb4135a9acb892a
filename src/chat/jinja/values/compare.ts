import { typeError } from '../errors'
import { Dict, DictView } from './dict'
import { numericOf } from './numbers'
import { Range } from './range'
import type { Runtime } from './values'
import { Float, OneShotIterator, sequenceItems, textOf, typeName, Undefined, type Value } from './values'

/** `bool(value)`. */
export function truth(rt: Runtime, value: Value): boolean {
  if (value === null) return false
  if (typeof value !== 'object') return Boolean(value)
  return Array.isArray(value) ? value.length > 0 : value.truth(rt)
}

/** `a == b`. */
export function equal(rt: Runtime, a: Value, b: Value): boolean {
  if (a === b) return true
  if (typeof a === 'string' && typeof b === 'string') {
    rt.budget.scan(Math.min(a.length, b.length))
    return false
  }
  const left = numericOf(a)
  if (left !== undefined) {
    const right = numericOf(b)
    return right !== undefined && sameNumber(plain(left), plain(right))
  }
  const text = textOf(a)
  if (text !== undefined) return text === textOf(b)
  if (a instanceof Undefined) return b instanceof Undefined
  if (a instanceof Range) return b instanceof Range && equalRanges(a, b)
  return equalContainers(rt, a, b)
}

function plain(value: number | bigint | Float): number | bigint {
  return value instanceof Float ? value.value : value
}

/** A bigint equals a float of the same value, which `===` does not see. */
function sameNumber(a: number | bigint, b: number | bigint): boolean {
  return typeof a === typeof b ? a === b : a <= b && a >= b
}

function equalRanges(a: Range, b: Range): boolean {
  if (a.count !== b.count) return false
  return a.count === 0 || (a.start === b.start && (a.count === 1 || a.step === b.step))
}

function equalContainers(rt: Runtime, a: Value, b: Value): boolean {
  const items = sequenceItems(a)
  const others = sequenceItems(b)
  if (items && others) {
    if (Array.isArray(a) !== Array.isArray(b) || items.length !== others.length) return false
    return nested(rt, () => items.every((item, index) => same(rt, item, others[index] as Value)))
  }
  if (a instanceof DictView && b instanceof DictView) return equalViews(rt, a, b)
  if (a instanceof Dict && b instanceof Dict) {
    if (a.size !== b.size) return false
    return nested(rt, () => {
      for (const [key, value] of a.entries()) {
        const other = b.get(rt, key)
        if (other === undefined || !same(rt, value, other)) return false
      }
      return true
    })
  }
  return false
}

/** Views of keys and items compare as sets; one of values equals itself alone. */
function equalViews(rt: Runtime, a: DictView, b: DictView): boolean {
  if (a.part !== b.part || a.part === 'values' || a.dict.size !== b.dict.size) return false
  return nested(rt, () => {
    for (const [key, value] of a.dict.entries()) {
      const other = b.dict.get(rt, key)
      if (other === undefined || (a.part === 'items' && !same(rt, value, other))) return false
    }
    return true
  })
}

/** Containers take an item to be equal to itself, NaN included. */
function same(rt: Runtime, a: Value, b: Value): boolean {
  rt.budget.step()
  return a === b || equal(rt, a, b)
}

function nested<T>(rt: Runtime, work: () => T): T {
  rt.budget.enter()
  const result = work()
  rt.budget.leave()
  return result
}

export type OrderOperator = '<' | '<=' | '>' | '>='

/** `a < b` and its like. @throws PythonError TypeError for values without an order */
export function ordered(rt: Runtime, operator: OrderOperator, a: Value, b: Value): boolean {
  rt.budget.step()
  const left = numericOf(a)
  const right = numericOf(b)
  if (left !== undefined && right !== undefined) {
    const [x, y] = [plain(left), plain(right)]
    switch (operator) {
      case '<':
        return x < y
      case '<=':
        return x <= y
      case '>':
        return x > y
      case '>=':
        return x >= y
    }
  }
  const [text, other] = [textOf(a), textOf(b)]
  if (text !== undefined && other !== undefined) {
    rt.budget.scan(Math.min(text.length, other.length))
    return holds(operator, compareTexts(text, other))
  }
  if (a instanceof Undefined) throw a.fault()
  if (b instanceof Undefined) throw b.fault()
  const [items, others] = [sequenceItems(a), sequenceItems(b)]
  if (items && others && Array.isArray(a) === Array.isArray(b)) {
    return nested(rt, () => {
      const length = Math.min(items.length, others.length)
      for (let index = 0; index < length; index++) {
        const [x, y] = [items[index] as Value, others[index] as Value]
        if (!same(rt, x, y)) return ordered(rt, operator, x, y)
      }
      return holds(operator, items.length - others.length)
    })
  }
  throw typeError(`'${operator}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`)
}

function holds(operator: OrderOperator, difference: number): boolean {
  switch (operator) {
    case '<':
      return difference < 0
    case '<=':
      return difference <= 0
    case '>':
      return difference > 0
    case '>=':
      return difference >= 0
  }
}

/** By code points; JavaScript compares UTF-16 units, which puts surrogates before U+E000. */
function compareTexts(a: string, b: string): number {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  let at = 0
  while (at < length && a.charCodeAt(at) === b.charCodeAt(at)) at++
  if (at === length) return a.length - b.length
  const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)]
  return isSurrogate(x) !== isSurrogate(y) ? Number(isSurrogate(x)) - Number(isSurrogate(y)) || x - y : x - y
}

function isSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdfff
}

/** `needle in container`. @throws PythonError TypeError */
export function contains(rt: Runtime, container: Value, needle: Value): boolean {
  const text = textOf(container)
  if (text !== undefined) {
    const part = textOf(needle)
    if (part === undefined) {
      throw typeError(`'in <string>' requires string as left operand, not ${typeName(needle)}`)
    }
    return rt.find(text, part) >= 0
  }
  if (container instanceof Dict) return container.has(rt, needle)
  if (container instanceof DictView && container.part === 'keys') return container.dict.has(rt, needle)
  const items = sequenceItems(container)
  if (items) return items.some((item) => same(rt, item, needle))
  if (container instanceof Range) {
    const number = numericOf(needle)
    return number !== undefined && container.indexOf(Number(plain(number))) >= 0
  }
  if (container instanceof DictView || container instanceof OneShotIterator || isIterable(rt, container)) {
    for (const item of rt.iterate(container)) if (same(rt, item, needle)) return true
    return false
  }
  throw typeError(`argument of type '${typeName(container)}' is not iterable`)
}

function isIterable(rt: Runtime, value: Value): boolean {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && value.iterator(rt) !== undefined
}

/** A stable sort by a key, as Python's `sorted`. */
export function sorted(rt: Runtime, items: readonly Value[], key: (item: Value) => Value, reverse: boolean): Value[] {
  rt.budget.items(items.length * 8) // a pair and its places in three lists
  const keyed = items.map((item) => ({ item, key: key(item) }))
  const less = (a: Value, b: Value) => ordered(rt, '<', a, b)
  keyed.sort((a, b) => {
    const [x, y] = reverse ? [b.key, a.key] : [a.key, b.key]
    if (less(x, y)) return -1
    return less(y, x) ? 1 : 0
  })
  return keyed.map(({ item }) => item)
}
