import { shown } from '../checkpoint/invalid'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../errors'

/** The smallest fp32 number of full precision, about 1.2e-38. */
export const SMALLEST_NORMAL = 2 ** -126

/** Typed access to config.json: what is missing or of the wrong kind is an error that names the key and the value. */
export class ConfigReader {
  readonly #file: string

  constructor(
    readonly raw: RawConfig,
    file = 'config.json',
  ) {
    this.#file = file
  }

  /**
   * A whole number from 1 to `most`; `fallback` where the key is missing or null. `most` is a limit of sanity for what a
   * number of things is made of, so that a config that lies costs nothing.
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

  /** A number from `least` to `most`: far more than any model has, so that only mistakes lie outside. */
  within([least, most]: readonly [number, number], key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback
    if (typeof value === 'number' && value >= least && value <= most) return value
    throw this.wrong(key, `a number from ${least} to ${most}`)
  }

  /** The epsilon of a norm, which keeps it from dividing by zero; it must be one in fp32 too. */
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

  /** The string under `key` must be one of `allowed`. */
  oneOf(key: string, allowed: readonly string[], fallback: string): string {
    const value = this.raw[key] ?? fallback
    if (typeof value !== 'string' || !allowed.includes(value)) {
      throw new BillfishError(
        'UNSUPPORTED_MODEL',
        `${this.#file}: ${key} is ${shown(value)}; billfish knows ${allowed.join(', ')}.`,
      )
    }
    return value
  }

  /** The object under `key` as a reader of its own, or undefined where it is missing or null. */
  section(key: string): ConfigReader | undefined {
    const value = this.raw[key]
    if (value == null) return undefined
    if (typeof value !== 'object' || Array.isArray(value)) throw this.wrong(key, 'an object')
    return new ConfigReader(value as RawConfig, `${this.#file}: ${key}`)
  }

  /** For a section whose values, each possible by itself, cannot be computed with. */
  unusable(reason: string): BillfishError {
    return new BillfishError('INVALID_CHECKPOINT', `${this.#file} is ${shown(this.raw)}: ${reason}.`)
  }

  /** For a value that asks for `what`, which billfish does not compute. */
  unsupported(key: string, what: string): BillfishError {
    const value = shown(this.raw[key])
    return new BillfishError(
      'UNSUPPORTED_MODEL',
      `${this.#file}: ${key} is ${value}, which asks for ${what}; billfish does not compute that.`,
    )
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
