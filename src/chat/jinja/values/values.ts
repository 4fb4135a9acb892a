import type { Budget } from '../budget'
import { PythonError, type PythonErrorType, typeError } from '../errors'

/**
 * A Python value: None is null, a list is an array, an int is a number or, beyond 2^53, a bigint; everything else,
 * including floats, is an object. JavaScript numbers are therefore always ints.
 */
export type Value = null | boolean | number | bigint | string | List | PythonObject
export interface List extends Array<Value> {}

/** What values, filters and formats need of the interpreter: its budget, and Python's basic functions. */
export interface Runtime {
  readonly budget: Budget
  /** Local time, for strftime_now. */
  readonly now: Date
  autoescape: boolean
  /** `str(value)` */
  str(value: Value): string
  /** `repr(value)` */
  repr(value: Value): string
  reprAll(items: readonly Value[]): string
  /** A number unique to the object, as `id()` returns. */
  identity(object: object): number
  /** Output of a macro or block: markup if output is escaped. */
  captured(text: string): string | Markup
  /** `value.name`, as the sandbox allows it. */
  attribute(value: Value, name: string): Value
  /** `value[key]`, as the sandbox allows it. */
  item(value: Value, key: Value): Value
  /** `iter(value)` for a loop; each item is charged. @throws PythonError TypeError */
  iterate(value: Value): Generator<Value>
  /** `iter(value)`. @throws PythonError TypeError */
  iterator(value: Value): Iterator<Value>
  /** `iter(value)`, or undefined where Python raises TypeError. */
  iteratorOf(value: Value): Iterator<Value> | undefined
  /** `list(value)`. @throws PythonError TypeError */
  list(value: Value): Value[]
  /** UTF-16 index of `needle` in `text`, or -1. */
  find(text: string, needle: string, from?: number): number
}

/** Keyword arguments of a call; undefined if there are none. */
export type Named = ReadonlyMap<string, Value> | undefined

/** Operations of values other than literals and lists; unsupported by default. */
export abstract class PythonObject {
  /** As Python's `type(x).__name__`. */
  abstract readonly typeName: string

  abstract repr(rt: Runtime): string

  str(rt: Runtime): string {
    return this.repr(rt)
  }

  truth(_rt: Runtime): boolean {
    return true
  }

  /** `x.name`; undefined where Python raises AttributeError. */
  attribute(_rt: Runtime, _name: string): Value | undefined {
    return undefined
  }

  /** `x[key]`; undefined where Python raises TypeError or LookupError. */
  item(_rt: Runtime, _key: Value): Value | undefined {
    return undefined
  }

  /** `len(x)`; undefined if unsupported. */
  length(_rt: Runtime): number | undefined {
    return undefined
  }

  /** `iter(x)`; undefined if unsupported. */
  iterator(_rt: Runtime): Iterator<Value> | undefined {
    return undefined
  }

  /** Whether `x(...)` is allowed. */
  get callable(): boolean {
    return false
  }

  call(_rt: Runtime, _args: readonly Value[], _named: Named): Value {
    throw typeError(`'${this.typeName}' object is not callable`)
  }
}

export class Float extends PythonObject {
  readonly typeName = 'float'
  readonly value: number

  constructor(value: number) {
    super()
    this.value = value
  }

  repr(): string {
    return floatRepr(this.value)
  }

  override truth(): boolean {
    return this.value !== 0
  }
}

/** As Python prints a float: 1.0, 1e+16, 1e-05. */
export function floatRepr(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf'
  if (Object.is(value, -0)) return '-0.0'
  const [mantissa = '', exponentText = ''] = value.toExponential().split('e')
  const exponent = Number(exponentText)
  if (exponent >= 16 || exponent < -4) {
    const sign = exponent < 0 ? '-' : '+'
    return `${mantissa}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`
  }
  const plain = String(value)
  if (/[.e]/.test(plain)) return plain.includes('e') ? value.toFixed(mantissa.length - 2 - exponent) : plain
  return `${plain}.0`
}

/** Markup of markupsafe: HTML-safe text, which escapes what is added to it. */
export class Markup extends PythonObject {
  readonly typeName = 'Markup'
  readonly text: string

  constructor(text: string) {
    super()
    this.text = text
  }

  repr(rt: Runtime): string {
    return `Markup(${rt.repr(this.text)})`
  }

  override str(): string {
    return this.text
  }

  override truth(): boolean {
    return this.text !== ''
  }
}

export class Tuple extends PythonObject {
  readonly typeName: string = 'tuple'
  readonly items: readonly Value[]

  constructor(items: readonly Value[]) {
    super()
    this.items = items
  }

  repr(rt: Runtime): string {
    const [first] = this.items
    if (this.items.length === 1 && first !== undefined) return `(${rt.repr(first)},)`
    return `(${rt.reprAll(this.items)})`
  }

  override truth(): boolean {
    return this.items.length > 0
  }

  override length(): number {
    return this.items.length
  }

  override iterator(): Iterator<Value> {
    return this.items.values()
  }
}

/** A missing variable, attribute or item: renders as nothing, is false and empty, and is an error otherwise. */
export class Undefined extends PythonObject {
  readonly typeName = 'Undefined'
  readonly #message: string
  readonly #error: PythonErrorType

  constructor(message: string, error: PythonErrorType = 'UndefinedError') {
    super()
    this.#message = message
    this.#error = error
  }

  /** Error for an unsupported use. */
  fault(): PythonError {
    return new PythonError(this.#error, this.#message)
  }

  repr(): string {
    return 'Undefined'
  }

  override str(): string {
    return ''
  }

  override truth(): boolean {
    return false
  }

  override attribute(_rt: Runtime, name: string): Value | undefined {
    if (name.startsWith('__') && name.endsWith('__')) return undefined
    throw this.fault()
  }

  override item(): Value {
    throw this.fault()
  }

  override length(): number {
    return 0
  }

  override iterator(): Iterator<Value> {
    return [].values()
  }

  override get callable(): boolean {
    return true
  }

  override call(): Value {
    throw this.fault()
  }
}

/** A single-use iterator, such as the result of the filter `map`. */
export class OneShotIterator extends PythonObject {
  readonly typeName: string
  readonly #iterator: Iterator<Value>

  constructor(iterator: Iterator<Value>, typeName = 'generator') {
    super()
    this.#iterator = iterator
    this.typeName = typeName
  }

  repr(): string {
    return `<${this.typeName} object>`
  }

  override iterator(): Iterator<Value> {
    return this.#iterator
  }
}

export type Implementation = (rt: Runtime, args: readonly Value[], named: Named) => Value

/** A built-in function or bound method. */
export class BuiltIn extends PythonObject {
  readonly typeName: string
  readonly name: string
  readonly #implementation: Implementation

  constructor(name: string, implementation: Implementation, typeName = 'builtin_function_or_method') {
    super()
    this.name = name
    this.typeName = typeName
    this.#implementation = implementation
  }

  repr(): string {
    return this.typeName === 'type' ? `<class '${this.name}'>` : `<built-in method ${this.name}>`
  }

  override get callable(): boolean {
    return true
  }

  override call(rt: Runtime, args: readonly Value[], named: Named): Value {
    return this.#implementation(rt, args, named)
  }
}

/** `value`, or the default if it is undefined; `??` would treat None as missing. */
export function orElse(value: Value | undefined, otherwise: () => Value): Value {
  return value === undefined ? otherwise() : value
}

/** Text of a str or Markup; undefined for anything else. */
export function textOf(value: Value): string | undefined {
  if (typeof value === 'string') return value
  return value instanceof Markup ? value.text : undefined
}

/** As Python's `type(x).__name__`. */
export function typeName(value: Value): string {
  if (value === null) return 'NoneType'
  switch (typeof value) {
    case 'boolean':
      return 'bool'
    case 'number':
    case 'bigint':
      return 'int'
    case 'string':
      return 'str'
    default:
      return Array.isArray(value) ? 'list' : value.typeName
  }
}

/** Error for calling a method that a value does not have. */
export function noAttribute(value: Value, name: string): PythonError {
  if (value instanceof Undefined) return value.fault()
  return new PythonError('AttributeError', `'${typeName(value)}' object has no attribute '${name}'`)
}

/** Items of a list or tuple; undefined for anything else. */
export function sequenceItems(value: Value): readonly Value[] | undefined {
  if (Array.isArray(value)) return value
  return value instanceof Tuple ? value.items : undefined
}
