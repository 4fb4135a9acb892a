import { PythonError, typeError } from '../errors'
import { percentFormat } from '../formats/percent-format'
import type { BinaryOperator } from '../language/syntax'
import {
  addNumbers,
  bitLength,
  divideNumbers,
  divideWithRemainder,
  intOf,
  multiplyNumbers,
  type Numeric,
  negated,
  numericOf,
  powerOf,
} from '../values/numbers'
import { escaped } from '../values/repr'
import { clamped, fitsIndex } from '../values/slices'
import type { Runtime } from '../values/values'
import { Float, Markup, sequenceItems, Tuple, textOf, typeName, Undefined, type Value } from '../values/values'

/** The value of `a operator b`. @throws PythonError */
export function binary(rt: Runtime, operator: BinaryOperator, a: Value, b: Value): Value {
  const left = numericOf(a)
  const right = numericOf(b)
  if (left !== undefined && right !== undefined) return arithmetic(rt, operator, left, right)
  const text = textOf(a)
  if (operator === '%' && text !== undefined) return formatted(rt, a, text, b)
  if (a instanceof Undefined) throw a.fault()
  if (b instanceof Undefined) throw b.fault()
  const result = operator === '+' ? added(rt, a, b) : operator === '*' ? repeated(rt, a, b) : undefined
  if (result !== undefined) return result
  throw typeError(`unsupported operand type(s) for ${operator}: '${typeName(a)}' and '${typeName(b)}'`)
}

function arithmetic(rt: Runtime, operator: BinaryOperator, a: Numeric, b: Numeric): Numeric {
  if (typeof a === 'bigint' || typeof b === 'bigint') chargeBig(rt, a, b)
  switch (operator) {
    case '+':
      return addNumbers(a, b)
    case '-':
      return addNumbers(a, negated(b))
    case '*':
      return multiplyNumbers(a, b)
    case '/':
      return divideNumbers(a, b)
    case '//':
      return divideWithRemainder(a, b).quotient
    case '%':
      return divideWithRemainder(a, b).rest
    case '**': {
      rt.budget.step()
      const power = powerOf(a, b)
      if (typeof power === 'bigint') chargeBig(rt, power, power)
      return power
    }
  }
}

/** Multiplying and dividing long ints costs up to the product of their lengths. */
function chargeBig(rt: Runtime, a: Numeric, b: Numeric): void {
  const words = (value: Numeric) => (value instanceof Float ? 1 : Math.ceil(bitLength(value) / 64) + 1)
  const [x, y] = [words(a), words(b)]
  rt.budget.step((x * y) / 16)
  rt.budget.text((x + y) * 8)
}

function formatted(rt: Runtime, a: Value, text: string, b: Value): Value {
  if (!(a instanceof Markup)) return percentFormat(rt, text, b)
  return new Markup(percentFormat(rt, text, b, (value) => escaped(rt, value)))
}

function added(rt: Runtime, a: Value, b: Value): Value | undefined {
  const [left, right] = [textOf(a), textOf(b)]
  if (left !== undefined && right !== undefined) {
    rt.budget.text(left.length + right.length)
    if (a instanceof Markup || b instanceof Markup) return new Markup(escaped(rt, a) + escaped(rt, b))
    return left + right
  }
  const [items, others] = [sequenceItems(a), sequenceItems(b)]
  if (!items || !others || Array.isArray(a) !== Array.isArray(b)) return undefined
  rt.budget.items(items.length + others.length)
  const all = items.concat(others)
  return Array.isArray(a) ? all : new Tuple(all)
}

function repeated(rt: Runtime, a: Value, b: Value): Value | undefined {
  const count = intOf(b)
  if (count === undefined) return intOf(a) === undefined ? undefined : repeated(rt, b, a)
  const times = Math.max(0, clamped(count))
  const text = textOf(a)
  const items = text === undefined ? sequenceItems(a) : undefined
  if (text === undefined && !items) return undefined
  if (!fitsIndex(count)) throw new PythonError('OverflowError', "cannot fit 'int' into an index-sized integer")
  if (text !== undefined) {
    rt.budget.text(text.length * times)
    const long = text.repeat(text === '' ? 0 : times)
    return a instanceof Markup ? new Markup(long) : long
  }
  if (!items) return undefined
  rt.budget.items(items.length * times)
  const all: Value[] = []
  if (items.length > 0) for (let round = 0; round < times; round++) for (const item of items) all.push(item)
  return Array.isArray(a) ? all : new Tuple(all)
}

/** `-value`. @throws PythonError */
export function negative(value: Value): Value {
  return negated(operand('-', value))
}

/** `+value`. @throws PythonError */
export function positive(value: Value): Value {
  return operand('+', value)
}

function operand(sign: string, value: Value): Numeric {
  if (value instanceof Undefined) throw value.fault()
  const number = numericOf(value)
  if (number === undefined) throw typeError(`bad operand type for unary ${sign}: '${typeName(value)}'`)
  return number
}
