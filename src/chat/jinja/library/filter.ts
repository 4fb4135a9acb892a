import { PythonError } from '../errors'
import type { Runtime } from '../values/values'
import { type Named, textOf, Undefined, type Value } from '../values/values'
import { bind, parameters } from './arguments'

/** A filter, as after `|`. */
export type Filter = (rt: Runtime, value: Value, args: readonly Value[], named: Named) => Value

/** A filter with the parameters of `signature`. */
export function filter(
  name: string,
  signature: string,
  work: (rt: Runtime, value: Value, args: readonly (Value | undefined)[]) => Value,
): [string, Filter] {
  const names = parameters(signature)
  return [name, (rt, value, args, named) => work(rt, value, bind(`the filter '${name}'`, names, args, named))]
}

export function argumentError(message: string): PythonError {
  return new PythonError('FilterArgumentError', message)
}

/** `str(value)`, the first step of text filters. Markup is kept. */
export function softText(rt: Runtime, value: Value): string {
  return textOf(value) ?? rt.str(value)
}

/** Case-folds text for comparison; other values are unchanged. */
export function ignoreCase(value: Value): Value {
  return textOf(value)?.toLowerCase() ?? value
}

export interface GetterOptions {
  readonly ignoresCase?: boolean
  /** Replaces undefined values; null for no replacement. */
  readonly otherwise?: Value | undefined
}

/** Follows a path such as `function.name` or `0.id`; without a path, the identity. */
export function getter(rt: Runtime, attribute: Value | undefined, options: GetterOptions = {}): (item: Value) => Value {
  const path = pathOf(attribute ?? null)
  const { ignoresCase = false, otherwise = null } = options
  return (item) => {
    let value = item
    for (const key of path) {
      rt.budget.step()
      value = rt.item(value, key)
      if (otherwise !== null && value instanceof Undefined) value = otherwise
    }
    if (!ignoresCase) return value
    rt.budget.walk(textOf(value)?.length ?? 0)
    return ignoreCase(value)
  }
}

/** Several comma-separated paths: their values as a list. */
export function multiGetter(rt: Runtime, attribute: Value | undefined, ignoresCase: boolean): (item: Value) => Value {
  const text = textOf(attribute ?? null)
  const paths: (Value | undefined)[] = text === undefined ? [attribute] : text.split(',')
  const getters = paths.map((path) => getter(rt, path, { ignoresCase }))
  return (item) => {
    rt.budget.items(getters.length)
    return getters.map((get) => get(item))
  }
}

function pathOf(attribute: Value): Value[] {
  if (attribute === null) return []
  const text = textOf(attribute)
  if (text === undefined) return [attribute]
  return text.split('.').map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : part))
}
