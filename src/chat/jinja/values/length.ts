import { typeError } from '../errors'
import type { Runtime } from '../evaluate/runtime'
import { codePointCount } from './code-points'
import { textOf, typeName, type Value } from './values'

/** `len(value)`. @throws PythonError TypeError */
export function lengthOf(rt: Runtime, value: Value): number {
  const text = textOf(value)
  if (text !== undefined) return codePointCount(rt, text)
  if (Array.isArray(value)) return value.length
  const length = typeof value === 'object' && value !== null ? value.length(rt) : undefined
  if (length === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`)
  return length
}

/** `len(value)` where it costs nothing to find out; undefined where there is none, or it would take a walk. */
export function lengthIfKnown(rt: Runtime, value: Value): number | undefined {
  if (Array.isArray(value)) return undefined // which may grow while it is walked through
  return typeof value === 'object' && value !== null ? value.length(rt) : undefined
}
