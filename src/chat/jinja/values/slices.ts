import { typeError, valueError } from '../errors'
import { codePointCount, codePoints, isFlat, unitIndex } from './code-points'
import { Dict } from './dict'
import { type Int, intOf } from './numbers'
import { Range } from './range'
import { Markup, type Runtime, sequenceItems, Tuple, textOf, typeName, Undefined, type Value } from './values'

/** Converts an int to an index; oversized values are beyond every length. @throws PythonError TypeError */
function toIndex(value: Value, what = 'indices must be integers'): number {
  const index = intOf(value)
  if (index === undefined) throw typeError(`${what}, not ${typeName(value)}`)
  return clamped(index)
}

export function clamped(value: Int): number {
  if (typeof value === 'number') return value
  return value > 0n ? Number.MAX_SAFE_INTEGER : Number.MIN_SAFE_INTEGER
}

/** Whether an int is a valid index on a 64-bit machine. */
export function fitsIndex(value: Int): boolean {
  return typeof value === 'number' || BigInt.asIntN(64, value) === value
}

/** `value[index]` of a sequence or text; undefined if out of range or not indexable. */
export function itemAt(rt: Runtime, value: Value, index: Int): Value | undefined {
  const items = sequenceItems(value)
  const at = clamped(index)
  if (items) return items[at < 0 ? at + items.length : at]
  const text = textOf(value)
  if (text !== undefined) return characterAt(rt, text, at, value instanceof Markup)
  if (!(value instanceof Range)) return undefined
  const position = at < 0 ? at + value.count : at
  return position >= 0 && position < value.count ? value.at(position) : undefined
}

function characterAt(rt: Runtime, text: string, index: number, isMarkup: boolean): Value | undefined {
  const flat = isFlat(rt, text)
  const length = flat ? text.length : codePointCount(rt, text)
  const at = index < 0 ? index + length : index
  if (at < 0 || at >= length) return undefined
  const unit = flat ? at : unitIndex(rt, text, at)
  const character = String.fromCodePoint(text.codePointAt(unit) ?? 0)
  return isMarkup ? new Markup(character) : character
}

/** `value[start:stop:step]`, with null for omitted parts. @throws PythonError */
export function sliced(rt: Runtime, value: Value, start: Value, stop: Value, step: Value): Value {
  if (value instanceof Undefined) throw value.fault()
  if (value instanceof Dict) throw typeError("unhashable type: 'slice'")
  const text = textOf(value)
  const items = sequenceItems(value)
  if (text === undefined && !items && !(value instanceof Range)) {
    throw typeError(`'${typeName(value)}' object is not subscriptable`)
  }
  const stride = step === null ? 1 : toIndex(step, SLICE_INDICES)
  if (stride === 0) throw valueError('slice step cannot be zero')
  if (text !== undefined) {
    const part = slicedText(rt, text, start, stop, stride)
    return value instanceof Markup ? new Markup(part) : part
  }
  if (value instanceof Range) {
    const { from, to } = bounds(value.count, start, stop, stride)
    return value.slice(from, to, stride)
  }
  const part = taken(rt, items ?? [], start, stop, stride)
  return Array.isArray(value) ? part : new Tuple(part)
}

const SLICE_INDICES = 'slice indices must be integers or None'

function slicedText(rt: Runtime, text: string, start: Value, stop: Value, step: number): string {
  const flat = isFlat(rt, text)
  if (step !== 1) {
    const part = taken(rt, codePoints(rt, text), start, stop, step).join('')
    rt.budget.text(part.length)
    return part
  }
  const { from, count } = bounds(flat ? text.length : codePointCount(rt, text), start, stop, 1)
  const unit = flat ? from : unitIndex(rt, text, from)
  const end = flat ? from + count : unit + unitIndex(rt, text.slice(unit), count)
  rt.budget.text(end - unit)
  return text.slice(unit, end)
}

function taken<T>(rt: Runtime, items: readonly T[], start: Value, stop: Value, step: number): T[] {
  const { from, count } = bounds(items.length, start, stop, step)
  rt.budget.items(count)
  if (step === 1) return items.slice(from, from + count)
  return Array.from({ length: count }, (_, index) => items[from + index * step] as T)
}

/** Start and number of items of a slice. */
function bounds(length: number, start: Value, stop: Value, step: number): { from: number; to: number; count: number } {
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1]
  const bound = (value: Value, otherwise: number) => {
    if (value === null) return otherwise
    const index = toIndex(value, SLICE_INDICES)
    return Math.min(highest, Math.max(lowest, index < 0 ? index + length : index))
  }
  const from = bound(start, step > 0 ? lowest : highest)
  const to = bound(stop, step > 0 ? highest : lowest)
  return { from, to, count: Math.max(0, Math.ceil((to - from) / step)) }
}

/** `len(value)`. @throws PythonError TypeError */
export function lengthOf(rt: Runtime, value: Value): number {
  const text = textOf(value)
  if (text !== undefined) return codePointCount(rt, text)
  if (Array.isArray(value)) return value.length
  const length = typeof value === 'object' && value !== null ? value.length(rt) : undefined
  if (length === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`)
  return length
}

/** `len(value)` if it is cheap; undefined otherwise. */
export function lengthIfKnown(rt: Runtime, value: Value): number | undefined {
  if (Array.isArray(value)) return undefined // may grow during iteration
  return typeof value === 'object' && value !== null ? value.length(rt) : undefined
}
