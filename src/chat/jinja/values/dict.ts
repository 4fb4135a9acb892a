import { typeError } from '../errors'
import type { Runtime } from './values'
import { Float, Markup, PythonObject, Tuple, typeName, Undefined, type Value } from './values'

/** Map key for a Python key: equal for keys that Python considers equal, such as 1, 1.0 and True. */
export type HashKey = string | number | bigint | null | symbol | object

const UNDEFINED = Symbol('Undefined')

/** Strings map to themselves unless they begin with this prefix, which marks mapped values. */
const MARK = '\0'

/** @throws PythonError TypeError for unhashable values */
export function hashKey(rt: Runtime, value: Value): HashKey {
  switch (typeof value) {
    case 'string':
      return textKey(value)
    case 'boolean':
      return Number(value)
    case 'number':
    case 'bigint':
      return value
  }
  if (value === null) return null
  if (value instanceof Float) {
    const { value: number } = value
    return Number.isInteger(number) && !Number.isSafeInteger(number) ? BigInt(number) : number
  }
  if (value instanceof Markup) return textKey(value.text)
  if (value instanceof Undefined) return UNDEFINED
  if (value instanceof Tuple) return tupleKey(rt, value)
  if (Array.isArray(value) || value instanceof Dict || value instanceof DictView)
    throw typeError(`unhashable type: '${typeName(value)}'`)
  return value
}

function textKey(text: string): string {
  return text.charCodeAt(0) === 0 ? `${MARK}s${text}` : text
}

function tupleKey(rt: Runtime, tuple: Tuple): string {
  rt.budget.enter()
  let key = `${MARK}t`
  for (const item of tuple.items) {
    const part = hashKey(rt, item)
    const text = typeof part === 'object' && part !== null ? `o${rt.identity(part)}` : `${typeof part}${String(part)}`
    rt.budget.text(text.length)
    key += `${text.length}:${text}`
  }
  rt.budget.leave()
  return key
}

/** A dict in insertion order. */
export class Dict extends PythonObject {
  readonly typeName = 'dict'
  readonly #values = new Map<HashKey, Value>()
  /** Original keys that differ from their map keys. */
  #keys: Map<HashKey, Value> | undefined

  /** Creates a dict with string keys. */
  static fromEntries(entries: Iterable<readonly [string, Value]>): Dict {
    const dict = new Dict()
    for (const [key, value] of entries) dict.setText(key, value)
    return dict
  }

  get size(): number {
    return this.#values.size
  }

  get(rt: Runtime, key: Value): Value | undefined {
    return this.#values.get(hashKey(rt, key))
  }

  getText(key: string): Value | undefined {
    return this.#values.get(textKey(key))
  }

  has(rt: Runtime, key: Value): boolean {
    return this.#values.has(hashKey(rt, key))
  }

  set(rt: Runtime, key: Value, value: Value): void {
    const hash = hashKey(rt, key)
    if (!this.#values.has(hash)) this.#remember(hash, key)
    this.#values.set(hash, value)
  }

  setText(key: string, value: Value): void {
    const hash = textKey(key)
    if (hash !== key) this.#remember(hash, key)
    this.#values.set(hash, value)
  }

  #remember(hash: HashKey, key: Value): void {
    if (hash === key) return
    this.#keys ??= new Map()
    this.#keys.set(hash, key)
  }

  #keyOf(hash: HashKey): Value {
    return this.#keys?.get(hash) ?? (hash as Value)
  }

  *keys(): Generator<Value> {
    for (const hash of this.#values.keys()) yield this.#keyOf(hash)
  }

  values(): Iterator<Value> {
    return this.#values.values()
  }

  *entries(): Generator<[Value, Value]> {
    for (const [hash, value] of this.#values) yield [this.#keyOf(hash), value]
  }

  copy(): Dict {
    const copy = new Dict()
    for (const [hash, value] of this.#values) copy.#values.set(hash, value)
    if (this.#keys) copy.#keys = new Map(this.#keys)
    return copy
  }

  repr(rt: Runtime): string {
    rt.budget.enter()
    let text = '{'
    for (const [key, value] of this.entries()) {
      if (text.length > 1) text += ', '
      text += `${rt.repr(key)}: ${rt.repr(value)}`
    }
    rt.budget.leave()
    return `${text}}`
  }

  override truth(): boolean {
    return this.size > 0
  }

  override item(rt: Runtime, key: Value): Value | undefined {
    if (typeof key === 'string') return this.getText(key)
    return Array.isArray(key) || key instanceof Dict ? undefined : this.get(rt, key)
  }

  override length(): number {
    return this.size
  }

  override iterator(): Iterator<Value> {
    return this.keys()
  }
}

/** Result of `keys()`, `values()` and `items()`. */
export class DictView extends PythonObject {
  readonly typeName: string
  readonly dict: Dict
  readonly part: 'keys' | 'values' | 'items'

  constructor(dict: Dict, part: 'keys' | 'values' | 'items') {
    super()
    this.dict = dict
    this.part = part
    this.typeName = `dict_${part}`
  }

  repr(rt: Runtime): string {
    return `${this.typeName}([${rt.reprAll([...this.#all()])}])`
  }

  override truth(): boolean {
    return this.dict.size > 0
  }

  override length(): number {
    return this.dict.size
  }

  override iterator(): Iterator<Value> {
    return this.#all()[Symbol.iterator]()
  }

  *#all(): Generator<Value> {
    for (const [key, value] of this.dict.entries()) {
      if (this.part === 'items') yield new Tuple([key, value])
      else yield this.part === 'keys' ? key : value
    }
  }
}
