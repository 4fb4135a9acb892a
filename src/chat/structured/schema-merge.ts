import { isDeepStrictEqual } from 'node:util'
import {
  assertions,
  at,
  hasType,
  type JsonType,
  type Located,
  type Schema,
  schemaError,
  typeOf,
  typesOf,
} from './schema-keywords'

/** What two schemas say together; false if they contradict each other. */
export function mergeSchemas(a: Located, b: Located): Located {
  const { path } = b
  if (a.schema === false || b.schema === false) return { schema: false, path }
  const merged: Record<string, unknown> = {}
  for (const keyword of new Set([...assertions(a.schema), ...assertions(b.schema)])) {
    const [own, other] = [a.schema[keyword], b.schema[keyword]]
    if (own === undefined || other === undefined || isDeepStrictEqual(own, other)) {
      merged[keyword] = own === undefined ? other : own
      continue
    }
    const merge = MERGES[keyword]
    if (!merge) throw schemaError(at(path, keyword), 'says something else than a schema it is combined with')
    merged[keyword] = merge(own, other)
  }
  const types =
    a.schema.type !== undefined && b.schema.type !== undefined ? commonTypes(typesOf(a), typesOf(b)) : undefined
  if (types?.length === 0) return { schema: false, path }
  if (types) merged.type = types
  forbidOthers(a.schema, b.schema, merged, path)
  forbidOthers(b.schema, a.schema, merged, path)
  return { schema: merged, path }
}

const both = (a: unknown, b: unknown) => ({ allOf: [a, b] })
const larger = (a: unknown, b: unknown) => Math.max(a as number, b as number)
const smaller = (a: unknown, b: unknown) => Math.min(a as number, b as number)

const MERGES: Readonly<Record<string, (a: unknown, b: unknown) => unknown>> = {
  type: (a) => a,
  required: (a, b) => [...new Set([a, b].flat())],
  properties: mergeProperties,
  items: both,
  allOf: (a, b) => [a, b].flat(),
  enum: (a, b) => (a as unknown[]).filter((value) => (b as unknown[]).some((other) => isDeepStrictEqual(value, other))),
  minimum: larger,
  exclusiveMinimum: larger,
  minLength: larger,
  minItems: larger,
  minProperties: larger,
  maximum: smaller,
  exclusiveMaximum: smaller,
  maxLength: smaller,
  maxItems: smaller,
  maxProperties: smaller,
}

function mergeProperties(a: unknown, b: unknown): Schema {
  const [own, others] = [a as Schema, b as Schema]
  const merged = { ...own }
  for (const [name, schema] of Object.entries(others)) {
    merged[name] = Object.hasOwn(own, name) ? both(own[name], schema) : schema
  }
  return merged
}

/** Where `schema` allows no other properties, those that only `other` knows must be absent. */
function forbidOthers(schema: Schema, other: Schema, merged: Record<string, unknown>, path: string): void {
  if (schema.additionalProperties === undefined || schema.additionalProperties === true) return
  const known = (schema.properties ?? {}) as Schema
  const unknown = Object.keys((other.properties ?? {}) as Schema).filter((name) => !Object.hasOwn(known, name))
  if (unknown.length === 0) return
  if (schema.additionalProperties !== false) {
    throw schemaError(
      at(path, 'additionalProperties'),
      'is combined with a schema of other properties, which is not supported',
    )
  }
  merged.properties = { ...(merged.properties as Schema), ...Object.fromEntries(unknown.map((name) => [name, false])) }
}

function commonTypes(a: readonly JsonType[], b: readonly JsonType[]): JsonType[] {
  const has = (types: readonly JsonType[], type: JsonType) =>
    types.includes(type) || (type === 'integer' && types.includes('number'))
  return [...new Set([...a.filter((type) => has(b, type)), ...b.filter((type) => has(a, type))])]
}

/** Whether no value matches both; false if that is not obvious. Both are resolved. */
export function areDisjoint(a: Located, b: Located, resolve: (schema: Located) => Located): boolean {
  if (a.schema === false || b.schema === false) return true
  const [own, others] = [valuesOf(a.schema), valuesOf(b.schema)]
  if (own && others) return !own.some((value) => others.some((other) => isDeepStrictEqual(value, other)))
  if (own) return b.schema.type !== undefined && !own.some((value) => hasType(value, typesOf(b)))
  if (others) return a.schema.type !== undefined && !others.some((value) => hasType(value, typesOf(a)))
  if (a.schema.type === undefined || b.schema.type === undefined) return false
  const common = commonTypes(typesOf(a), typesOf(b))
  if (common.length === 0) return true
  return common.length === 1 && common[0] === 'object' && haveDisjointProperty(a, b, resolve)
}

/** Whether a property that both require tells them apart, as one that names the kind does. */
function haveDisjointProperty(a: Located, b: Located, resolve: (schema: Located) => Located): boolean {
  const [own, others] = [a.schema as Schema, b.schema as Schema]
  const required = [own.required].flat().filter((name) => [others.required].flat().includes(name)) as string[]
  return required.some((name) => {
    const [property, other] = [own, others].map((schema, i) => {
      const properties = (schema.properties ?? {}) as Schema
      const value = Object.hasOwn(properties, name) ? properties[name] : undefined
      if (typeOf(value) !== 'object') return undefined
      return valuesOf(
        resolve({ schema: value as Schema, path: at([a, b][i]?.path as string, 'properties', name) }).schema,
      )
    })
    return property && other && !property.some((value) => other.some((more) => isDeepStrictEqual(value, more)))
  })
}

/** The values of `const` and `enum`; undefined without them. */
export function valuesOf(schema: Schema | false): readonly unknown[] | undefined {
  if (schema === false) return []
  const listed = Array.isArray(schema.enum) ? (schema.enum as unknown[]) : undefined
  if (!Object.hasOwn(schema, 'const')) return listed
  const constant = schema.const
  return listed === undefined || listed.some((value) => isDeepStrictEqual(value, constant)) ? [constant] : []
}
