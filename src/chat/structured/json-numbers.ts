import type { AutomatonBuilder, Part } from './automaton-builder'
import { MAX_DIGITS } from './json-text'
import type { Range } from './utf8-ranges'

/** Digits behind the point of a number with limits. */
const MAX_FRACTION_DIGITS = 6

/** Limits of a number; infinite where there is none. */
export interface NumberLimits {
  readonly low: number
  readonly high: number
  readonly excludesLow: boolean
  readonly excludesHigh: boolean
}

/** A limit without its sign: digits before and behind the point. */
interface Decimal {
  readonly whole: string
  readonly fraction: string
  readonly isExcluded: boolean
}

const NO_LIMIT: Decimal = {
  whole: '9'.repeat(MAX_DIGITS),
  fraction: '9'.repeat(MAX_FRACTION_DIGITS),
  isExcluded: false,
}
const ZERO: Decimal = { whole: '0', fraction: '', isExcluded: false }

/**
 * Numbers within limits, without exponents. Undefined if there are none, or a limit has no short decimal form.
 * @param isWhole without a point
 */
export function numberWithin(builder: AutomatonBuilder, limits: NumberLimits, isWhole: boolean): Part | undefined {
  const low = decimalOf(limits.low, limits.excludesLow)
  const high = decimalOf(limits.high, limits.excludesHigh)
  if (low === undefined || high === undefined) return undefined
  const digits = new DigitsWithin(builder, isWhole)
  const parts: Part[] = []
  if (limits.low < 0) {
    const least = limits.high < 0 ? high : { ...ZERO, isExcluded: true }
    parts.push(builder.sequence(builder.text('-'), digits.between(least, low)))
  }
  if (limits.high >= 0) parts.push(digits.between(limits.low > 0 ? low : zeroOf(limits), high))
  return parts.length === 0 ? undefined : builder.oneOf(...parts)
}

function zeroOf({ low, excludesLow }: NumberLimits): Decimal {
  return { ...ZERO, isExcluded: low === 0 && excludesLow }
}

function decimalOf(limit: number, isExcluded: boolean): Decimal | undefined {
  if (!Number.isFinite(limit)) return NO_LIMIT
  const text = String(Math.abs(limit))
  const [whole = '', fraction = ''] = text.split('.')
  if (!/^\d+(\.\d+)?$/.test(text) || whole.length > MAX_DIGITS) return undefined
  return { whole, fraction, isExcluded }
}

/** Unsigned numbers between two limits, compared digit by digit. */
class DigitsWithin {
  readonly #builder: AutomatonBuilder
  readonly #isWhole: boolean

  constructor(builder: AutomatonBuilder, isWhole: boolean) {
    this.#builder = builder
    this.#isWhole = isWhole
  }

  between(low: Decimal, high: Decimal): Part {
    return (from) => {
      const end = this.#builder.state()
      for (let length = low.whole.length; length <= high.whole.length; length++) {
        const onLow = length === low.whole.length ? low : undefined
        const onHigh = length === high.whole.length ? high : undefined
        this.#whole(from, end, length, onLow, onHigh)
      }
      return end
    }
  }

  /** Whole parts of `length` digits. `low`, `high`: the limits whose digits have been read so far. */
  #whole(from: number, end: number, length: number, low: Decimal | undefined, high: Decimal | undefined): void {
    const reached = new Map([[key(low, high), { state: from, low, high }]])
    let level = reached
    for (let i = 0; i < length; i++) {
      const next: typeof reached = new Map()
      for (const at of level.values()) {
        const first = i === 0 && length > 1 ? 1 : 0
        const least = Math.max(first, at.low ? Number(at.low.whole[i]) : 0)
        const most = at.high ? Number(at.high.whole[i]) : 9
        for (let digit = least; digit <= most; digit++) {
          const onLow = at.low && digit === Number(at.low.whole[i]) ? at.low : undefined
          const onHigh = at.high && digit === Number(at.high.whole[i]) ? at.high : undefined
          const to = next.get(key(onLow, onHigh)) ?? { state: this.#builder.state(), low: onLow, high: onHigh }
          next.set(key(onLow, onHigh), to)
          this.#builder.bytes(at.state, digitRange(digit), to.state)
        }
      }
      level = next
    }
    for (const at of level.values()) this.#fraction(at.state, end, at.low, at.high)
  }

  /** What may follow the whole part. */
  #fraction(from: number, end: number, low: Decimal | undefined, high: Decimal | undefined): void {
    const builder = this.#builder
    const mayEnd = (read: string, onLow: Decimal | undefined, onHigh: Decimal | undefined) =>
      (onLow === undefined || isAbove(read, onLow)) && (onHigh === undefined || isBelow(read, onHigh))
    if (mayEnd('', low, high)) builder.link(from, end)
    if (this.#isWhole) return
    const point = builder.state()
    builder.bytes(from, { low: 0x2e, high: 0x2e }, point)
    let level = new Map([[key(low, high), { state: point, low, high, read: '' }]])
    const digits = Math.max(MAX_FRACTION_DIGITS, low?.fraction.length ?? 0, high?.fraction.length ?? 0)
    for (let i = 0; i < Math.min(digits, MAX_DIGITS); i++) {
      const next: typeof level = new Map()
      for (const at of level.values()) {
        for (let digit = 0; digit <= 9; digit++) {
          const lowDigit = Number(at.low?.fraction[i] ?? 0)
          const highDigit = Number(at.high?.fraction[i] ?? 0)
          if ((at.low && digit < lowDigit) || (at.high && digit > highDigit)) continue
          const onLow = at.low && digit === lowDigit ? at.low : undefined
          const onHigh = at.high && digit === highDigit ? at.high : undefined
          const known = next.get(key(onLow, onHigh))
          const to = known ?? { state: builder.state(), low: onLow, high: onHigh, read: at.read + digit }
          next.set(key(onLow, onHigh), to)
          builder.bytes(at.state, digitRange(digit), to.state)
        }
      }
      for (const { state, low: onLow, high: onHigh, read } of next.values()) {
        if (mayEnd(read, onLow, onHigh)) builder.link(state, end)
      }
      level = next
    }
  }
}

function digitRange(digit: number): Range {
  return { low: 0x30 + digit, high: 0x30 + digit }
}

function key(low: Decimal | undefined, high: Decimal | undefined): string {
  return `${low ? 'low' : ''} ${high ? 'high' : ''}`
}

/** Whether a fraction whose digits are those of the limit so far is within it if it ends here. */
function isAbove(read: string, { fraction, isExcluded }: Decimal): boolean {
  const isEqual = /^0*$/.test(fraction.slice(read.length))
  return isEqual && !isExcluded
}

function isBelow(read: string, { fraction, isExcluded }: Decimal): boolean {
  const isEqual = /^0*$/.test(fraction.slice(read.length))
  return !isEqual || !isExcluded
}
