import { BillfishError } from '../../common/errors'
import type { CooperativeTask } from '../../common/event-loop'
import { isRecord } from '../../options/snapshot'
import { ParameterTypes } from '../tools/parameter-types'
import type { ToolFunction } from '../tools/tool-parser'
import type { AutomatonBuilder, Part } from './automaton-builder'
import { SchemaReader } from './json-schema'
import { JsonText } from './json-text'
import { at, list } from './schema-keywords'
import type { ToolCallForm } from './spec'
import { PlainStrings } from './string-forms'

/** Of a function that says nothing of its parameters: it has none. */
const NO_PARAMETERS = { type: 'object', additionalProperties: false }
/** Tags that at the start of a line may end the value of a parameter, or begin another. */
const VALUE_TAGS = ['</parameter', '<parameter=', '</function>', '</tool_call>', '<tool_call>']
/** What ends a name, or is read as a misspelled end of it. */
const NAME_ENDS = /[> <\n\r\t:=]/

/**
 * One or more tool calls in the format of a model, so that parsers read valid arguments from them.
 * @throws BillfishError INVALID_OPTION naming the function and the place in its schema
 */
export function* readToolCalls(
  builder: AutomatonBuilder,
  { format, functions, isParallel }: ToolCallForm,
): CooperativeTask<Part> {
  const shared = { builder, text: new JsonText(builder), strings: new PlainStrings(builder, VALUE_TAGS) }
  const read = format === 'hermes' ? hermesCall : coderCall
  const calls: (readonly [string, Part])[] = []
  for (const tool of functions) {
    try {
      calls.push(yield* read(shared, tool))
    } catch (error) {
      if (!(error instanceof BillfishError)) throw error
      throw new BillfishError('INVALID_OPTION', `the function ${tool.name}: ${error.message}`)
    }
  }
  const rule = builder.rule('A tool call')
  builder.define(rule, builder.oneOfBeginnings(calls))
  const call = builder.call(rule)
  const others = builder.repeat(builder.sequence(builder.text('\n'), call), 0, Number.POSITIVE_INFINITY)
  return isParallel ? builder.sequence(call, others) : call
}

/** What the calls of all functions share. */
interface Shared {
  readonly builder: AutomatonBuilder
  readonly text: JsonText
  readonly strings: PlainStrings
}

type Call = readonly [beginning: string, rest: Part]

function* hermesCall({ builder, text }: Shared, tool: ToolFunction): CooperativeTask<Call> {
  const schema = parametersOf(tool)
  const reader = new SchemaReader(builder, text, schema)
  const value = reader.valueOf(restricted(schema, 'object'), '#')
  yield* reader.complete()
  const beginning = `<tool_call>\n{"name": ${JSON.stringify(tool.name)}, "arguments": `
  return [beginning, builder.sequence(value, builder.text('}\n</tool_call>'))]
}

function* coderCall({ builder, text, strings: plain }: Shared, tool: ToolFunction): CooperativeTask<Call> {
  checkName(tool.name)
  const document = parametersOf(tool)
  const values = new SchemaReader(builder, text, document)
  const strings = new SchemaReader(builder, text, document, plain)
  const types = new ParameterTypes(document)
  const { schema, path } = values.resolved(restricted(document, 'object'), '#')
  if (schema === false) throw new BillfishError('INVALID_OPTION', 'its parameters are no object')
  const combined = ['anyOf', 'oneOf'].find((keyword) => schema[keyword] !== undefined)
  if (combined !== undefined) {
    const why = `${at(path, combined)} of the schema combines whole objects, which qwen3_coder has no form for`
    throw new BillfishError('INVALID_OPTION', `${why}; give one object with optional properties`)
  }
  const required = new Set(list({ schema, path }, 'required') ?? [])
  const given = isRecord(schema.properties) ? schema.properties : {}
  const names = [...new Set([...Object.keys(given), ...[...required].map(String)])]
  const parameters = names.map((name) => {
    checkName(name)
    const { type, isNullable } = types.of(name)
    const own = Object.hasOwn(given, name) ? given[name] : (schema.additionalProperties ?? true)
    // Parsers read a value as the first of its types, whatever it looks like.
    const read = restricted(own, isNullable && type !== 'null' ? [type, 'null'] : type)
    const value = (type === 'string' ? strings : values).valueOf(read, at(path, 'properties', name))
    const part = builder.sequence(builder.text(`<parameter=${name}>\n`), value, builder.text('\n</parameter>\n'))
    return required.has(name) ? part : builder.optional(part)
  })
  yield* values.complete()
  yield* strings.complete()
  const end = builder.text('</function>\n</tool_call>')
  return [`<tool_call>\n<function=${tool.name}>\n`, builder.sequence(...parameters, end)]
}

/** The schema of the arguments; one that declares no property has none, unless it says that others may come. */
function parametersOf({ parameters }: ToolFunction): unknown {
  if (!isRecord(parameters)) return NO_PARAMETERS
  const { properties, additionalProperties } = parameters
  const isEmpty = isRecord(properties) && Object.keys(properties).length === 0
  return isEmpty && additionalProperties === undefined ? { ...parameters, additionalProperties: false } : parameters
}

function restricted(schema: unknown, type: string | string[]): unknown {
  return isRecord(schema) && schema.type === type ? schema : { allOf: [schema, { type }] }
}

function checkName(name: string): void {
  if (name !== '' && !NAME_ENDS.test(name)) return
  const why = `the name ${JSON.stringify(name)} cannot be written in the format qwen3_coder`
  throw new BillfishError('INVALID_OPTION', `${why}: names have no white space, '<', '>', ':' and '='`)
}
