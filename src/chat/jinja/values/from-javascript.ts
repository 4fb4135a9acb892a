import { types } from 'node:util'
import { isBuiltIn, isRawJson } from '../../../options/snapshot'
import { Dict } from './dict'
import { normalized, parseInteger } from './numbers'
import { Float, PythonObject, type Value } from './values'

/** No conversation nests deeper; values that hold themselves do. */
const MAX_DEPTH = 200

/**
 * A value of JavaScript as Python would have it after JSON: a number is an int if JSON writes it as one, so 1.0, which
 * is 1 in JavaScript, is an int. Where the difference matters, a caller gives `JSON.rawJSON('1.0')`; a bigint is an
 * int. What JSON leaves out of objects (undefined) is left out here.
 * @param path - names the value in messages
 * @throws TypeError for what JSON cannot hold
 */
export function fromJavaScript(value: unknown, path: string, depth = 0): Value {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'number':
      return fromNumber(value)
    case 'bigint':
      return normalized(value)
    case 'object':
      return value === null ? null : fromObject(value, path, depth)
    default:
      throw new TypeError(`${path} is a ${typeof value}; templates take what JSON can hold`)
  }
}

function fromNumber(value: number): Value {
  if (Number.isSafeInteger(value)) return value + 0
  return Number.isFinite(value) ? parseJsonNumber(JSON.stringify(value)) : new Float(value)
}

function fromObject(value: object, path: string, depth: number): Value {
  if (depth > MAX_DEPTH) throw new TypeError(`${path} nests deeper than ${MAX_DEPTH} levels, or holds itself`)
  if (value instanceof PythonObject) return value
  if (Array.isArray(value)) {
    return Array.from(value, (item, index) => {
      return item === undefined ? null : fromJavaScript(item, `${path}[${index}]`, depth + 1)
    })
  }
  if (isRawJson?.(value)) return fromRawJson((value as { rawJSON: string }).rawJSON)
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
    return fromJavaScript((value as { toJSON: () => unknown }).toJSON(), path, depth + 1)
  }
  if (types.isBoxedPrimitive(value)) return fromJavaScript(value.valueOf(), path, depth + 1)
  if (isBuiltIn(value)) {
    const kind = Object.prototype.toString.call(value).slice('[object '.length, -1)
    throw new TypeError(`${path} is a ${kind}; templates take what JSON can hold`)
  }
  const dict = new Dict()
  for (const key of Object.keys(value)) {
    const member = (value as Record<string, unknown>)[key]
    if (member !== undefined) dict.setText(key, fromJavaScript(member, `${path}.${key}`, depth + 1))
  }
  return dict
}

/** Raw JSON is always a primitive. */
function fromRawJson(text: string): Value {
  return /^-?\d/.test(text) ? parseJsonNumber(text) : (JSON.parse(text) as string | boolean | null)
}

/**
 * A number as Python reads it from JSON: with a point or an exponent it is a float, else an int of any size.
 * @throws SyntaxError
 */
export function parseJsonNumber(text: string): Value {
  const match = /^(-?(?:0|[1-9]\d*))(\.\d+)?([eE][+-]?\d+)?$/.exec(text)
  if (!match) throw new SyntaxError(`${text} is no number of JSON`)
  if (match[2] !== undefined || match[3] !== undefined) return new Float(Number(text))
  const size = text.startsWith('-') ? text.slice(1) : text
  const int = parseInteger(size)
  if (int === undefined) throw new SyntaxError('an integer with too many digits')
  return size === text ? int : typeof int === 'bigint' ? -int : 0 - int
}
