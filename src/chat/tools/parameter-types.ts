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

/** References and alternatives inside each other: more than any schema of arguments needs. */
const MAX_DEPTH = 16

/** The parameters of a function. */
export class ParameterTypes {
  readonly #schema: unknown
  readonly #properties: Readonly<Record<string, unknown>> | undefined

  /** @param schema of the arguments, an object; undefined if it is not known */
  constructor(schema: unknown) {
    this.#schema = schema
    const properties = isRecord(schema) ? resolved(schema, schema, 0).properties : undefined
    this.#properties = isRecord(properties) ? properties : undefined
  }

  /** Whether there is a parameter of this name, as far as the schema tells. */
  has(name: string): boolean {
    return this.#properties === undefined || Object.hasOwn(this.#properties, name)
  }

  /** Text, if the schema does not say. */
  of(name: string): ParameterType {
    if (this.#properties === undefined || !Object.hasOwn(this.#properties, name)) return TEXT
    const types = typesOf(this.#properties[name], this.#schema, 0)
    const type = types.find((other) => other !== 'null') ?? types[0] ?? 'string'
    return { type, isNullable: types.includes('null') }
  }
}

function typesOf(schema: unknown, root: unknown, depth: number): JsonType[] {
  if (!isRecord(schema) || depth > MAX_DEPTH) return []
  const own = resolved(schema, root, depth)
  const listed = [own.type].flat().filter((type): type is JsonType => TYPES.has(type))
  if (listed.length > 0) return listed
  const alternatives = [own.anyOf, own.oneOf, own.allOf].find(Array.isArray) ?? []
  if (alternatives.length > 0) return alternatives.flatMap((inner) => typesOf(inner, root, depth + 1))
  const values = Array.isArray(own.enum) ? own.enum : 'const' in own ? [own.const] : []
  if (values.length > 0) return values.map(typeOfValue)
  if (isRecord(own.properties)) return ['object']
  return 'items' in own ? ['array'] : []
}

/** What a local reference (`#/$defs/city`) stands for. */
function resolved(schema: Record<string, unknown>, root: unknown, depth: number): Record<string, unknown> {
  const { $ref: reference } = schema
  if (typeof reference !== 'string' || !reference.startsWith('#/') || depth > MAX_DEPTH) return schema
  let found = root
  for (const part of reference.slice(2).split('/')) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    found = isRecord(found) && Object.hasOwn(found, key) ? found[key] : undefined
  }
  return isRecord(found) ? resolved(found, root, depth + 1) : schema
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
