import { typeError } from '../errors'
import { methodOf } from '../library/methods'
import { Dict } from '../values/dict'
import { intOf } from '../values/numbers'
import { itemAt } from '../values/slices'
import type { Runtime } from '../values/values'
import { BuiltIn, Float, type Named, orElse, textOf, typeName, Undefined, type Value } from '../values/values'

/** Mutating methods of list and dict, which the sandbox hides. */
const MUTATING: Readonly<Record<string, ReadonlySet<string>>> = {
  list: new Set(['append', 'clear', 'pop', 'reverse', 'insert', 'sort', 'extend', 'remove']),
  dict: new Set(['clear', 'pop', 'popitem', 'setdefault', 'update']),
}

/** Attributes of every Python object. The sandbox hides those that begin with an underscore. */
const OF_EVERY_OBJECT = new Set(
  ['class', 'delattr', 'dir', 'doc', 'eq', 'format', 'ge', 'getattribute', 'getstate', 'gt', 'hash', 'init']
    .concat(['init_subclass', 'le', 'lt', 'ne', 'new', 'reduce', 'reduce_ex', 'repr', 'setattr', 'sizeof', 'str'])
    .concat(['subclasshook'])
    .map((name) => `__${name}__`),
)

const ARITHMETIC = 'abs bool divmod float floordiv int mod mul neg pos pow radd rdivmod rfloordiv rmod rmul round rpow'
const NUMBER = `${ARITHMETIC} add ceil floor getnewargs rsub rtruediv sub truediv trunc`
const BITS = 'and index invert lshift or rand rlshift ror rrshift rshift rxor xor'
const SEQUENCE = 'add contains getitem iter len mul rmul'

/** Additional attributes by type. */
const OF_TYPE: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  Object.entries({
    str: `${SEQUENCE} getnewargs mod rmod`,
    list: `${SEQUENCE} class_getitem delitem iadd imul reversed setitem`,
    tuple: `${SEQUENCE} class_getitem getnewargs`,
    dict: 'class_getitem contains delitem getitem ior iter len or reversed ror setitem',
    int: `${NUMBER} ${BITS}`,
    bool: `${NUMBER} ${BITS}`,
    float: `${NUMBER} getformat`,
    NoneType: 'bool',
    range: 'bool contains getitem iter len reversed',
    // asking for these is no use of what is undefined
    Undefined:
      'add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow pos neg call getitem getattr int' +
      ' float complex bool len iter module slots annotations',
  }).map(([type, names]) => [type, new Set(names.split(' ').map((name) => `__${name}__`))]),
)

/** `value.name` in the sandbox: an attribute, else an item, else undefined. */
export function getAttribute(rt: Runtime, value: Value, name: string): Value {
  const attribute = safeAttribute(rt, value, name)
  if (attribute !== undefined) return attribute
  return orElse(itemOf(rt, value, name), () => missing(rt, value, name))
}

/** `value[key]` in the sandbox: an item, else an attribute, else undefined. */
export function getItem(rt: Runtime, value: Value, key: Value): Value {
  const item = itemOf(rt, value, key)
  if (item !== undefined) return item
  const name = textOf(key)
  const attribute = name === undefined ? undefined : safeAttribute(rt, value, name)
  return orElse(attribute, () => missing(rt, value, key))
}

/** An attribute; undefined where Python raises AttributeError. */
export function safeAttribute(rt: Runtime, value: Value, name: string): Value | undefined {
  if (name.startsWith('__')) {
    const type = value instanceof Undefined ? 'Undefined' : typeName(value)
    if (OF_EVERY_OBJECT.has(name) || OF_TYPE.get(type)?.has(name)) return unsafe(value, name)
  }
  if (isObject(value)) {
    const own = value.attribute(rt, name)
    if (own !== undefined) return name.startsWith('_') ? unsafe(value, name) : own
  }
  const property = numberProperty(value, name)
  if (property !== undefined) return property
  const method = methodOf(value, name)
  if (method) return new BuiltIn(name, (runtime, args, named) => method(runtime, value, args, named))
  return MUTATING[typeName(value)]?.has(name) ? unsafe(value, name) : undefined
}

function isObject(value: Value): value is Exclude<Value, null | boolean | number | bigint | string | Value[]> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function itemOf(rt: Runtime, value: Value, key: Value): Value | undefined {
  if (value instanceof Dict) return value.item(rt, key)
  if (isObject(value)) {
    const item = value.item(rt, key)
    if (item !== undefined) return item
  }
  const index = intOf(key)
  return index === undefined ? undefined : itemAt(rt, value, index)
}

/** Attributes of numbers that are not methods. */
function numberProperty(value: Value, name: string): Value | undefined {
  const int = intOf(value)
  if (int === undefined && !(value instanceof Float)) return undefined
  switch (name) {
    case 'real':
      return int === undefined ? value : int
    case 'imag':
      return int === undefined ? new Float(0) : 0
    case 'numerator':
      return int
    case 'denominator':
      return int === undefined ? undefined : 1
    default:
      return undefined
  }
}

function unsafe(value: Value, name: string): Undefined {
  return new Undefined(`access to attribute '${name}' of '${typeName(value)}' object is unsafe.`, 'SecurityError')
}

function missing(rt: Runtime, value: Value, key: Value): Undefined {
  const of = value === null ? 'None' : `${typeName(value)} object`
  return typeof key === 'string'
    ? new Undefined(`'${of}' has no attribute '${key}'`)
    : new Undefined(`${of} has no element ${rt.repr(key)}`)
}

/** `value(*args, **named)`. @throws PythonError TypeError if it cannot be called */
export function call(rt: Runtime, value: Value, args: readonly Value[], named: Named): Value {
  rt.budget.step()
  if (isObject(value)) return value.call(rt, args, named)
  throw typeError(`'${typeName(value)}' object is not callable`)
}

/** `value.name(*args, **named)`, without creating a bound method. */
export function callMethod(rt: Runtime, value: Value, name: string, args: readonly Value[], named: Named): Value {
  const method = methodOf(value, name)
  if (!method) return call(rt, getAttribute(rt, value, name), args, named)
  rt.budget.step()
  return method(rt, value, args, named)
}
