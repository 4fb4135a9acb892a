import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'

/** Typed access to the fields of a config. A null field counts as absent. */
export class ConfigFields {
  readonly #fields: Readonly<Record<string, unknown>>

  constructor(
    readonly where: string,
    fields: Readonly<Record<string, unknown>>,
  ) {
    this.#fields = fields
  }

  /** The value of the first name that has one. */
  get(...names: string[]): unknown {
    for (const name of names) {
      const value = Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined
      if (value !== undefined && value !== null) return value
    }
    return undefined
  }

  boolean(fallback: boolean, ...names: string[]): boolean {
    const value = this.get(...names)
    if (value === undefined) return fallback
    if (typeof value !== 'boolean') throw this.invalid(names[0] ?? '', value, 'true or false')
    return value
  }

  integer(...names: string[]): number | undefined {
    const value = this.get(...names)
    if (value === undefined) return undefined
    if (typeof value !== 'number' || !Number.isSafeInteger(value))
      throw this.invalid(names[0] ?? '', value, 'a whole number')
    return value
  }

  string(...names: string[]): string | undefined {
    const value = this.get(...names)
    if (value === undefined) return undefined
    if (typeof value !== 'string') throw this.invalid(names[0] ?? '', value, 'a string')
    return value
  }

  object(...names: string[]): Record<string, unknown> | undefined {
    const value = this.get(...names)
    if (value === undefined) return undefined
    if (!isObject(value)) throw this.invalid(names[0] ?? '', value, 'an object')
    return value
  }

  bits(value: number | undefined, supported: string): 4 | 8 {
    if (value === 4 || value === 8) return value
    throw this.invalid('bits', value, supported)
  }

  /** -1 (channelwise) or a positive number of inputs; undefined if unspecified. */
  groupSize(): number | undefined {
    const size = this.integer('group_size', 'q_group_size')
    if (size === undefined || size === -1 || (size > 0 && size < 2 ** 31)) return size
    throw this.invalid('group_size', size, '-1 (channelwise) or a positive number')
  }

  invalid(name: string, value: unknown, expected: string): Error {
    return invalidCheckpoint(`${this.where}: ${name} is ${shown(value)}; expected ${expected}`)
  }
}
