import { PythonError, valueError } from '../errors'
import { Float, type Value } from './values'

/** An int in either of its forms: a number if it is safe, else a bigint. */
export type Int = number | bigint

/** Maximum bits of an int: arithmetic on larger ones would take too long. */
const MAX_INT_BITS = 131_072
/** Maximum digits of decimal integers, which Python limits when printing and parsing. */
const MAX_DECIMAL_DIGITS = 4300

const MAX_BIG = 1n << BigInt(MAX_INT_BITS)

/** Canonical representation of an int. */
export function normalized(value: bigint): Int {
  if (value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  if (value >= MAX_BIG || value <= -MAX_BIG) throw tooLarge()
  return value
}

export function tooLarge(): PythonError {
  return new PythonError('OverflowError', `an integer of more than ${MAX_INT_BITS} bits`)
}

/** The int value of a value, bools included; undefined for anything else. */
export function intOf(value: Value): Int | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return value
  return typeof value === 'boolean' ? Number(value) : undefined
}

/** An int or float as operand of arithmetic. */
export type Numeric = Int | Float

export function numericOf(value: Value): Numeric | undefined {
  return value instanceof Float ? value : intOf(value)
}

/** @throws PythonError OverflowError */
export function toDouble(value: Numeric): number {
  if (value instanceof Float) return value.value
  const double = Number(value)
  if (!Number.isFinite(double)) throw new PythonError('OverflowError', 'int too large to convert to float')
  return double
}

/** Approximate bits of the absolute value of an int. */
export function bitLength(value: Int): number {
  if (typeof value === 'number') return value === 0 ? 0 : Math.floor(Math.log2(Math.abs(value))) + 1
  const hex = (value < 0n ? -value : value).toString(16)
  return hex.length * 4 - Math.clz32(Number.parseInt(hex.charAt(0), 16)) + 28
}

/** Decimal digits of an int. @throws PythonError ValueError if it has more than Python prints */
export function intText(value: Int): string {
  if (typeof value === 'bigint' && bitLength(value) > MAX_DECIMAL_DIGITS * 3.33) throw tooManyDigits()
  const text = value.toString()
  if (text.length > MAX_DECIMAL_DIGITS + 1) throw tooManyDigits()
  return text
}

function tooManyDigits(): PythonError {
  return valueError(`exceeds the limit (${MAX_DECIMAL_DIGITS} digits) for integer string conversion`)
}

/** An integer literal of Python without underscores: decimal, or with 0x, 0o or 0b. Undefined if it is too long. */
export function parseInteger(text: string): Int | undefined {
  if (text.length < 15) return Number(text)
  const limit = /^0[box]/i.test(text) ? MAX_INT_BITS / 4 : MAX_DECIMAL_DIGITS
  return text.length > limit ? undefined : normalized(BigInt(text))
}

/** Truncates a float to an int. @throws PythonError */
export function truncated(value: number): Int {
  if (Number.isNaN(value)) throw valueError('cannot convert float NaN to integer')
  if (!Number.isFinite(value)) throw new PythonError('OverflowError', 'cannot convert float infinity to integer')
  const whole = Math.trunc(value)
  return Number.isSafeInteger(whole) ? whole + 0 : BigInt(whole)
}

export function isZero(value: Numeric): boolean {
  return value instanceof Float ? value.value === 0 : value === 0
}

export function negated(value: Numeric): Numeric {
  if (value instanceof Float) return new Float(-value.value)
  return typeof value === 'bigint' ? normalized(-value) : 0 - value
}

export function addNumbers(a: Numeric, b: Numeric): Numeric {
  if (a instanceof Float || b instanceof Float) return new Float(toDouble(a) + toDouble(b))
  if (typeof a === 'number' && typeof b === 'number') {
    const sum = a + b
    if (Number.isSafeInteger(sum)) return sum
  }
  return normalized(BigInt(a) + BigInt(b))
}

export function multiplyNumbers(a: Numeric, b: Numeric): Numeric {
  if (a instanceof Float || b instanceof Float) return new Float(toDouble(a) * toDouble(b))
  if (typeof a === 'number' && typeof b === 'number') {
    const product = a * b
    if (Number.isSafeInteger(product)) return product + 0
  }
  return normalized(BigInt(a) * BigInt(b))
}

export function divideNumbers(a: Numeric, b: Numeric): Float {
  if (isZero(b)) throw new PythonError('ZeroDivisionError', 'division by zero')
  if (!(a instanceof Float || b instanceof Float) && (typeof a === 'bigint' || typeof b === 'bigint')) {
    return new Float(divideBig(BigInt(a), BigInt(b)))
  }
  return new Float(toDouble(a) / toDouble(b))
}

/** Correctly rounded quotient: 64 bits of it, with a sticky last bit, are rounded once. */
function divideBig(a: bigint, b: bigint): number {
  const negative = a < 0n !== b < 0n
  const numerator = a < 0n ? -a : a
  const denominator = b < 0n ? -b : b
  const shift = 66 - (bitLength(numerator) - bitLength(denominator))
  const scaled = shift >= 0 ? numerator << BigInt(shift) : numerator
  const divisor = shift >= 0 ? denominator : denominator << BigInt(-shift)
  const sticky = scaled % divisor === 0n ? 0n : 1n
  const quotient = Number((scaled / divisor) * 2n + sticky) * 2 ** (-shift - 1)
  if (!Number.isFinite(quotient)) {
    throw new PythonError('OverflowError', 'integer division result too large for a float')
  }
  return negative ? -quotient : quotient
}

/** `a // b` and `a % b`, rounded toward negative infinity. */
export function divideWithRemainder(a: Numeric, b: Numeric): { quotient: Numeric; rest: Numeric } {
  if (isZero(b)) throw new PythonError('ZeroDivisionError', 'integer division or modulo by zero')
  if (a instanceof Float || b instanceof Float) return divideFloats(toDouble(a), toDouble(b))
  if (typeof a === 'number' && typeof b === 'number') {
    let rest = a % b
    if (rest !== 0 && rest < 0 !== b < 0) rest += b
    const difference = a - rest
    if (Number.isSafeInteger(difference)) return { quotient: difference / b + 0, rest: rest + 0 }
  }
  const [x, y] = [BigInt(a), BigInt(b)]
  let rest = x % y
  let quotient = x / y
  if (rest !== 0n && rest < 0n !== y < 0n) {
    rest += y
    quotient -= 1n
  }
  return { quotient: normalized(quotient), rest: normalized(rest) }
}

function divideFloats(a: number, b: number): { quotient: Float; rest: Float } {
  let rest = a % b
  let quotient = (a - rest) / b
  if (rest !== 0) {
    if (b < 0 !== rest < 0) {
      rest += b
      quotient -= 1
    }
  } else {
    rest = b < 0 ? -0 : 0
  }
  if (quotient !== 0) {
    const floor = Math.floor(quotient)
    quotient = quotient - floor > 0.5 ? floor + 1 : floor
  } else {
    quotient = a / b < 0 || Object.is(a / b, -0) ? -0 : 0
  }
  return { quotient: new Float(quotient), rest: new Float(rest) }
}

export function powerOf(a: Numeric, b: Numeric): Numeric {
  if (!(a instanceof Float || b instanceof Float) && b >= 0) return intPower(a, b)
  const [base, exponent] = [toDouble(a), toDouble(b)]
  if (base === 0 && exponent < 0) {
    throw new PythonError('ZeroDivisionError', '0.0 cannot be raised to a negative power')
  }
  if (base < 0 && Number.isFinite(base) && Number.isFinite(exponent) && !Number.isInteger(exponent)) {
    throw valueError('a negative number has no real power with a fraction')
  }
  if (base === 1 || exponent === 0) return new Float(1) // JavaScript has NaN for 1 ** Infinity and 1 ** NaN
  if (base === -1 && !Number.isFinite(exponent) && !Number.isNaN(exponent)) return new Float(1)
  const power = base ** exponent
  if (!Number.isFinite(power) && Number.isFinite(base) && Number.isFinite(exponent)) {
    throw new PythonError('OverflowError', 'Numerical result out of range')
  }
  return new Float(power)
}

function intPower(a: Int, b: Int): Int {
  const power = Number(a) ** Number(b)
  if (Number.isSafeInteger(power)) return power
  if ((bitLength(a) - 1) * Number(b) > MAX_INT_BITS) throw tooLarge()
  return normalized(BigInt(a) ** BigInt(b))
}

const DIGIT_ZERO = /\p{Nd}/u

/** Decimal digits of other scripts as ASCII, as int() and float() of Python read them; undefined if there are others. */
function asciiDigits(text: string): string | undefined {
  let ascii = ''
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0
    if (code < 0x80) ascii += char
    else if (DIGIT_ZERO.test(char)) ascii += decimalDigit(code)
    else return undefined
  }
  return ascii
}

/** The value of a decimal digit: they come in runs of ten, which begin with zero. */
function decimalDigit(code: number): number {
  let zero = code
  while (code - zero < 9 && DIGIT_ZERO.test(String.fromCodePoint(zero - 1))) zero--
  return (code - zero) % 10
}

/** `int(text, base)`. @throws PythonError ValueError */
export function parsePythonInt(text: string, base: number): Int {
  if (base !== 0 && (base < 2 || base > 36)) throw valueError('int() base must be >= 2 and <= 36, or 0')
  const invalid = () => valueError(`invalid literal for int() with base ${base}: ${JSON.stringify(text.slice(0, 100))}`)
  const ascii = asciiDigits(text.slice(0, MAX_INT_BITS))
  const match = /^([+-]?)(0[box]_?)?([0-9a-z]+(?:_[0-9a-z]+)*)$/i.exec(ascii ?? '')
  const plain = /^([+-]?)([0-9a-z]+(?:_[0-9a-z]+)*)$/i.exec(ascii ?? '')
  const prefixBase = match?.[2] ? { b: 2, o: 8, x: 16 }[match[2].charAt(1).toLowerCase()] : undefined
  const usesPrefix = prefixBase !== undefined && (base === 0 || base === prefixBase)
  const [sign, digits] = usesPrefix ? [match?.[1], match?.[3]] : [plain?.[1], plain?.[2]]
  const radix = usesPrefix ? prefixBase : base === 0 ? 10 : base
  if (digits === undefined || radix === undefined) throw invalid()
  const clean = digits.replaceAll('_', '').toLowerCase()
  if (base === 0 && !usesPrefix && /^0+[1-9]/.test(clean)) throw invalid()
  const isPowerOfTwo = (radix & (radix - 1)) === 0
  if (!isPowerOfTwo && clean.length > MAX_DECIMAL_DIGITS) throw tooManyDigits()
  if (isPowerOfTwo && clean.length * Math.log2(radix) > MAX_INT_BITS) throw tooLarge()
  let value = 0n
  for (const char of clean) {
    const digit = Number.parseInt(char, 36)
    if (digit >= radix) throw invalid()
    if (radix !== 10) value = value * BigInt(radix) + BigInt(digit)
  }
  if (radix === 10) value = BigInt(clean)
  return normalized(sign === '-' ? -value : value)
}

/** `float(text)`. @throws PythonError ValueError */
export function parsePythonFloat(text: string): number {
  const ascii = asciiDigits(text.slice(0, 10_000)) ?? ''
  if (/^[+-]?(?:(?:\d+(?:_\d+)*)?\.?\d*(?:_\d+)*)(?:[eE][+-]?\d+(?:_\d+)*)?$/.test(ascii) && /\d/.test(ascii)) {
    const clean = ascii.replaceAll('_', '')
    if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(clean)) return Number(clean)
  }
  const word = /^([+-]?)(?:(inf(?:inity)?)|nan)$/i.exec(ascii)
  if (!word) throw valueError(`could not convert string to float: ${JSON.stringify(text.slice(0, 100))}`)
  if (word[2] === undefined) return Number.NaN
  return word[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
}

/** `x * 10 ** digits` of a finite x, exactly, rounded half to even. */
export function scaledToInt(x: number, digits: number): bigint {
  const { mantissa, exponent } = parts(x)
  let numerator = mantissa
  let denominator = 1n
  if (exponent >= 0) numerator <<= BigInt(exponent)
  else denominator <<= BigInt(-exponent)
  if (digits >= 0) numerator *= 10n ** BigInt(digits)
  else denominator *= 10n ** BigInt(-digits)
  const negative = numerator < 0n
  const size = negative ? -numerator : numerator
  let quotient = size / denominator
  const twice = (size % denominator) * 2n
  if (twice > denominator || (twice === denominator && quotient % 2n === 1n)) quotient += 1n
  return negative ? -quotient : quotient
}

/** `x = mantissa * 2 ** exponent`, for finite x. */
function parts(x: number): { mantissa: bigint; exponent: number } {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, x)
  const bits = view.getBigUint64(0)
  const biased = Number((bits >> 52n) & 0x7ffn)
  const fraction = bits & 0xfffffffffffffn
  const size = biased === 0 ? fraction : fraction | (1n << 52n)
  return { mantissa: bits >> 63n === 1n ? -size : size, exponent: (biased === 0 ? 1 : biased) - 1075 }
}

/** `round(x, digits)` of a float. */
export function roundFloat(x: number, digits: number): number {
  if (!Number.isFinite(x) || x === 0 || digits > 323) return x
  if (digits < -308) return x < 0 ? -0 : 0
  const scaled = scaledToInt(x, digits)
  if (scaled === 0n) return x < 0 ? -0 : 0
  return Number(`${scaled}e${-digits}`)
}

/** `round(x, digits)` of an int: only negative digits change it. */
export function roundInt(x: Int, digits: number): Int {
  if (digits >= 0) return x
  if (-digits > MAX_DECIMAL_DIGITS) return 0
  const unit = 10n ** BigInt(-digits)
  const value = BigInt(x)
  const size = value < 0n ? -value : value
  let quotient = size / unit
  const twice = (size % unit) * 2n
  if (twice > unit || (twice === unit && quotient % 2n === 1n)) quotient += 1n
  return normalized(value < 0n ? -quotient * unit : quotient * unit)
}
