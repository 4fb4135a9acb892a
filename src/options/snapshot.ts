import { types } from 'node:util'
import { BillfishError } from '../common/errors'
import { messageOf } from './printed'

/** `JSON.isRawJSON`, if the runtime has it: raw JSON is a number as written. */
export const isRawJson = (JSON as { isRawJSON?: (value: unknown) => boolean }).isRawJSON

/** More than any config.json or device map has. */
const MAX_VALUES = 1_000_000
const MAX_DEPTH = 100

/**
 * Runs `read`, which touches a caller's object. A getter or a Proxy may do anything; what it throws is the caller's error.
 * @throws BillfishError INVALID_OPTION with the thrown value as `cause`
 */
export function guarded<Result>(name: string, read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    if (error instanceof BillfishError) throw error
    throw new BillfishError('INVALID_OPTION', `${name} could not be read: ${messageOf(error)}`, { cause: error })
  }
}

/** Whether a value is a plain object or class instance rather than an array or a built-in object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isBuiltIn(value)
}

/** Whether an object belongs to a built-in class, whose contents are not in its members. */
export function isBuiltIn(value: object): boolean {
  return (
    types.isPromise(value) ||
    types.isMap(value) ||
    types.isSet(value) ||
    types.isWeakMap(value) ||
    types.isWeakSet(value) ||
    types.isDate(value) ||
    types.isRegExp(value) ||
    types.isAnyArrayBuffer(value) ||
    ArrayBuffer.isView(value) ||
    types.isBoxedPrimitive(value) ||
    types.isNativeError(value)
  )
}

/**
 * The names of an object's members, including inherited ones: a class instance or an object created from defaults is as
 * good as a literal. Additions to Object.prototype and symbols do not count.
 */
export function memberNames(object: object): string[] {
  const names: string[] = []
  for (const name in object) if (Object.hasOwn(object, name) || !(name in Object.prototype)) names.push(name)
  return names
}

/** Sets a member of any name, including `__proto__`. */
function setMember(object: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== '__proto__') object[name] = value
  else Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true })
}

/**
 * Copies a caller's data, reading every member once: neither a getter nor a later change affects checked values. Arrays,
 * objects and Maps are copied deeply, objects with toJSON() as what that returns; functions and other built-in objects are
 * kept. -0 becomes 0.
 * @param name its name in messages
 * @throws BillfishError INVALID_OPTION for data that throws when read, contains itself, or is too large
 */
export function snapshot(value: unknown, name: string): unknown {
  return guarded(name, () => new Copier(name).copy(value, 0))
}

class Copier {
  #values = 0
  readonly #open = new Set<object>()

  readonly #name: string

  constructor(name: string) {
    this.#name = name
  }

  copy(value: unknown, depth: number): unknown {
    if (value === 0) return 0
    if (typeof value !== 'object' || value === null) return value
    if (!Array.isArray(value) && !types.isMap(value) && isBuiltIn(value)) return value
    if (isRawJson?.(value)) return value
    if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
      return this.#fromJson(value as { toJSON(): unknown }, depth)
    }
    if (this.#open.has(value)) throw this.#refused('contains itself')
    if (depth > MAX_DEPTH) throw this.#refused(`nests arrays and objects deeper than ${MAX_DEPTH}`)
    this.#open.add(value)
    const copy = this.#copyMembers(value, depth + 1)
    this.#open.delete(value)
    return copy
  }

  /** The JSON form of an object with toJSON() (a URL, a decimal number), which may be an endless chain. */
  #fromJson(value: { toJSON(): unknown }, depth: number): unknown {
    if (depth > MAX_DEPTH) throw this.#refused(`nests arrays and objects deeper than ${MAX_DEPTH}`)
    return this.copy(value.toJSON(), depth + 1)
  }

  #copyMembers(value: object, depth: number): unknown {
    if (Array.isArray(value)) {
      const { length } = value
      this.#count(length)
      return Array.from({ length }, (_, i) => this.copy(value[i], depth))
    }
    if (types.isMap(value)) {
      this.#count(value.size)
      return new Map([...value].map(([key, member]) => [key, this.copy(member, depth)]))
    }
    const names = memberNames(value)
    this.#count(names.length)
    const copy: Record<string, unknown> = {}
    for (const member of names) {
      setMember(copy, member, this.copy((value as Record<string, unknown>)[member], depth))
    }
    return copy
  }

  #count(values: number): void {
    this.#values += values
    if (!(this.#values <= MAX_VALUES)) throw this.#refused(`holds more than ${MAX_VALUES} values`)
  }

  #refused(why: string): BillfishError {
    return new BillfishError('INVALID_OPTION', `${this.#name} ${why}.`)
  }
}
