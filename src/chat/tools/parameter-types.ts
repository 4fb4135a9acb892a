/** Types of a function's parameters, from its JSON schema, and values of these types from the text of models. */
import { isRecord } from '../../options/snapshot'
import { pythonToJson } from './python-literal'

type JsonType = 'string' | 'integer' | 'number' | 'boolean' | 'object' | 'array' | 'null'

export interface ParameterType {
  readonly type: JsonType
  /** Whether it may be null besides. */
  readonly isNullable: boolean
}

const TEXT: ParameterType = { type: 'string', isNullable: false }
const TYPES: ReadonlySet<unknown> = new Set<JsonType>([
  'string',
  'integer',
  'number',
  'boolean',
  'object',
  'array',
  'null',
])

/** The parameters of a function. */
export class ParameterTypes {
  readonly #schema: unknown
  readonly #properties: Readonly<Record<string, unknown>> | undefined

  /** @param schema of the arguments, an object; undefined if it is not known */
  constructor(schema: unknown) {
    this.#schema = schema
    const properties = isRecord(schema) ? resolved(schema, schema).properties : undefined
    this.#properties = isRecord(properties) ? properties : undefined
  }

  /** Whether there is a parameter of this name, as far as the schema tells. */
  has(name: string): boolean {
    return this.#properties === undefined || Object.hasOwn(this.#properties, name)
  }

  /** Text, if the schema does not say. */
  of(name: string): ParameterType {
    if (this.#properties === undefined || !Object.hasOwn(this.#properties, name)) return TEXT
    const types = typesOf(this.#properties[name], this.#schema)
    const type = types.find((other) => other !== 'null') ?? types[0] ?? 'string'
    return { type, isNullable: types.includes('null') }
  }
}

/** In the order of alternatives. Not recursive: a schema may be deep, refer to itself, and to another more than once. */
function typesOf(schema: unknown, root: unknown): JsonType[] {
  const types: JsonType[] = []
  const seen = new Set<unknown>()
  const pending = [schema]
  while (pending.length > 0) {
    const next = pending.pop()
    const own = isRecord(next) ? resolved(next, root) : undefined
    if (own === undefined || seen.has(own)) continue
    seen.add(own)
    const listed = ownTypes(own)
    for (const type of listed) types.push(type)
    if (listed.length > 0) continue
    const alternatives: readonly unknown[] = alternativesOf(own) ?? []
    for (let i = alternatives.length - 1; i >= 0; i--) pending.push(alternatives[i])
  }
  return types
}

/** What a schema says itself. */
function ownTypes(schema: Record<string, unknown>): JsonType[] {
  const listed = [schema.type].flat().filter((type): type is JsonType => TYPES.has(type))
  if (listed.length > 0 || alternativesOf(schema)?.length) return listed
  const values = Array.isArray(schema.enum) ? schema.enum : 'const' in schema ? [schema.const] : []
  if (values.length > 0) return values.map(typeOfValue)
  if (isRecord(schema.properties)) return ['object']
  return 'items' in schema ? ['array'] : []
}

function alternativesOf({ anyOf, oneOf, allOf }: Record<string, unknown>): unknown[] | undefined {
  return [anyOf, oneOf, allOf].find(Array.isArray)
}

/** What a local reference (`#/$defs/city`) stands for, in the end. */
function resolved(schema: Record<string, unknown>, root: unknown): Record<string, unknown> {
  const seen = new Set<unknown>()
  let found: unknown = schema
  while (isRecord(found) && typeof found.$ref === 'string' && found.$ref.startsWith('#/') && !seen.has(found)) {
    seen.add(found)
    found = memberAt(root, found.$ref.slice(2).split('/'))
  }
  return isRecord(found) ? found : schema
}

function memberAt(root: unknown, path: readonly string[]): unknown {
  let found = root
  for (const part of path) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    found = isRecord(found) && Object.hasOwn(found, key) ? found[key] : undefined
  }
  return found
}

function typeOfValue(value: unknown): JsonType {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'object') {
    return typeof value as 'boolean' | 'number' | 'object'
  }
  return 'string'
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/

/** The JSON of a value that a model wrote as plain text. What does not fit its type is a string: a call is never lost. */
export function jsonOfText(text: string, { type, isNullable }: ParameterType): string {
  const value = text.trim()
  const isNull = value === 'null' || value === 'None'
  if (isNull && (isNullable || type !== 'string')) return 'null'
  const json = type === 'string' ? undefined : jsonOfType(value, type)
  return json ?? JSON.stringify(text)
}

function jsonOfType(value: string, type: JsonType): string | undefined {
  switch (type) {
    case 'integer':
    case 'number':
      return NUMBER.test(value) ? value : undefined // as written: it may have more digits than a number holds
    case 'boolean':
      return /^(true|false)$/i.test(value) ? value.toLowerCase() : undefined
    case 'object':
      return value.startsWith('{') ? structure(value) : undefined
    case 'array':
      return value.startsWith('[') ? structure(value) : undefined
    default:
      return undefined
  }
}

function structure(value: string): string | undefined {
  return isJson(value) ? value : pythonToJson(value)
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
