import { BillfishError } from '../../common/errors'

/** A schema that is not `true` or `false`. */
export type Schema = Readonly<Record<string, unknown>>

/** A schema and where it stands in the document, as a JSON pointer. */
export interface Located {
  readonly schema: Schema | false
  readonly path: string
}

export type JsonType = 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null'

const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'example', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly', 'contentEncoding', 'contentMediaType', 'contentSchema'],
])

/** What a keyword is about; the others hold for any type. */
const TYPE_OF_KEYWORD: Readonly<Record<string, JsonType>> = {
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  minProperties: 'object',
  maxProperties: 'object',
  items: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
  uniqueItems: 'array',
  minLength: 'string',
  maxLength: 'string',
  pattern: 'string',
  format: 'string',
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
  multipleOf: 'number',
}

const GENERAL: ReadonlySet<string> = new Set(['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref'])
const TYPES: readonly JsonType[] = ['object', 'array', 'string', 'number', 'boolean', 'null']

export function schemaError(path: string, what: string): BillfishError {
  return new BillfishError('INVALID_OPTION', `${path} of the schema ${what}`)
}

/** @throws BillfishError INVALID_OPTION naming the keyword and its place */
export function readSchema(value: unknown, path: string): Located {
  if (value === true) return { schema: {}, path }
  if (value === false) return { schema: false, path }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw schemaError(path, 'must be an object, true or false')
  }
  const schema = value as Schema
  for (const keyword of Object.keys(schema)) {
    if (ANNOTATIONS.has(keyword) || GENERAL.has(keyword) || Object.hasOwn(TYPE_OF_KEYWORD, keyword)) continue
    throw schemaError(at(path, keyword), 'is a keyword that is not supported; leave it out and check the answer for it')
  }
  if (schema.enum !== undefined && !Array.isArray(schema.enum)) throw schemaError(at(path, 'enum'), 'must be an array')
  if (schema.$id !== undefined && path !== '#') throw schemaError(at(path, '$id'), 'is not supported: only # has one')
  return { schema, path }
}

/** The pointer of a member. */
export function at(path: string, ...keys: readonly (string | number)[]): string {
  return [path, ...keys.map((key) => String(key).replaceAll('~', '~0').replaceAll('/', '~1'))].join('/')
}

/** Keywords that restrict the value. */
export function assertions(schema: Schema): string[] {
  return Object.keys(schema).filter((keyword) => !ANNOTATIONS.has(keyword))
}

export function without(schema: Schema, ...keywords: readonly string[]): Schema {
  return Object.fromEntries(Object.entries(schema).filter(([keyword]) => !keywords.includes(keyword)))
}

/**
 * The types that a schema allows. One that names none allows all to whom its keywords do not apply; then only those to
 * which they do are written, as its author means.
 */
export function typesOf({ schema, path }: Located): JsonType[] {
  if (schema === false) return []
  const { type } = schema
  if (type === undefined) {
    const implied = new Set(Object.keys(schema).flatMap((keyword) => TYPE_OF_KEYWORD[keyword] ?? []))
    return implied.size > 0 ? [...implied] : [...TYPES]
  }
  const given = [type].flat()
  const unknown = given.find((name) => name !== 'integer' && !TYPES.includes(name as JsonType))
  if (unknown !== undefined || given.length === 0) {
    throw schemaError(at(path, 'type'), `must be one of ${TYPES.join(', ')} and integer, or a list of these`)
  }
  const types = new Set(given as JsonType[])
  if (types.has('number')) types.delete('integer')
  return [...types]
}

/** @throws BillfishError INVALID_OPTION for what is no whole number from 0 to `most` */
export function count(
  { schema, path }: { schema: Schema; path: string },
  keyword: string,
  most: number,
): number | undefined {
  const value = schema[keyword]
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most) return value
  throw schemaError(at(path, keyword), `must be a whole number from 0 to ${most}`)
}

export function list(
  { schema, path }: { schema: Schema; path: string },
  keyword: string,
): readonly unknown[] | undefined {
  const value = schema[keyword]
  if (value === undefined) return undefined
  if (!Array.isArray(value)) throw schemaError(at(path, keyword), 'must be an array')
  return value
}

export function typeOf(value: unknown): JsonType {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value as JsonType
}

export function hasType(value: unknown, types: readonly JsonType[]): boolean {
  return types.includes(typeOf(value)) || (Number.isInteger(value) && types.includes('integer'))
}
