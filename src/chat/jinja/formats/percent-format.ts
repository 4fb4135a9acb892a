import { PythonError, typeError, valueError } from '../errors'
import { codePointCount, unitIndex } from '../values/code-points'
import { Dict } from '../values/dict'
import { type Int, intOf, intText, numericOf, toDouble, truncated } from '../values/numbers'
import { Range } from '../values/range'
import { hexEscape } from '../values/repr'
import type { Runtime } from '../values/values'
import { Float, Tuple, textOf, typeName, Undefined, type Value } from '../values/values'
import { floatDigits, MAX_PRECISION } from './float-format'

interface Conversion {
  readonly flags: string
  readonly width: number
  readonly precision: number | undefined
  readonly type: string
}

const CONVERSION = /%(?:\(([^()]*(?:\([^()]*\)[^()]*)*)\))?([-+ #0]*)(\*|\d{1,9})?(?:\.(\*|\d{0,9}))?[hlL]?([\s\S])?/gu

/**
 * `format % args`: a tuple provides one argument per conversion; anything else is the only argument or, with named
 * conversions, the mapping.
 * @param text converts an argument of %s: str, or its escaped form for Markup
 * @throws PythonError
 */
export function percentFormat(
  rt: Runtime,
  format: string,
  args: Value,
  text = (value: Value) => rt.str(value),
): string {
  const positional = args instanceof Tuple ? args.items : [args]
  let used = 0
  const next = (): Value => {
    const value = positional[used++]
    if (value === undefined) throw typeError('not enough arguments for format string')
    return value
  }
  const amount = (written: string | undefined): number | undefined => {
    if (written !== '*') return written === undefined ? undefined : Number(written)
    const value = intOf(next())
    if (typeof value !== 'number') throw typeError('* wants int')
    return value
  }
  let named = false
  rt.budget.walk(format.length)
  const result = format.replace(CONVERSION, (all, name: string | undefined, flags: string, width, precision, type) => {
    rt.budget.step()
    if (all === '%%') return '%'
    if (name !== undefined) {
      named = true
      return convert(
        rt,
        { flags, width: Number(width ?? 0), precision: amount(precision), type },
        () => {
          if (isMapping(args)) return lookedUp(rt, args, name)
          throw typeError('format requires a mapping')
        },
        text,
      )
    }
    const wanted = amount(width) ?? 0
    const left = wanted < 0 ? `${flags}-` : flags
    return convert(rt, { flags: left, width: Math.abs(wanted), precision: amount(precision), type }, next, text)
  })
  if (!named && used < positional.length && (args instanceof Tuple || !isMapping(args))) {
    throw typeError('not all arguments converted during string formatting')
  }
  rt.budget.text(result.length)
  return result
}

/** What Python treats as a mapping here: everything with items except tuples and strings. */
function isMapping(value: Value): boolean {
  return Array.isArray(value) || value instanceof Dict || value instanceof Range || value instanceof Undefined
}

function lookedUp(rt: Runtime, args: Value, name: string): Value {
  if (args instanceof Undefined) throw args.fault()
  if (!(args instanceof Dict)) throw typeError(`${typeName(args)} indices must be integers or slices, not str`)
  const value = args.get(rt, name)
  if (value === undefined) throw new PythonError('KeyError', rt.repr(name))
  return value
}

function convert(rt: Runtime, conversion: Conversion, argument: () => Value, text: (value: Value) => string): string {
  const { type, precision } = conversion
  if (type === undefined) throw valueError('incomplete format')
  if (precision !== undefined && precision > MAX_PRECISION && type !== 's') {
    throw valueError(`a precision above ${MAX_PRECISION}`)
  }
  switch (type) {
    case 's':
      return padded(rt, '', cut(rt, text(argument()), precision), conversion, false)
    case 'r':
      return padded(rt, '', cut(rt, rt.repr(argument()), precision), conversion, false)
    case 'a':
      return padded(rt, '', cut(rt, asciiRepr(rt, argument()), precision), conversion, false)
    case 'c':
      return padded(rt, '', character(argument()), conversion, false)
    case 'd':
    case 'i':
    case 'u':
    case 'o':
    case 'x':
    case 'X':
      return integer(rt, argument(), conversion)
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      return float(rt, argument(), conversion)
    default:
      argument()
      throw valueError(`unsupported format character ${JSON.stringify(type)}`)
  }
}

function cut(rt: Runtime, text: string, precision: number | undefined): string {
  return precision === undefined ? text : text.slice(0, unitIndex(rt, text, precision))
}

/** As Python's ascii(). */
export function asciiRepr(rt: Runtime, value: Value): string {
  const text = rt.repr(value)
  rt.budget.text(text.length * 4)
  return text.replace(/[^\0-\x7f]/gu, (char) => hexEscape(char.codePointAt(0) ?? 0))
}

function character(value: Value): string {
  const text = textOf(value)
  if (text !== undefined && [...text.slice(0, 3)].length === 1) return text
  const code = intOf(value)
  if (code === undefined) throw typeError('%c requires int or char')
  if (code < 0 || code > 0x10ffff) throw new PythonError('OverflowError', '%c arg not in range(0x110000)')
  return String.fromCodePoint(Number(code))
}

function padded(rt: Runtime, sign: string, digits: string, { flags, width }: Conversion, numeric: boolean): string {
  const missing = Math.max(0, width - sign.length - codePointCount(rt, digits))
  rt.budget.text(missing + digits.length)
  if (flags.includes('-')) return sign + digits + ' '.repeat(missing)
  if (numeric && flags.includes('0')) return sign + '0'.repeat(missing) + digits
  return ' '.repeat(missing) + sign + digits
}

function signOf(negative: boolean, flags: string): string {
  if (negative) return '-'
  return flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : ''
}

function integer(rt: Runtime, value: Value, conversion: Conversion): string {
  const { type, flags, precision = 0 } = conversion
  const int = wholeNumber(value, type)
  const size = int < 0 ? -int : int
  const radix = type === 'o' ? 8 : type === 'x' || type === 'X' ? 16 : undefined
  const lower = (radix === undefined ? intText(size) : size.toString(radix)).padStart(precision, '0')
  const digits = type === 'X' ? lower.toUpperCase() : lower
  const prefix = flags.includes('#') && radix !== undefined ? `0${type}` : ''
  return padded(rt, signOf(int < 0, flags) + prefix, digits, conversion, true)
}

function wholeNumber(value: Value, type: string): Int {
  const int = intOf(value)
  if (int !== undefined) return int
  const isDecimal = type === 'd' || type === 'i' || type === 'u'
  if (value instanceof Undefined && isDecimal) throw value.fault()
  if (value instanceof Float && isDecimal) return truncated(value.value)
  throw typeError(`%${type} format: ${isDecimal ? 'a real number' : 'an integer'} is required, not ${typeName(value)}`)
}

function float(rt: Runtime, value: Value, conversion: Conversion): string {
  const { type, flags, precision = 6 } = conversion
  const numeric = numericOf(value)
  if (value instanceof Undefined) throw value.fault()
  if (numeric === undefined) throw typeError(`must be real number, not ${typeName(value)}`)
  const double = toDouble(numeric)
  rt.budget.walk(precision + 350)
  const style = type.toLowerCase() as 'e' | 'f' | 'g'
  const digits = floatDigits(double, { type: style, precision, upper: type !== style, alternate: flags.includes('#') })
  const finite = Number.isFinite(double)
  return padded(rt, signOf(double < 0 || Object.is(double, -0), flags), digits, conversion, finite)
}
