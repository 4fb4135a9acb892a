import { Undefined, type Value } from '../values/values'
import type { Runtime } from './runtime'

/** The variables of a scope, which sees those of the scopes around it. */
export class Frame {
  readonly rt: Runtime
  readonly outer: Frame | undefined
  readonly #unset: ReadonlySet<string> | undefined
  #variables: Map<string, Value> | undefined

  /** @param unset - variables that are undefined until this scope has set them, whatever the scopes around have */
  constructor(
    rt: Runtime,
    outer: Frame | undefined,
    variables?: Map<string, Value>,
    unset?: ReadonlySet<string> | undefined,
  ) {
    this.rt = rt
    this.outer = outer
    this.#variables = variables
    this.#unset = unset
  }

  /** A scope inside of this one. */
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
