import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../errors'

/** Typed access to config.json: what is missing or of the wrong kind is an error that names the key and the value. */
export class ConfigReader {
  constructor(
    readonly raw: RawConfig,
    private readonly file = 'config.json',
  ) {}

  /** A whole number of at least 1 (and at most 2^31 - 1); `fallback` where the key is missing or null. */
  count(key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback
    if (!isWhole(value) || value < 1) throw this.wrong(key, 'a positive whole number')
    return value
  }

  /** A whole number of at least 0. */
  index(key: string, fallback: number): number {
    const value = this.raw[key] ?? fallback
    if (!isWhole(value)) throw this.wrong(key, 'a whole number, not negative')
    return value
  }

  optionalCount(key: string): number | undefined {
    return this.raw[key] == null ? undefined : this.count(key)
  }

  /** A finite number above 0. */
  positive(key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.wrong(key, 'a positive number')
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
        `${this.file}: ${key} is ${JSON.stringify(value)}; billfish knows ${allowed.join(', ')}.`,
      )
    }
    return value
  }

  /** The object under `key` as a reader of its own, or undefined where it is missing or null. */
  section(key: string): ConfigReader | undefined {
    const value = this.raw[key]
    if (value == null) return undefined
    if (typeof value !== 'object' || Array.isArray(value)) throw this.wrong(key, 'an object')
    return new ConfigReader(value as RawConfig, `${this.file}: ${key}`)
  }

  wrong(key: string, wanted: string): BillfishError {
    const value = this.raw[key]
    const found = value === undefined ? 'missing' : JSON.stringify(value)?.slice(0, 100)
    return new BillfishError('INVALID_CHECKPOINT', `${this.file}: ${key} is ${found}, but must be ${wanted}.`)
  }
}

function isWhole(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0x7fffffff
}
