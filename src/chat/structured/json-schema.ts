import type { CooperativeTask } from '../../common/event-loop'
import type { Rule } from './automaton'
import type { AutomatonBuilder, Part } from './automaton-builder'
import { type NumberLimits, numberWithin } from './json-numbers'
import { JsonText } from './json-text'
import {
  assertions,
  at,
  count,
  hasType,
  type JsonType,
  type Located,
  list,
  readSchema,
  type Schema,
  schemaError,
  typesOf,
  without,
} from './schema-keywords'
import { areDisjoint, mergeSchemas, valuesOf } from './schema-merge'
import { STRING_FORMATS } from './string-formats'
import { JsonStrings, type StringForm } from './string-forms'
import type { Range } from './utf8-ranges'

const MAX_ITEMS = 10_000
const MAX_STRING_LENGTH = 100_000
const MAX_VALUES = 10_000
const MAX_BRANCHES = 1000
/** References to references, and combinations of combinations. */
const MAX_RESOLUTIONS = 100

/**
 * The JSON texts of a schema. What is written is always valid, though not everything that is valid can be written:
 * members come in the order of `properties`, and others only where `additionalProperties` says so.
 * @throws BillfishError INVALID_OPTION naming the place of what is malformed or not supported
 */
export function* readJsonSchema(builder: AutomatonBuilder, document: unknown): CooperativeTask<Part> {
  const reader = new SchemaReader(builder, new JsonText(builder), document)
  const part = reader.valueOf(document, '#')
  yield* reader.complete()
  return part
}

/** The schemas of a document, which may refer to each other. Parts are complete when {@link complete} has run. */
export class SchemaReader {
  readonly #builder: AutomatonBuilder
  readonly #text: JsonText
  readonly #document: unknown
  readonly #strings: StringForm
  readonly #ruleOf = new Map<unknown, Rule>()
  /** Schemas that have a rule but no content yet: nothing here is recursive, however deep a schema is. */
  readonly #pending: (() => void)[] = []

  /**
   * @param text may be that of other documents of the same grammar
   * @param strings how strings are written that are no part of a value
   */
  constructor(
    builder: AutomatonBuilder,
    text: JsonText,
    document: unknown,
    strings: StringForm = new JsonStrings(builder, text),
  ) {
    this.#builder = builder
    this.#text = text
    this.#document = document
    this.#strings = strings
  }

  /** Reads what the parts so far refer to. */
  *complete(): CooperativeTask<void> {
    for (let next = this.#pending.pop(); next; next = this.#pending.pop()) {
      next()
      yield
    }
  }

  /** A schema without the references and combinations at its top; false if nothing satisfies it. */
  resolved(value: unknown, path: string): Located {
    return this.#resolve(readSchema(value, path))
  }

  /** A value of a schema, as a rule of its own: schemas may contain themselves. */
  valueOf(value: unknown, path: string): Part {
    if (value === true) return this.#text.value
    let rule = this.#ruleOf.get(value)
    if (rule === undefined || typeof value !== 'object') {
      const made = this.#builder.rule(path)
      rule = made
      this.#ruleOf.set(value, made)
      this.#pending.push(() => {
        for (const part of this.#waysOf(readSchema(value, path))) this.#builder.define(made, part)
      })
    }
    return this.#builder.call(rule)
  }

  #waysOf(located: Located): Part[] {
    if (located.schema === false) return []
    const given = assertions(located.schema)
    if (given.length === 1 && given[0] === '$ref') {
      const { value, path } = this.#target(located.schema.$ref, at(located.path, '$ref'))
      return [this.valueOf(value, path)]
    }
    const resolved = this.#resolve(located)
    if (resolved.schema === false) return []
    const { schema, path } = resolved as { schema: Schema; path: string }
    if (assertions(schema).length === 0) return [this.#text.value]
    for (const keyword of ['anyOf', 'oneOf']) {
      const branches = this.#branches(schema, keyword, path)
      if (branches) return branches.map(({ schema: branch, path: place }) => this.valueOf(branch, place))
    }
    const values = valuesOf(schema)
    if (values) return this.#valuesOf(values, resolved)
    return typesOf(resolved).map((type) => this.#typed(type, { schema, path }))
  }

  /** Without $ref and allOf. */
  #resolve(located: Located): Located {
    let { schema, path } = located
    for (let i = 0; i < MAX_RESOLUTIONS; i++) {
      if (schema === false) return { schema, path }
      const { $ref: reference } = schema
      if (reference !== undefined) {
        const target = this.#target(reference, at(path, '$ref'))
        const located = readSchema(target.value, target.path)
        ;({ schema, path } = mergeSchemas(located, { schema: without(schema, '$ref'), path }))
        continue
      }
      const parts = list({ schema, path }, 'allOf')
      if (parts === undefined) return { schema, path }
      let merged: Located = { schema: without(schema, 'allOf'), path }
      for (const [j, part] of parts.entries()) merged = mergeSchemas(merged, readSchema(part, at(path, 'allOf', j)))
      ;({ schema, path } = merged)
    }
    throw schemaError(located.path, 'refers to itself without end')
  }

  #target(reference: unknown, path: string): { readonly value: unknown; readonly path: string } {
    if (typeof reference !== 'string' || !/^#(\/|$)/.test(reference)) {
      throw schemaError(path, 'is not supported: references must point into the schema, as #/$defs/name does')
    }
    let value = this.#document
    for (const key of reference.split('/').slice(1)) {
      const name = decoded(key).replaceAll('~1', '/').replaceAll('~0', '~')
      const known = typeof value === 'object' && value !== null && Object.hasOwn(value, name)
      if (!known) throw schemaError(path, `is ${JSON.stringify(reference.slice(0, 100))}, which is not in the schema`)
      value = (value as Record<string, unknown>)[name]
    }
    return { value, path: reference }
  }

  /** The branches of anyOf or oneOf, with what stands beside it. */
  #branches(schema: Schema, keyword: string, path: string): Located[] | undefined {
    const given = list({ schema, path }, keyword)
    if (given === undefined) return undefined
    const place = at(path, keyword)
    if (given.length === 0 || given.length > MAX_BRANCHES)
      throw schemaError(place, `must have 1 to ${MAX_BRANCHES} schemas`)
    const branches = given.map((branch, i) => readSchema(branch, at(place, i)))
    if (keyword === 'oneOf') this.#checkOneOf(branches, place)
    const rest = { schema: without(schema, keyword), path }
    if (assertions(rest.schema).length === 0) {
      return branches.map((branch, i) => ({ schema: given[i] as Schema | false, path: branch.path }))
    }
    return branches.map((branch) => mergeSchemas(rest, branch))
  }

  /** Exactly one may match: so no value may match two. */
  #checkOneOf(branches: readonly Located[], path: string): void {
    const resolve = (located: Located) => this.#resolve(located)
    const resolved = branches.map(resolve)
    for (const [i, branch] of resolved.entries()) {
      const other = resolved.findIndex((more, j) => j > i && !areDisjoint(branch, more, resolve))
      if (other < 0) continue
      throw schemaError(
        path,
        `has schemas, ${i} and ${other}, that a value might match both; use anyOf, or give them different types or a required property of different constants`,
      )
    }
  }

  #valuesOf(values: readonly unknown[], located: Located): Part[] {
    const { schema, path } = located as { schema: Schema; path: string }
    const others = assertions(without(schema, 'const', 'enum', 'type'))
    if (others.length > 0)
      throw schemaError(at(path, others[0] as string), 'stands beside enum or const, which is not supported')
    if (values.length > MAX_VALUES) throw schemaError(at(path, 'enum'), `has more than ${MAX_VALUES} values`)
    const types = typesOf(located)
    const texts = values.filter((value) => hasType(value, types)).flatMap((value) => this.#strings.textOf(value) ?? [])
    return texts.length === 0 ? [] : [this.#builder.oneOfTexts(texts)]
  }

  #typed(type: JsonType, located: { schema: Schema; path: string }): Part {
    switch (type) {
      case 'object':
        return this.#object(located)
      case 'array':
        return this.#array(located)
      case 'string':
        return this.#string(located)
      case 'boolean':
        return this.#builder.oneOfTexts(['true', 'false'])
      case 'null':
        return this.#builder.text('null')
      default:
        return this.#number(type === 'integer', located)
    }
  }

  #string(located: { schema: Schema; path: string }): Part {
    const { schema, path } = located
    const least = count(located, 'minLength', MAX_STRING_LENGTH)
    const most = count(located, 'maxLength', MAX_STRING_LENGTH)
    const { pattern, format } = schema
    if (pattern === undefined && format === undefined) {
      if ((least ?? 0) > (most ?? Number.POSITIVE_INFINITY))
        throw schemaError(at(path, 'minLength'), 'is above maxLength')
      return this.#strings.ofLength(least, most)
    }
    const keyword = pattern === undefined ? 'format' : 'pattern'
    const others = ['minLength', 'maxLength', 'format'].filter(
      (other) => other !== keyword && schema[other] !== undefined,
    )
    if (others.length > 0) {
      throw schemaError(
        at(path, others[0] as string),
        `stands beside ${keyword}, which is not supported; say both in pattern`,
      )
    }
    if (typeof schema[keyword] !== 'string') throw schemaError(at(path, keyword), 'must be a string')
    return pattern === undefined ? this.#formatted(format as string, path) : this.#matching(pattern as string, path)
  }

  #matching(pattern: string, path: string): Part {
    try {
      return this.#strings.matching(pattern)
    } catch (error) {
      throw schemaError(at(path, 'pattern'), `is refused: ${error instanceof Error ? error.message : error}`)
    }
  }

  #formatted(format: string, path: string): Part {
    const pattern = Object.hasOwn(STRING_FORMATS, format) ? STRING_FORMATS[format] : undefined
    if (pattern === undefined) {
      throw schemaError(at(path, 'format'), `must be one of ${Object.keys(STRING_FORMATS).join(', ')}`)
    }
    return this.#matching(`^(?:${pattern})$`, path)
  }

  #number(isWhole: boolean, { schema, path }: { schema: Schema; path: string }): Part {
    const limit = (keyword: string) => {
      const value = schema[keyword]
      if (value === undefined || (typeof value === 'number' && Number.isFinite(value))) return value
      throw schemaError(at(path, keyword), 'must be a finite number')
    }
    const [low, above, high, below] = ['minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum'].map(limit)
    if (schema.multipleOf !== undefined && schema.multipleOf !== 1) {
      throw schemaError(at(path, 'multipleOf'), 'is not supported but for 1; leave it out and check the answer for it')
    }
    const whole = isWhole || schema.multipleOf === 1
    if (low === undefined && above === undefined && high === undefined && below === undefined) {
      return whole ? this.#text.integer : this.#text.number
    }
    const lowest = Math.max(low ?? Number.NEGATIVE_INFINITY, above ?? Number.NEGATIVE_INFINITY)
    const highest = Math.min(high ?? Number.POSITIVE_INFINITY, below ?? Number.POSITIVE_INFINITY)
    const limits: NumberLimits = {
      low: lowest,
      high: highest,
      excludesLow: lowest === above,
      excludesHigh: highest === below,
    }
    const part = numberWithin(this.#builder, limits, whole)
    if (part === undefined)
      throw schemaError(path, 'has limits of a number that leave nothing, or have more than 15 digits')
    return part
  }

  #array(located: { schema: Schema; path: string }): Part {
    const { schema, path } = located
    if (schema.uniqueItems !== undefined && schema.uniqueItems !== false) {
      throw schemaError(at(path, 'uniqueItems'), 'is not supported; leave it out and check the answer for it')
    }
    const least = count(located, 'minItems', MAX_ITEMS) ?? 0
    const most = count(located, 'maxItems', MAX_ITEMS) ?? Number.POSITIVE_INFINITY
    if (least > most) throw schemaError(at(path, 'minItems'), 'is above maxItems')
    const given = list(located, 'prefixItems') ?? []
    if (given.length > MAX_ITEMS) throw schemaError(at(path, 'prefixItems'), `has more than ${MAX_ITEMS} schemas`)
    const first = given.slice(0, most).map((item, i) => this.valueOf(item, at(path, 'prefixItems', i)))
    const left = { least: Math.max(0, least - first.length), most: most - first.length }
    const isOpen = schema.items !== undefined || first.length === 0 || left.least > 0
    const hasItems = isOpen && schema.items !== false && left.most > 0
    if (!hasItems && left.least > 0) throw schemaError(at(path, 'minItems'), 'is more than items and prefixItems allow')
    const item = hasItems ? this.valueOf(schema.items ?? true, at(path, 'items')) : undefined
    return this.#text.list({ ...left, first, ...(item && { item }) })
  }

  #object(located: { schema: Schema; path: string }): Part {
    const { schema, path } = located
    const { properties = {}, additionalProperties: additional } = schema
    if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) {
      throw schemaError(at(path, 'properties'), 'must be an object')
    }
    const required = new Set(list(located, 'required') ?? [])
    const declared = new Map(Object.entries(properties))
    for (const name of required) {
      if (typeof name !== 'string') throw schemaError(at(path, 'required'), 'must be an array of strings')
      if (!declared.has(name)) declared.set(name, additional ?? true)
    }
    const members = [...declared]
      .filter(([name, value]) => value !== false || required.has(name))
      .map(([name, value]) => ({
        isRequired: required.has(name),
        part: this.#text.member(
          this.#builder.text(JSON.stringify(name)),
          this.valueOf(value, at(path, 'properties', name)),
        ),
      }))
    const isOpen = additional !== undefined ? additional !== false : members.length === 0 && declared.size === 0
    this.#checkMemberCounts(located, required.size, isOpen ? Number.POSITIVE_INFINITY : members.length)
    const others = isOpen
      ? this.#text.member(
          this.#keyOutside([...declared.keys()]),
          this.valueOf(additional ?? true, at(path, 'additionalProperties')),
        )
      : undefined
    return this.#members(members, others)
  }

  #checkMemberCounts(located: { schema: Schema; path: string }, least: number, most: number): void {
    const atLeast = count(located, 'minProperties', MAX_ITEMS) ?? 0
    const atMost = count(located, 'maxProperties', MAX_ITEMS) ?? Number.POSITIVE_INFINITY
    if (atLeast > least)
      throw schemaError(at(located.path, 'minProperties'), 'is supported only up to the number of required properties')
    if (atMost < most)
      throw schemaError(at(located.path, 'maxProperties'), 'is supported only from the number of properties on')
  }

  /** Members in their order. `others` may follow any number of times. */
  #members(members: readonly { readonly isRequired: boolean; readonly part: Part }[], others: Part | undefined): Part {
    const builder = this.#builder
    const comma = builder.sequence(builder.text(','), this.#text.space)
    return (from) => {
      const open = builder.text('{')(from)
      const end = builder.state()
      let first: number | undefined = this.#text.space(open) // nothing has been written
      const before = first
      let some = builder.state() // a member has been written
      for (const { isRequired, part } of members) {
        const next = builder.state()
        if (first !== undefined) builder.link(part(first), next)
        builder.link(part(comma(some)), next)
        if (isRequired) first = undefined
        else builder.link(some, next)
        some = next
      }
      if (others) {
        const loop = builder.state()
        builder.link(some, loop)
        if (first !== undefined) builder.link(others(first), loop)
        builder.link(others(comma(loop)), loop)
        some = loop
      }
      builder.link(builder.text('}')(this.#text.space(some)), end)
      if (first === before) builder.link(builder.text('}')(open), end)
      return end
    }
  }

  /** A key without escapes that is none of `names`. */
  #keyOutside(names: readonly string[]): Part {
    const builder = this.#builder
    if (names.length === 0) return this.#text.string()
    return (from) => {
      const end = builder.state()
      const free = builder.state() // where no name can come any more
      builder.link(this.#text.plain([])(free), free)
      builder.link(builder.text('"')(free), end)
      const start = builder.text('"')(from)
      const nodes = [{ state: start, at: 0, names: names.map((name) => [...name]) }]
      for (let node = nodes.pop(); node; node = nodes.pop()) {
        const { state, at: depth, names: here } = node
        if (!here.some((name) => name.length === depth)) builder.link(builder.text('"')(state), end)
        const byCharacter = new Map<string, string[][]>()
        for (const name of here.filter((longer) => longer.length > depth)) {
          const character = name[depth] as string
          byCharacter.set(character, [...(byCharacter.get(character) ?? []), name])
        }
        for (const [character, longer] of byCharacter) {
          const next = this.#text.plain([], [...character].map(codeRange))(state)
          nodes.push({ state: next, at: depth + 1, names: longer })
        }
        const taken = [...byCharacter.keys()].map(codeRange)
        builder.link(this.#text.plain(taken)(state), free)
      }
      return end
    }
  }
}

function codeRange(character: string): Range {
  const code = character.codePointAt(0) as number
  return { low: code, high: code }
}

function decoded(key: string): string {
  try {
    return decodeURIComponent(key)
  } catch {
    return key
  }
}
