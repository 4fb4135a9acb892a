import { scaledToInt } from '../values/numbers'
import { floatRepr } from '../values/values'

/** Maximum digits after the decimal point. */
export const MAX_PRECISION = 1000

export interface FloatStyle {
  /** r: like repr; n: like g, but with a digit after the point, as for a format with a precision and no type. */
  readonly type: 'e' | 'f' | 'g' | 'r' | 'n'
  readonly precision: number
  readonly upper: boolean
  /** `#`: keeps the point and, with g, trailing zeros. */
  readonly alternate: boolean
}

/** The digits of a float's absolute value in one of Python's styles, without sign. */
export function floatDigits(value: number, { type, precision, upper, alternate }: FloatStyle): string {
  const text = styled(Math.abs(value), type, precision, alternate)
  return upper ? text.toUpperCase() : text
}

function styled(size: number, type: FloatStyle['type'], precision: number, alternate: boolean): string {
  if (Number.isNaN(size)) return 'nan'
  if (!Number.isFinite(size)) return 'inf'
  switch (type) {
    case 'r':
      return floatRepr(size)
    case 'f':
      return fixed(size, precision, alternate)
    case 'e': {
      const { digits, exponent } = significant(size, precision)
      return scientific(digits, exponent, alternate)
    }
    case 'g':
      return general(size, precision, alternate, Math.max(1, precision))
    case 'n': {
      const text = general(size, precision, alternate, Math.max(1, precision) - 1)
      return /[.e]/.test(text) ? text : `${text}.0`
    }
  }
}

function fixed(size: number, precision: number, alternate: boolean): string {
  const digits = scaledToInt(size, precision)
    .toString()
    .padStart(precision + 1, '0')
  const point = precision > 0 || alternate ? '.' : ''
  return digits.slice(0, digits.length - precision) + point + digits.slice(digits.length - precision)
}

/** The first `precision + 1` digits of a number, rounded, and the exponent of the first one. */
function significant(size: number, precision: number): { digits: string; exponent: number } {
  if (size === 0) return { digits: '0'.repeat(precision + 1), exponent: 0 }
  let exponent = Number(size.toExponential().split('e')[1])
  let digits = scaledToInt(size, precision - exponent).toString()
  if (digits.length <= precision) digits = scaledToInt(size, precision - --exponent).toString()
  if (digits.length > precision + 1) {
    digits = digits.slice(0, precision + 1)
    exponent++
  }
  return { digits, exponent }
}

function scientific(digits: string, exponent: number, alternate: boolean): string {
  const point = digits.length > 1 || alternate ? '.' : ''
  const power = String(Math.abs(exponent)).padStart(2, '0')
  return `${digits.charAt(0)}${point}${digits.slice(1)}e${exponent < 0 ? '-' : '+'}${power}`
}

/** @param highest exponent from which on scientific notation is used */
function general(size: number, precision: number, alternate: boolean, highest: number): string {
  const count = Math.max(1, precision)
  const { digits, exponent } = significant(size, count - 1)
  const kept = alternate ? digits : digits.replace(/0+$/, '') || '0'
  if (exponent < -4 || exponent >= highest) return scientific(kept, exponent, alternate)
  if (exponent < 0) return `0.${'0'.repeat(-exponent - 1)}${kept}`
  const whole = kept.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  const fraction = kept.slice(exponent + 1)
  return fraction === '' && !alternate ? whole : `${whole}.${fraction}`
}

/** Commas or underscores between groups of digits. */
export function grouped(digits: string, separator: string, size = 3): string {
  let text = digits.slice(-size)
  for (let end = digits.length - size; end > 0; end -= size) {
    text = digits.slice(Math.max(0, end - size), end) + separator + text
  }
  return text
}
