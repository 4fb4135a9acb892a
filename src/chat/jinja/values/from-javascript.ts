import { types } from 'node:util'
import { isBuiltIn, isRawJson } from '../../../options/snapshot'
import { Dict } from './dict'
import { normalized, parseInteger } from './numbers'
import { Float, PythonObject, type Value } from './values'

/** Real conversations are shallower; cyclic values are not. */
const MAX_DEPTH = 200

/**
 * Converts a JavaScript value to what Python would get via JSON: numbers that JSON writes as integers are ints, so 1.0,
 * which is 1 in JavaScript, is an int. Pass `JSON.rawJSON('1.0')` if the difference matters; bigints are ints. Members
 * that JSON omits (undefined) are omitted.
 * @param path name of the value in error messages
 * @throws TypeError for values that JSON cannot represent
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
 * A JSON number as Python reads it: a float if it has a point or exponent, else an int of any size.
 * @throws SyntaxError
 */
export function parseJsonNumber(text: string): Value {
  const match = /^(-?(?:0|[1-9]\d*))(\.\d+)?([eE][+-]?\d+)?$/.exec(text)
  if (!match) throw new SyntaxError(`${text} is not a JSON number`)
  if (match[2] !== undefined || match[3] !== undefined) return new Float(Number(text))
  const size = text.startsWith('-') ? text.slice(1) : text
  const int = parseInteger(size)
  if (int === undefined) throw new SyntaxError('an integer with too many digits')
  return size === text ? int : typeof int === 'bigint' ? -int : 0 - int
}
