import { Undefined, type Value } from '../values/values'
import type { Runtime } from './runtime'

/** The variables of a scope, which sees those of the scopes around it. */
export class Frame {
  readonly rt: Runtime
  readonly outer: Frame | undefined
  #variables: Map<string, Value> | undefined

  constructor(rt: Runtime, outer: Frame | undefined, variables?: Map<string, Value>) {
    this.rt = rt
    this.outer = outer
    this.#variables = variables
  }

  /** A scope inside of this one. */
  inner(): Frame {
    return new Frame(this.rt, this)
  }

  /** The outermost scope, in which the template itself is rendered. */
  root(): Frame {
    const { outer } = this
    return outer?.outer === undefined ? this : outer.root()
  }

  get(name: string): Value {
    for (let frame: Frame | undefined = this; frame; frame = frame.outer) {
      const value = frame.#variables?.get(name)
      if (value !== undefined) return value
    }
    return new Undefined(`'${name}' is undefined`)
  }

  set(name: string, value: Value): void {
    this.#variables ??= new Map()
    this.#variables.set(name, value)
  }
}
