import type { Budget } from '../budget'
import { typeError } from '../errors'
import { codePoints } from '../values/code-points'
import { escaped, reprAll, toRepr, toText } from '../values/repr'
import { Markup, type PythonObject, type Runtime, textOf, typeName, Undefined, type Value } from '../values/values'
import { getAttribute, getItem } from './attributes'

/** Longer needles are not left to indexOf, whose time can be the product of both lengths. */
const LONG_NEEDLE = 32
/** List items created before they are charged. */
const LIST_PIECE = 4096

interface Scopes {
  readonly globals: ReadonlyMap<string, Value>
  readonly variables: ReadonlyMap<string, Value>
  readonly unset: ReadonlySet<string> | undefined
}

/** State of one rendering: budget, output, scopes, and the basic functions of Python. */
export class Interpreter implements Runtime {
  readonly budget: Budget
  /** Local time, for strftime_now. */
  readonly now: Date
  /** Output so far; a capture substitutes its own. */
  out = ''
  autoescape = false
  /** Line of the current statement. */
  line = 1
  readonly globals: Frame
  /** Scope of the template itself. */
  readonly root: Frame
  /** What blocks see: the given variables, and those that the template scope has set so far. */
  readonly exported: Frame
  readonly #identities = new WeakMap<object, number>()
  #objects = 0

  /**
   * @param scopes.globals functions available to every template; `self` is added to them
   * @param scopes.variables variables of the caller
   * @param scopes.unset unbound names of the template scope, see unboundNames()
   */
  constructor(budget: Budget, now: Date, { globals, variables, unset }: Scopes) {
    this.budget = budget
    this.now = now
    this.globals = new Frame(this, undefined, new Map(globals))
    const given = new Frame(this, this.globals, new Map(variables))
    const own = new Map<string, Value>()
    this.exported = unset ? new Frame(this, given, own) : given
    this.root = unset ? new Frame(this, given, own, unset) : given
  }

  /** `str(value)` */
  str(value: Value): string {
    return typeof value === 'string' ? value : toText(this, value)
  }

  /** `repr(value)` */
  repr(value: Value): string {
    return toRepr(this, value)
  }

  reprAll(items: readonly Value[]): string {
    return reprAll(this, items)
  }

  /** A number unique to the object, as `id()` returns. */
  identity(object: object): number {
    const known = this.#identities.get(object)
    if (known !== undefined) return known
    this.#identities.set(object, ++this.#objects)
    return this.#objects
  }

  /** Emits template text or captured output without escaping. */
  emit(text: string): void {
    this.budget.text(text.length)
    this.out += text
  }

  /** Emits a value. */
  print(value: Value): void {
    if (this.autoescape) this.emit(escaped(this, value))
    else this.emit(typeof value === 'string' ? value : toText(this, value))
  }

  /** Captures the output of `work`. */
  capture(work: () => void): string {
    const outer = this.out
    this.out = ''
    work()
    const text = this.out
    this.out = outer
    return text
  }

  /** Output of a macro or block: markup if output is escaped. */
  captured(text: string): string | Markup {
    return this.autoescape ? new Markup(text) : text
  }

  /** `value.name`, as the sandbox allows it. */
  attribute(value: Value, name: string): Value {
    return getAttribute(this, value, name)
  }

  /** `value[key]`, as the sandbox allows it. */
  item(value: Value, key: Value): Value {
    return getItem(this, value, key)
  }

  /** `iter(value)` for a loop; each item is charged. @throws PythonError TypeError */
  *iterate(value: Value): Generator<Value> {
    const iterator = this.iterator(value)
    for (let next = iterator.next(); !next.done; next = iterator.next()) {
      this.budget.step()
      yield next.value
    }
  }

  /** `iter(value)`. @throws PythonError TypeError */
  iterator(value: Value): Iterator<Value> {
    const iterator = this.iteratorOf(value)
    if (iterator === undefined) throw typeError(`'${typeName(value)}' object is not iterable`)
    return iterator
  }

  /** `iter(value)`, or undefined where Python raises TypeError. */
  iteratorOf(value: Value): Iterator<Value> | undefined {
    if (Array.isArray(value)) return value.values()
    const text = textOf(value)
    if (text !== undefined) return codePoints(this, text).values()
    return isObject(value) ? value.iterator(this) : undefined
  }

  /** `list(value)`. @throws PythonError TypeError */
  list(value: Value): Value[] {
    const items: Value[] = []
    for (const item of this.iterate(value)) {
      items.push(item)
      if (items.length % LIST_PIECE === 0) this.budget.items(LIST_PIECE)
    }
    this.budget.items(items.length % LIST_PIECE)
    return items
  }

  /** UTF-16 index of `needle` in `text`, or -1. */
  find(text: string, needle: string, from = 0): number {
    if (needle.length <= LONG_NEEDLE) {
      const at = text.indexOf(needle, from)
      this.budget.scan((at < 0 ? text.length : at) - from)
      return at
    }
    this.budget.walk(text.length - from + needle.length)
    return findLong(text, needle, from)
  }
}

/** Variables of a scope, which inherits those of the scopes around it. */
export class Frame {
  readonly rt: Interpreter
  readonly outer: Frame | undefined
  readonly #unset: ReadonlySet<string> | undefined
  #variables: Map<string, Value> | undefined

  /** @param unset variables that are undefined until this scope sets them, even if an outer scope has them */
  constructor(
    rt: Interpreter,
    outer: Frame | undefined,
    variables?: Map<string, Value>,
    unset?: ReadonlySet<string> | undefined,
  ) {
    this.rt = rt
    this.outer = outer
    this.#variables = variables
    this.#unset = unset
  }

  /** A nested scope. */
  inner(unset?: ReadonlySet<string>): Frame {
    return new Frame(this.rt, this, undefined, unset)
  }

  get(name: string): Value {
    for (let frame: Frame | undefined = this; frame; frame = frame.outer) {
      const value = frame.#variables?.get(name)
      if (value !== undefined) return value
      if (frame.#unset?.has(name)) break
    }
    return new Undefined(`'${name}' is undefined`)
  }

  set(name: string, value: Value): void {
    this.#variables ??= new Map()
    this.#variables.set(name, value)
  }
}

function isObject(value: Value): value is PythonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Knuth-Morris-Pratt search, in linear time. */
function findLong(text: string, needle: string, from: number): number {
  if (needle.length > text.length - from) return -1
  const borders = new Uint32Array(needle.length)
  for (let at = 1, border = 0; at < needle.length; at++) {
    while (border > 0 && needle.charCodeAt(at) !== needle.charCodeAt(border)) border = borders[border - 1] ?? 0
    if (needle.charCodeAt(at) === needle.charCodeAt(border)) border++
    borders[at] = border
  }
  for (let at = from, matched = 0; at < text.length; at++) {
    while (matched > 0 && text.charCodeAt(at) !== needle.charCodeAt(matched)) matched = borders[matched - 1] ?? 0
    if (text.charCodeAt(at) === needle.charCodeAt(matched)) matched++
    if (matched === needle.length) return at - matched + 1
  }
  return -1
}
