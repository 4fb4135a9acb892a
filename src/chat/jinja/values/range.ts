import { PythonError, valueError } from '../errors'
import type { Runtime } from './values'
import { PythonObject, type Value } from './values'

/** Longest range that the sandbox allows. */
const MAX_RANGE = 100_000

/** A range. @throws PythonError for a step of zero, or if it is longer than the sandbox allows */
export class Range extends PythonObject {
  readonly typeName = 'range'
  readonly start: number
  readonly stop: number
  readonly step: number
  readonly count: number

  constructor(start: number, stop: number, step: number) {
    super()
    if (step === 0) throw valueError('range() arg 3 must not be zero')
    this.start = start
    this.stop = stop
    this.step = step
    this.count = Math.max(0, Math.ceil((stop - start) / step))
    if (this.count > MAX_RANGE) {
      throw new PythonError('OverflowError', `range too big; the sandbox blocks ranges larger than ${MAX_RANGE}`)
    }
  }

  at(index: number): number {
    return this.start + index * this.step
  }

  slice(start: number, stop: number, step: number): Range {
    return new Range(this.at(start), this.at(stop), this.step * step)
  }

  /** Index of a number in the range; -1 if absent. */
  indexOf(value: number): number {
    const index = (value - this.start) / this.step
    return Number.isInteger(index) && index >= 0 && index < this.count ? index : -1
  }

  repr(): string {
    return this.step === 1 ? `range(${this.start}, ${this.stop})` : `range(${this.start}, ${this.stop}, ${this.step})`
  }

  override truth(): boolean {
    return this.count > 0
  }

  override attribute(_rt: Runtime, name: string): Value | undefined {
    return name === 'start' || name === 'stop' || name === 'step' ? this[name] : undefined
  }

  override length(): number {
    return this.count
  }

  override *iterator(): Generator<Value> {
    for (let index = 0; index < this.count; index++) yield this.at(index)
  }
}
