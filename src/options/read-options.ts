import type { z } from 'zod'
import { BillfishError } from '../common/errors'
import { invalidOption, printed } from './printed'
import { guarded, isRecord, memberNames, snapshot } from './snapshot'
import { noSuchOption } from './unknown-option'
import { isLive } from './values'

/** What each option may be. A schema's description ends the sentence "topP is 2, but must be ...". */
export type OptionSchemas<Options> = {
  readonly [Name in keyof Required<Options>]: z.ZodType<Exclude<Options[Name], undefined>>
}

/** The options of one entry point. */
export interface EntryPoint<Options> {
  /** As messages call it: `loadModel()`. */
  readonly of: string
  readonly schemas: OptionSchemas<Options>
  /** The mandatory ones. */
  readonly required: readonly (keyof Options & string)[]
}

/** The options of all entry points, to tell where a misplaced one belongs. */
const entryPoints: { readonly of: string; readonly names: readonly string[] }[] = []

/** Declares the options of an entry point. */
export function optionsOf<Options>(
  of: string,
  schemas: OptionSchemas<Options>,
  required: EntryPoint<Options>['required'] = [],
): EntryPoint<Options> {
  entryPoints.push({ of, names: Object.keys(schemas) })
  return { of, schemas, required }
}

/**
 * Reads a caller's options once. The result is a checked copy: plain data, apart from signals and callbacks. Undefined
 * options are omitted.
 * @param given whatever was passed
 * @param where its name in messages
 * @throws BillfishError INVALID_OPTION naming the option, its value and the allowed values, or for an unknown option the
 *   right name
 */
export function readOptions<Options>(entry: EntryPoint<Options>, given: unknown, where = 'options'): Options {
  const schemas = entry.schemas as Readonly<Record<string, z.ZodType>>
  if (given === undefined && entry.required.length === 0) return {} as Options
  if (!guarded(where, () => isRecord(given))) {
    throw new BillfishError('INVALID_OPTION', `${where} must be an object, not ${printed(given)}.`)
  }
  const names = guarded(where, () => memberNames(given as object))
  const options: Record<string, unknown> = {}
  // Also names that cannot be enumerated: a class may have its options as accessors.
  for (const name of new Set([...names, ...Object.keys(schemas)])) {
    const value = guarded(name, () => (given as Record<string, unknown>)[name])
    if (value === undefined) continue
    const schema = Object.hasOwn(schemas, name) ? schemas[name] : undefined
    if (schema === undefined) throw noSuchOption(name, entry.of, entryPoints)
    options[name] = isLive(schema) ? value : snapshot(value, name)
    const wrong = guarded(name, () => problemOf(schema, options[name], name, schema.description))
    if (wrong !== undefined) throw wrong
  }
  for (const name of entry.required) {
    if (options[name] !== undefined) continue
    throw new BillfishError('INVALID_OPTION', `${name} is missing; it must be ${schemas[name]?.description}.`)
  }
  return options as Options
}

/**
 * Checks a single value, such as a positional argument, like an option.
 * @returns the value, read once
 * @throws BillfishError INVALID_OPTION
 */
export function readValue<Value>(schema: z.ZodType<Value>, given: unknown, name: string): Value {
  const value = snapshot(given, name)
  const wrong = problemOf(schema, value, name, schema.description)
  if (wrong !== undefined) throw wrong
  return value as Value
}

/**
 * The error for an invalid value, for its innermost invalid member where possible; undefined if it is valid.
 * @param wanted what it must be; without it, the enclosing value says so
 */
function problemOf(
  schema: z.ZodType,
  value: unknown,
  name: string,
  wanted: string | undefined,
): BillfishError | undefined {
  if (schema.safeParse(value).success) return undefined
  const inside = problemInside(schema, value, name)
  if (inside !== undefined || wanted === undefined) return inside
  return invalidOption(name, value, wanted)
}

function problemInside(schema: z.ZodType, value: unknown, name: string): BillfishError | undefined {
  const { def } = (schema as unknown as z.core.$ZodTypes)._zod
  const member = (inner: z.core.$ZodType, of: unknown, path: string) =>
    problemOf(inner as z.ZodType, of, path, (inner as z.ZodType).description)
  switch (def.type) {
    case 'optional':
    case 'nullable':
      return member(def.innerType, value, name)
    case 'pipe':
      return problemInside(def.out as z.ZodType, value, name)
    case 'array':
      if (!Array.isArray(value)) return undefined
      return first(value.entries(), ([i, element]) => member(def.element, element, `${name}[${i}]`))
    case 'record':
      if (!isRecord(value)) return undefined
      return first(Object.entries(value), ([key, element]) => member(def.valueType, element, memberPath(name, key)))
    case 'object': {
      if (!isRecord(value)) return undefined
      const known = Object.keys(def.shape)
      const strict = def.catchall?._zod.def.type === 'never'
      const stranger = strict ? Object.keys(value).find((key) => !known.includes(key)) : undefined
      if (stranger !== undefined) {
        return noSuchOption(memberPath(name, stranger), name, [{ of: name, names: known }], stranger)
      }
      return first(Object.entries(def.shape), ([key, inner]) => member(inner, value[key], memberPath(name, key)))
    }
    case 'union':
      // An error of the intended alternative says more than that none of them matches.
      return first(def.options, (alternative) => problemInside(alternative as z.ZodType, value, name))
    default:
      return undefined
  }
}

function first<Item, Found>(items: Iterable<Item>, problem: (item: Item) => Found | undefined): Found | undefined {
  for (const item of items) {
    const found = problem(item)
    if (found !== undefined) return found
  }
  return undefined
}

function memberPath(name: string, member: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(member) ? `${name}.${member}` : `${name}[${printed(member)}]`
}
