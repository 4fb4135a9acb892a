import { typeError, valueError } from '../errors'
import { equal } from '../values/compare'
import { Dict, DictView } from '../values/dict'
import { bitLength, type Int, intOf } from '../values/numbers'
import { Range } from '../values/range'
import type { Runtime } from '../values/values'
import { Float, Markup, type Named, orElse, sequenceItems, Tuple, type Value } from '../values/values'
import { bind, countArgument, type Method, parameters } from './arguments'
import { MARKUP_METHODS, STRING_METHODS } from './string-methods'

type Bound = readonly (Value | undefined)[]

function method<Self extends Value>(
  name: string,
  signature: string,
  work: (rt: Runtime, self: Self, args: Bound) => Value,
): [string, Method] {
  const names = parameters(signature)
  return [name, (rt, self, args, named) => work(rt, self as Self, bind(`${name}()`, names, args, named))]
}

const SEQUENCE_METHODS: readonly [string, Method][] = [
  method('index', 'value [start] [stop] /', (rt, self, [value = null, start, stop]) => {
    const items = sequenceItems(self) ?? []
    const bound = (given: Value | undefined, otherwise: number) => {
      const index = countArgument(given, otherwise)
      return index < 0 ? Math.max(0, index + items.length) : index
    }
    const end = Math.min(items.length, bound(stop, items.length))
    for (let at = bound(start, 0); at < end; at++) {
      rt.budget.step()
      if (equal(rt, items[at] as Value, value)) return at
    }
    throw valueError(`${rt.repr(value)} is not in list`)
  }),
  method('count', 'value /', (rt, self, [value = null]) => {
    const items = sequenceItems(self) ?? []
    rt.budget.step(items.length)
    return items.filter((item) => equal(rt, item, value)).length
  }),
]

const LIST_METHODS: ReadonlyMap<string, Method> = new Map([
  ...SEQUENCE_METHODS,
  method<Value[]>('copy', '', (rt, self) => {
    rt.budget.items(self.length)
    return [...self]
  }),
])

const TUPLE_METHODS: ReadonlyMap<string, Method> = new Map(SEQUENCE_METHODS)

const DICT_METHODS: ReadonlyMap<string, Method> = new Map([
  method<Dict>('get', 'key [default] /', (rt, self, [key = null, otherwise = null]) =>
    orElse(self.get(rt, key), () => otherwise),
  ),
  method<Dict>('items', '', (_rt, self) => new DictView(self, 'items')),
  method<Dict>('keys', '', (_rt, self) => new DictView(self, 'keys')),
  method<Dict>('values', '', (_rt, self) => new DictView(self, 'values')),
  method<Dict>('copy', '', (rt, self) => {
    rt.budget.items(self.size * 4)
    return self.copy()
  }),
  method<Dict>('fromkeys', 'iterable [value] /', (rt, _self, [iterable = null, value = null]) => {
    const dict = new Dict()
    for (const key of rt.iterate(iterable)) {
      rt.budget.items(4)
      dict.set(rt, key, value)
    }
    return dict
  }),
])

const INT_METHODS: ReadonlyMap<string, Method> = new Map([
  method('bit_length', '', (_rt, self) => bitLength(intOf(self) ?? 0)),
  method('bit_count', '', (_rt, self) => bits(intOf(self) ?? 0)),
  method('conjugate', '', (_rt, self) => intOf(self) ?? 0),
  method('as_integer_ratio', '', (_rt, self) => new Tuple([intOf(self) ?? 0, 1])),
])

function bits(value: Int): number {
  return (value < 0 ? -value : value).toString(2).replaceAll('0', '').length
}

const FLOAT_METHODS: ReadonlyMap<string, Method> = new Map([
  method<Float>('is_integer', '', (_rt, self) => Number.isInteger(self.value)),
  method<Float>('conjugate', '', (_rt, self) => self),
])

const RANGE_METHODS: ReadonlyMap<string, Method> = new Map([
  method<Range>('index', 'value /', (rt, self, [value = null]) => {
    const index = self.indexOf(Number(intOf(value) ?? Number.NaN))
    if (index < 0) throw valueError(`${rt.repr(value)} is not in range`)
    return index
  }),
  method<Range>('count', 'value /', (_rt, self, [value = null]) => {
    return self.indexOf(Number(intOf(value) ?? Number.NaN)) < 0 ? 0 : 1
  }),
])

/** The method `name` of the type of a value, if the sandbox allows it. */
export function methodOf(value: Value, name: string): Method | undefined {
  switch (typeof value) {
    case 'string':
      return STRING_METHODS.get(name)
    case 'number':
    case 'bigint':
    case 'boolean':
      return INT_METHODS.get(name)
  }
  if (value === null) return undefined
  if (Array.isArray(value)) return LIST_METHODS.get(name)
  if (value instanceof Dict) return DICT_METHODS.get(name)
  if (value instanceof Tuple) return TUPLE_METHODS.get(name)
  if (value instanceof Markup) return STRING_METHODS.get(name) ?? MARKUP_METHODS.get(name)
  if (value instanceof Float) return FLOAT_METHODS.get(name)
  return value instanceof Range ? RANGE_METHODS.get(name) : undefined
}

/** list.append, which the sandbox allows only as a separate statement: see the evaluation of `set`. */
export function append(rt: Runtime, list: Value[], args: readonly Value[], named: Named): null {
  if (args.length !== 1 || named !== undefined) throw typeError('list.append() takes exactly one argument')
  rt.budget.items(1)
  list.push(args[0] as Value)
  return null
}
