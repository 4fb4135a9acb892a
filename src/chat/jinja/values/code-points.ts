import type { Runtime } from './values'

const SURROGATE = /[\ud800-\udfff]/

/** Whether all characters are single UTF-16 units, so that JavaScript and Python indices agree. */
export function isFlat(rt: Runtime, text: string): boolean {
  rt.budget.scan(text.length)
  return !SURROGATE.test(text)
}

/** `len(text)`: code points. */
export function codePointCount(rt: Runtime, text: string): number {
  if (isFlat(rt, text)) return text.length
  rt.budget.walk(text.length)
  let count = 0
  for (const _ of text) count++
  return count
}

/** The characters of a text. */
export function codePoints(rt: Runtime, text: string): string[] {
  rt.budget.items(text.length * 2)
  return isFlat(rt, text) ? text.split('') : Array.from(text)
}

/** The UTF-16 index of the code point with this index. */
export function unitIndex(rt: Runtime, text: string, index: number): number {
  if (isFlat(rt, text)) return index
  rt.budget.walk(text.length)
  let at = 0
  for (let passed = 0; passed < index && at < text.length; passed++) {
    at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1
  }
  return at
}

/** The code-point index of a UTF-16 index. */
export function codePointIndex(rt: Runtime, text: string, unit: number): number {
  return isFlat(rt, text) ? unit : codePointCount(rt, text.slice(0, unit))
}
