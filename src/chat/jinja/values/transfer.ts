import { Dict } from './dict'
import { Float, textOf, type Value } from './values'

/** A structured-cloneable form of a value: a dict is a Map, a float a tagged list. */
export type Transferable =
  | null
  | boolean
  | number
  | bigint
  | string
  | Float64Array
  | Transferable[]
  | Map<string, Transferable>

/** @throws TypeError for values that do not come from JSON, such as macros and non-string keys */
export function toTransferable(value: Value): Transferable {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(toTransferable)
  if (value instanceof Float) return Float64Array.of(value.value)
  if (!(value instanceof Dict)) throw new TypeError(`a ${value.typeName} cannot be posted`)
  const map = new Map<string, Transferable>()
  for (const [key, item] of value.entries()) {
    const text = textOf(key)
    if (text === undefined) throw new TypeError('a dict with keys that are no text cannot be posted')
    map.set(text, toTransferable(item))
  }
  return map
}

export function fromTransferable(value: Transferable): Value {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(fromTransferable)
  if (value instanceof Float64Array) return new Float(value[0] ?? Number.NaN)
  const dict = new Dict()
  for (const [key, item] of value) dict.setText(key, fromTransferable(item))
  return dict
}
