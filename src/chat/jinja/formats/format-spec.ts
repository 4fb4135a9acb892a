import { PythonError, typeError, valueError } from '../errors'
import { codePointCount, unitIndex } from '../values/code-points'
import { type Int, intOf, intText, toDouble } from '../values/numbers'
import type { Runtime } from '../values/values'
import { Float, textOf, typeName, type Value } from '../values/values'
import { type FloatStyle, floatDigits, grouped, MAX_PRECISION } from './float-format'

interface Spec {
  readonly fill: string
  readonly align: string | undefined
  readonly sign: string
  /** `z`: no minus sign for values that round to zero. */
  readonly noNegativeZero: boolean
  readonly alternate: boolean
  readonly width: number
  readonly grouping: string
  readonly precision: number | undefined
  readonly type: string
}

const SPEC = /^(?:([\s\S])?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d{1,9})?([,_])?(?:\.(\d{1,9}))?([bcdeEfFgGnosxX%])?$/u

/** `format(value, spec)`. @throws PythonError */
export function formatValue(rt: Runtime, value: Value, spec: string): string {
  const text = textOf(value)
  if (spec === '') return text ?? rt.str(value)
  const int = intOf(value)
  if (text === undefined && int === undefined && !(value instanceof Float)) {
    throw typeError(`unsupported format string passed to ${typeName(value)}.__format__`)
  }
  const parsed = parse(spec)
  if (text !== undefined) return formatText(rt, text, parsed)
  return value instanceof Float ? formatFloat(rt, value.value, parsed) : formatInt(rt, int as Int, parsed)
}

/** @throws PythonError ValueError */
function parse(spec: string): Spec {
  const match = SPEC.exec(spec)
  if (!match) throw valueError(`invalid format specifier ${JSON.stringify(spec.slice(0, 100))}`)
  const [, fill, align, sign, noNegativeZero, alternate, zero, width, grouping, precision, type] = match
  return {
    fill: fill ?? (zero && !align ? '0' : ' '),
    align: align ?? (zero ? '=' : undefined),
    sign: sign ?? '',
    noNegativeZero: noNegativeZero !== undefined,
    alternate: alternate !== undefined,
    width: Number(width ?? 0),
    grouping: grouping ?? '',
    precision: precision === undefined ? undefined : Number(precision),
    type: type ?? '',
  }
}

function unknownCode({ type }: Spec, of: string): Error {
  return valueError(`unknown format code '${type}' for object of type '${of}'`)
}

function formatText(rt: Runtime, text: string, spec: Spec): string {
  if (spec.type !== '' && spec.type !== 's') throw unknownCode(spec, 'str')
  if (spec.sign !== '' || spec.alternate || spec.noNegativeZero || spec.grouping !== '')
    throw valueError('not allowed in string format specifier')
  if (spec.align === '=' && spec.fill !== '0') throw valueError("'=' alignment not allowed in string format specifier")
  const cut = spec.precision === undefined ? text : text.slice(0, unitIndex(rt, text, spec.precision))
  return padded(rt, cut, spec, spec.align === '=' ? '<' : (spec.align ?? '<'))
}

/** Fills a text up to the width. */
function padded(rt: Runtime, text: string, { fill, width }: Spec, align: string): string {
  const missing = Math.max(0, width - codePointCount(rt, text))
  rt.budget.text(text.length + missing * fill.length)
  const left = align === '<' ? 0 : align === '^' ? Math.floor(missing / 2) : missing
  return fill.repeat(left) + text + fill.repeat(missing - left)
}

function signOf(negative: boolean, { sign }: Spec): string {
  return negative ? '-' : sign === '-' ? '' : sign
}

/** Pads a number: the fill goes before the sign, or between sign and digits. */
function paddedNumber(rt: Runtime, sign: string, digits: string, spec: Spec): string {
  if (spec.align !== '=') return padded(rt, sign + digits, spec, spec.align ?? '>')
  return sign + padded(rt, digits, { ...spec, width: spec.width - sign.length }, '>')
}

/** Groups digits, including zeros that pad to the width. */
function groupedNumber(rt: Runtime, sign: string, digits: string, rest: string, spec: Spec, size = 3): string {
  if (spec.grouping === '') return paddedNumber(rt, sign, digits + rest, spec)
  let count = digits.length
  if (spec.align === '=' && spec.fill === '0') {
    const wanted = spec.width - sign.length - rest.length
    rt.budget.text(Math.max(0, wanted))
    count = Math.max(count, wanted - Math.floor((wanted - 1) / (size + 1)))
  }
  const text = grouped(digits.padStart(count, '0'), spec.grouping, size)
  return paddedNumber(rt, sign, text + rest, spec)
}

const RADIX: Readonly<Record<string, number>> = { b: 2, o: 8, x: 16, X: 16 }

function formatInt(rt: Runtime, value: Int, spec: Spec): string {
  const { type } = spec
  if (type !== '' && 'eEfFgG%'.includes(type)) return formatFloat(rt, toDouble(value), spec)
  if (spec.precision !== undefined) throw valueError('precision not allowed in integer format specifier')
  if (spec.noNegativeZero) throw valueError('negative zero coercion (z) not allowed in integer format specifier')
  if (type === 'c') {
    if (value < 0 || value > 0x10ffff) throw new PythonError('OverflowError', '%c arg not in range(0x110000)')
    return padded(rt, String.fromCodePoint(Number(value)), spec, spec.align ?? '<')
  }
  const radix = RADIX[type]
  if (radix === undefined && type !== '' && type !== 'd' && type !== 'n') throw unknownCode(spec, 'int')
  const size = value < 0 ? -value : value
  const plain = radix === undefined ? intText(size) : size.toString(radix)
  if (radix !== undefined && spec.grouping === ',') throw valueError(`cannot specify ',' with '${type}'`)
  const prefix = radix !== undefined && spec.alternate ? `0${type}` : ''
  const digits = type === 'X' ? plain.toUpperCase() : plain
  return groupedNumber(rt, signOf(value < 0, spec) + prefix, digits, '', spec, radix === undefined ? 3 : 4)
}

function formatFloat(rt: Runtime, value: number, spec: Spec): string {
  const { type } = spec
  if (type !== '' && !'eEfFgGn%'.includes(type)) throw unknownCode(spec, 'float')
  const precision = spec.precision ?? 6
  if (precision > MAX_PRECISION) throw valueError(`a precision above ${MAX_PRECISION}`)
  rt.budget.walk(precision + 350)
  const digits =
    type === '%'
      ? `${floatDigits(value * 100, { ...styleOf('f', precision, spec) })}%`
      : floatDigits(value, styleOf(type, precision, spec))
  const isZero = spec.noNegativeZero && !/[1-9]/.test(digits.split('e')[0] ?? '')
  const negative = (value < 0 || Object.is(value, -0)) && !isZero
  const end = digits.search(/[^0-9]/)
  const whole = end < 0 ? digits : digits.slice(0, end)
  return groupedNumber(rt, signOf(negative, spec), whole, digits.slice(whole.length), spec)
}

function styleOf(type: string, precision: number, { alternate, precision: given }: Spec): FloatStyle {
  const upper = 'EFG'.includes(type) && type !== ''
  if (type === '') {
    return { type: given === undefined ? 'r' : 'n', precision, upper, alternate }
  }
  const lower = type.toLowerCase()
  return { type: lower === 'n' ? 'g' : (lower as 'e' | 'f' | 'g'), precision, upper, alternate }
}
