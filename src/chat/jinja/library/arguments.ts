import { typeError } from '../errors'
import { intOf } from '../values/numbers'
import { clamped } from '../values/slices'
import { type Named, type Runtime, textOf, typeName, Undefined, type Value } from '../values/values'

/** A method of a built-in type. */
export type Method = (rt: Runtime, self: Value, args: readonly Value[], named: Named) => Value

/** Parameters of a built-in function by name; those after `required` are optional. */
export interface Parameters {
  readonly names: readonly string[]
  readonly required: number
  /** Positional-only parameters. */
  readonly positionalOnly: number
}

/** `'old new [count]'`: optional parameters in brackets; those before a `/` are positional-only. */
export function parameters(text: string): Parameters {
  const words = text === '' ? [] : text.split(' ')
  const slash = words.indexOf('/')
  const names = words.filter((word) => word !== '/').map((word) => word.replace(/[[\]]/g, ''))
  const required = words.filter((word) => word !== '/' && !word.startsWith('[')).length
  return { names, required, positionalOnly: Math.max(0, slash) }
}

/**
 * Binds the arguments of a call to the parameters, in their order; undefined for missing ones.
 * @throws PythonError TypeError
 */
export function bind(
  what: string,
  { names, required, positionalOnly }: Parameters,
  args: readonly Value[],
  named: Named,
): readonly (Value | undefined)[] {
  if (args.length > names.length) {
    throw typeError(`${what} takes at most ${names.length} arguments (${args.length} given)`)
  }
  if (named === undefined || named.size === 0) {
    if (args.length < required) throw typeError(`${what} is missing the argument '${names[args.length]}'`)
    return args
  }
  const bound: (Value | undefined)[] = [...args]
  for (const [name, value] of named) {
    const index = names.indexOf(name)
    if (index < positionalOnly) throw typeError(`${what} got an unexpected keyword argument '${name}'`)
    if (bound[index] !== undefined) throw typeError(`${what} got multiple values for argument '${name}'`)
    bound[index] = value
  }
  for (let index = 0; index < required; index++) {
    if (bound[index] === undefined) throw typeError(`${what} is missing the argument '${names[index]}'`)
  }
  return bound
}

/** An argument that must be a str. @throws PythonError TypeError */
export function textArgument(value: Value | undefined, what: string): string {
  const text = value === undefined ? undefined : textOf(value)
  if (text === undefined) throw typeError(`${what} must be str, not ${typeName(value ?? null)}`)
  return text
}

/** An argument that must be an int, as an index or count. @throws PythonError TypeError */
export function countArgument(value: Value | undefined, otherwise: number): number {
  if (value === undefined) return otherwise
  const int = intOf(value)
  if (int !== undefined) return clamped(int)
  if (value instanceof Undefined) throw value.fault()
  throw typeError(`'${typeName(value)}' object cannot be interpreted as an integer`)
}
