import { shown } from '../checkpoint/invalid'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../common/errors'

/** The smallest normal fp32 number, about 1.2e-38. */
export const SMALLEST_NORMAL = 2 ** -126

/** Typed access to config.json. A missing or mistyped value is an error that names the key and the value. */
export class ConfigReader {
  readonly #file: string

  constructor(
    readonly raw: RawConfig,
    file = 'config.json',
  ) {
    this.#file = file
  }

  /**
   * A whole number from 1 to `most`; `fallback` if the key is missing or null. `most` is a sanity limit that keeps a
   * bogus config from costing time or memory.
   */
  count(key: string, fallback?: number, most = 0x7fffffff): number {
    const value = this.raw[key] ?? fallback
    if (!isWhole(value) || value < 1) throw this.wrong(key, 'a positive whole number')
    if (value > most) throw this.wrong(key, `at most ${most}`)
    return value
  }

  /** A whole number of at least 0. */
  index(key: string, fallback: number): number {
    const value = this.raw[key] ?? fallback
    if (!isWhole(value)) throw this.wrong(key, 'a whole number, not negative')
    return value
  }

  optionalCount(key: string, most?: number): number | undefined {
    return this.raw[key] == null ? undefined : this.count(key, undefined, most)
  }

  /** A finite number above 0. */
  positive(key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.wrong(key, 'a positive number')
    return value
  }

  /**
   * A number from `min` to `max`. The limits are far outside of what real models use, so only mistakes are rejected.
   */
  within([min, max]: readonly [number, number], key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw this.wrong(key, `a number from ${min} to ${max}`)
  }

  /** The epsilon of a norm, which prevents division by zero and must not vanish in fp32. */
  epsilon(key: string, fallback: number): number {
    const value = this.positive(key, fallback)
    if (value < SMALLEST_NORMAL || value > 1) throw this.wrong(key, `between ${SMALLEST_NORMAL} and 1`)
    return value
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.raw[key] ?? fallback
    if (typeof value !== 'boolean') throw this.wrong(key, 'true or false')
    return value
  }

  /** The string under `key`, which must be one of `allowed`. */
  oneOf(key: string, allowed: readonly string[], fallback: string): string {
    const value = this.raw[key] ?? fallback
    if (typeof value !== 'string' || !allowed.includes(value)) {
      throw new BillfishError(
        'UNSUPPORTED_MODEL',
        `${this.#file}: ${key} is ${shown(value)}; billfish supports ${allowed.join(', ')}.`,
      )
    }
    return value
  }

  /** A reader for the object under `key`, or undefined if it is missing or null. */
  section(key: string): ConfigReader | undefined {
    const value = this.raw[key]
    if (value == null) return undefined
    if (typeof value !== 'object' || Array.isArray(value)) throw this.wrong(key, 'an object')
    return new ConfigReader(value as RawConfig, `${this.#file}: ${key}`)
  }

  /** Error for a section whose values are valid individually but not together. */
  unusable(reason: string): BillfishError {
    return new BillfishError('INVALID_CHECKPOINT', `${this.#file} is ${shown(this.raw)}: ${reason}.`)
  }

  /** Error for a value that requests `what`, which billfish does not support. */
  unsupported(key: string, what: string): BillfishError {
    const value = shown(this.raw[key])
    return new BillfishError(
      'UNSUPPORTED_MODEL',
      `${this.#file}: ${key} is ${value}, which requests ${what}; billfish does not support that.`,
    )
  }

  /** Error for a value that tensors contradict; `what` they say, and what to do, follows the value. */
  contradicted(key: string, what: string): BillfishError {
    return new BillfishError('INVALID_CHECKPOINT', `${this.#file}: ${key} is ${shown(this.raw[key])}, but ${what}.`)
  }

  wrong(key: string, wanted: string): BillfishError {
    const value = this.raw[key]
    const found = value === undefined ? 'missing' : shown(value)
    return new BillfishError('INVALID_CHECKPOINT', `${this.#file}: ${key} is ${found}, but must be ${wanted}.`)
  }
}

function isWhole(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0x7fffffff
}
