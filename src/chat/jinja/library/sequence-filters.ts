import { PythonError, typeError } from '../errors'
import { safeAttribute } from '../evaluate/attributes'
import { binary } from '../evaluate/operators'
import { codePoints } from '../values/code-points'
import { equal, ordered, sorted, truth } from '../values/compare'
import { Dict, DictView, hashKey } from '../values/dict'
import { Range } from '../values/range'
import { lengthOf } from '../values/slices'
import type { Runtime } from '../values/values'
import {
  noAttribute,
  OneShotIterator,
  orElse,
  sequenceItems,
  Tuple,
  textOf,
  typeName,
  Undefined,
  type Value,
} from '../values/values'
import { countArgument, textArgument } from './arguments'
import { argumentError, type Filter, filter, getter, ignoreCase, multiGetter } from './filter'

/** A group of the filter groupby: a tuple whose two items also have names. */
class Group extends Tuple {
  override readonly typeName = '_GroupTuple'

  override attribute(_rt: Runtime, name: string): Value | undefined {
    if (name === 'grouper') return this.items[0]
    return name === 'list' ? this.items[1] : undefined
  }
}

function groups(rt: Runtime, value: Value, args: readonly (Value | undefined)[]): Value[] {
  const [attribute, otherwise = null, caseSensitive = false] = args
  const ignoresCase = !truth(rt, caseSensitive)
  const key = getter(rt, attribute, { ignoresCase, otherwise })
  const shown = getter(rt, attribute, { otherwise })
  const result: Group[] = []
  let current: { key: Value; items: Value[] } | undefined
  for (const item of sorted(rt, rt.list(value), key, false)) {
    rt.budget.items(8)
    const itsKey = key(item)
    if (current && equal(rt, current.key, itsKey)) {
      current.items.push(item)
      continue
    }
    current = { key: itsKey, items: [item] }
    result.push(new Group([ignoresCase ? shown(item) : itsKey, current.items]))
  }
  return result
}

function* unique(rt: Runtime, value: Value, key: (item: Value) => Value): Generator<Value> {
  const seen = new Set<unknown>()
  for (const item of rt.iterate(value)) {
    rt.budget.items(8)
    const hash = hashKey(rt, key(item))
    if (!seen.has(hash)) yield item
    seen.add(hash)
  }
}

function extreme(name: string, operator: '<' | '>'): [string, Filter] {
  return filter(name, '[case_sensitive] [attribute]', (rt, value, [caseSensitive = false, attribute]) => {
    const key = getter(rt, attribute, { ignoresCase: !truth(rt, caseSensitive) })
    let best: { item: Value; key: Value } | undefined
    for (const item of rt.iterate(value)) {
      const itsKey = key(item)
      if (best === undefined || ordered(rt, operator, itsKey, best.key)) best = { item, key: itsKey }
    }
    return best === undefined ? new Undefined('No aggregated item, sequence was empty.') : best.item
  })
}

function sum(rt: Runtime, value: Value, attribute: Value | undefined, start: Value): Value {
  if (textOf(start) !== undefined) throw typeError("sum() can't sum strings [use ''.join(seq) instead]")
  const get = getter(rt, attribute)
  let total = start
  for (const item of rt.iterate(value)) total = binary(rt, '+', total, get(item))
  return total
}

function last(rt: Runtime, value: Value): Value {
  const text = textOf(value)
  const items = sequenceItems(value) ?? (text === undefined ? undefined : codePoints(rt, text))
  const isReversible = value instanceof Dict || value instanceof DictView || value instanceof Range
  if (!items && !isReversible && !(value instanceof Undefined)) throw notReversible(value)
  return orElse((items ?? rt.list(value)).at(-1), () => new Undefined('No last item, sequence was empty.'))
}

function notReversible(value: Value): PythonError {
  return typeError(`'${typeName(value)}' object is not reversible`)
}

function reversed(rt: Runtime, value: Value): Value {
  const text = textOf(value)
  if (text !== undefined) return codePoints(rt, text).reverse().join('')
  if (rt.iteratorOf(value) === undefined) throw argumentError('argument must be iterable')
  const items = rt.list(value).reverse()
  return value instanceof OneShotIterator ? items : new OneShotIterator(items.values(), 'reversed')
}

function* batches(rt: Runtime, value: Value, size: number, fill: Value): Generator<Value> {
  let batch: Value[] = []
  for (const item of rt.iterate(value)) {
    if (batch.length === size) {
      yield batch
      batch = []
    }
    rt.budget.items(1)
    batch.push(item)
  }
  if (batch.length === 0) return
  if (fill !== null && batch.length < size) {
    rt.budget.items(size - batch.length)
    while (batch.length < size) batch.push(fill)
  }
  yield batch
}

function* columns(rt: Runtime, value: Value, count: number, fill: Value): Generator<Value> {
  const items = rt.list(value)
  if (count === 0) throw new PythonError('ZeroDivisionError', 'integer division or modulo by zero')
  const size = Math.floor(items.length / count)
  const longer = items.length % count
  for (let column = 0, start = 0; column < count; column++) {
    const end = start + size + (column < longer ? 1 : 0)
    rt.budget.items(end - start + 1)
    const part = items.slice(start, end)
    yield fill !== null && column >= longer ? [...part, fill] : part
    start = end
  }
}

function dictSorted(rt: Runtime, value: Value, args: readonly (Value | undefined)[]): Value {
  const [caseSensitive = false, by = 'key', reverse = false] = args
  if (!(value instanceof Dict)) throw noAttribute(value, 'items')
  const index = ['key', 'value'].indexOf(textOf(by) ?? '')
  if (index < 0) throw argumentError('You can only sort by either "key" or "value"')
  const pairs = [...value.entries()].map((pair) => new Tuple(pair))
  rt.budget.items(pairs.length * 6)
  const key = (pair: Value) => {
    const part = sequenceItems(pair)?.[index] ?? null
    return truth(rt, caseSensitive) ? part : ignoreCase(part)
  }
  return sorted(rt, pairs, key, truth(rt, reverse))
}

function attribute(rt: Runtime, value: Value, name: string): Value {
  const missing = () => new Undefined(`'${typeName(value)} object' has no attribute '${name}'`)
  return orElse(safeAttribute(rt, value, name), missing)
}

function* pairs(value: Value): Generator<Value> {
  if (value instanceof Undefined) return
  if (!(value instanceof Dict)) throw typeError('Can only get item pairs from a mapping.')
  for (const pair of value.entries()) yield new Tuple(pair)
}

function randomItem(rt: Runtime, value: Value): Value {
  const items = textOf(value) === undefined ? sequenceItems(value) : codePoints(rt, textOf(value) ?? '')
  if (!items && !(value instanceof Range)) throw typeError(`'${typeName(value)}' object is not subscriptable`)
  const all = items ?? rt.list(value)
  const item = all[Math.floor(Math.random() * all.length)]
  return orElse(item, () => new Undefined('No random item, sequence was empty.'))
}

export const SEQUENCE_FILTERS: readonly [string, Filter][] = [
  ...['length', 'count'].map((name) => filter(name, '', (rt, value) => lengthOf(rt, value))),
  filter('first', '', (rt, value) => {
    const next = rt.iterator(value).next()
    return next.done ? new Undefined('No first item, sequence was empty.') : next.value
  }),
  filter('last', '', last),
  filter('list', '', (rt, value) => rt.list(value)),
  filter('reverse', '', reversed),
  filter(
    'sort',
    '[reverse] [case_sensitive] [attribute]',
    (rt, value, [reverse = false, caseSensitive = false, path]) =>
      sorted(rt, rt.list(value), multiGetter(rt, path, !truth(rt, caseSensitive)), truth(rt, reverse)),
  ),
  filter('dictsort', '[case_sensitive] [by] [reverse]', dictSorted),
  filter(
    'unique',
    '[case_sensitive] [attribute]',
    (rt, value, [caseSensitive = false, path]) =>
      new OneShotIterator(unique(rt, value, getter(rt, path, { ignoresCase: !truth(rt, caseSensitive) }))),
  ),
  extreme('min', '<'),
  extreme('max', '>'),
  filter('sum', '[attribute] [start]', (rt, value, [path, start = 0]) => sum(rt, value, path, start)),
  filter('groupby', 'attribute [default] [case_sensitive]', groups),
  filter(
    'batch',
    'linecount [fill_with]',
    (rt, value, [size, fill = null]) => new OneShotIterator(batches(rt, value, countArgument(size, 0), fill)),
  ),
  filter(
    'slice',
    'slices [fill_with]',
    (rt, value, [count, fill = null]) => new OneShotIterator(columns(rt, value, countArgument(count, 0), fill)),
  ),
  filter('items', '', (_rt, value) => new OneShotIterator(pairs(value))),
  filter('attr', 'name', (rt, value, [name]) => attribute(rt, value, textArgument(name, 'attribute name'))),
  filter('random', '', randomItem),
  ...['default', 'd'].map((name) =>
    filter(name, '[default_value] [boolean]', (rt, value, [otherwise = '', boolean = false]) =>
      value instanceof Undefined || (truth(rt, boolean) && !truth(rt, value)) ? otherwise : value,
    ),
  ),
]
