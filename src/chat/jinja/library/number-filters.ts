import { PythonError, typeError, valueError } from '../errors'
import { negative } from '../evaluate/operators'
import { stripped } from '../values/characters'
import { truth } from '../values/compare'
import {
  type Int,
  type Numeric,
  numericOf,
  parsePythonFloat,
  parsePythonInt,
  roundFloat,
  roundInt,
  toDouble,
  truncated,
} from '../values/numbers'
import type { Runtime } from '../values/values'
import { Float, textOf, typeName, Undefined, type Value } from '../values/values'
import { countArgument, textArgument } from './arguments'
import { argumentError, type Filter, filter } from './filter'

function number(value: Value, what: string): Numeric {
  if (value instanceof Undefined) throw value.fault()
  const numeric = numericOf(value)
  if (numeric === undefined) throw typeError(`${what}, not '${typeName(value)}'`)
  return numeric
}

/** `float(value)`. @throws PythonError */
function toFloat(value: Value): number {
  const text = textOf(value)
  if (text !== undefined) return parsePythonFloat(stripped(text, undefined, true, true))
  return toDouble(number(value, 'float() argument must be a string or a real number'))
}

/** `int(value)`. @throws PythonError */
function toInt(value: Value): Int {
  const numeric = number(value, 'int() argument must be a string or a real number')
  return numeric instanceof Float ? truncated(numeric.value) : numeric
}

function intFilter(rt: Runtime, value: Value, otherwise: Value, base: Value): Value {
  const text = textOf(value)
  rt.budget.walk(text?.length ?? 0)
  try {
    return text === undefined
      ? toInt(value)
      : parsePythonInt(stripped(text, undefined, true, true), countArgument(base, 10))
  } catch (error) {
    if (!PythonError.is(error, 'TypeError', 'ValueError')) throw error
  }
  try {
    return truncated(toFloat(value))
  } catch (error) {
    if (!PythonError.is(error, 'TypeError', 'ValueError', 'OverflowError')) throw error
    return otherwise
  }
}

function rounded(value: Value, precision: Value, method: Value): Value {
  const digits = countArgument(precision, 0)
  const how = textArgument(method, 'method')
  if (!['common', 'ceil', 'floor'].includes(how)) throw argumentError('method must be common, ceil or floor')
  if (value instanceof Undefined && how === 'common') throw typeError("type Undefined doesn't define __round__ method")
  const numeric = number(value, 'a number is required')
  if (how === 'common') {
    return numeric instanceof Float ? new Float(roundFloat(numeric.value, digits)) : roundInt(numeric, digits)
  }
  if (Math.abs(digits) > 300) throw valueError('a precision beyond 300 digits')
  const scale = 10 ** digits
  const scaled = toDouble(numeric) * scale
  const whole = truncated(how === 'ceil' ? Math.ceil(scaled) : Math.floor(scaled))
  return new Float(Number(whole) / scale)
}

const SIZES = ['B', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y']

function fileSize(bytes: number, binary: boolean): string {
  const base = binary ? 1024 : 1000
  if (bytes === 1) return '1 Byte'
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`
  let power = 1
  while (power < SIZES.length && bytes >= base ** (power + 1)) power++
  const letter = power === 1 ? (binary ? 'K' : 'k') : SIZES[power - 1]
  return `${(bytes / base ** power).toFixed(1)} ${letter}${binary ? 'iB' : 'B'}`
}

export const NUMBER_FILTERS: readonly [string, Filter][] = [
  filter('abs', '', (_rt, value) => {
    if (value instanceof Undefined) throw typeError("bad operand type for abs(): 'Undefined'")
    const numeric = number(value, 'bad operand type for abs()')
    if (numeric instanceof Float) return new Float(Math.abs(numeric.value))
    return numeric < 0 ? negative(numeric) : numeric
  }),
  filter('int', '[default] [base]', (rt, value, [otherwise = 0, base = 10]) => intFilter(rt, value, otherwise, base)),
  filter('float', '[default]', (rt, value, [otherwise = new Float(0)]) => {
    rt.budget.walk(textOf(value)?.length ?? 0)
    try {
      return new Float(toFloat(value))
    } catch (error) {
      if (!PythonError.is(error, 'TypeError', 'ValueError')) throw error
      return otherwise
    }
  }),
  filter('round', '[precision] [method]', (_rt, value, [precision = 0, method = 'common']) =>
    rounded(value, precision, method),
  ),
  filter('filesizeformat', '[binary]', (rt, value, [binary = false]) => fileSize(toFloat(value), truth(rt, binary))),
]
