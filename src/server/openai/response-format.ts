/** The form of an answer: OpenAI's response_format, vLLM's structured_outputs and the older guided_ fields. */
import { z } from 'zod'
import type { StructuredOutput } from '../../chat/structured/spec'
import { invalidRequest } from '../request-error'
import { field } from './fields'

const schema = z.union([z.record(z.string(), z.unknown()), z.literal(true)])
/** vLLM also takes a schema as its JSON text. */
const schemaOrText = z.union([schema, z.string()])
const choices = z.array(z.string()).min(1)

export const structuredFields = {
  response_format: field(
    z.looseObject({
      type: z.enum(['text', 'json_object', 'json_schema']),
      json_schema: field(z.looseObject({ schema: field(schema) })),
      schema: field(schema),
    }),
  ),
  structured_outputs: field(
    z.strictObject({
      json: field(schemaOrText),
      regex: field(z.string()),
      choice: field(choices),
      grammar: field(z.string()),
      json_object: field(z.boolean()),
    }),
  ),
  guided_json: field(schemaOrText),
  guided_regex: field(z.string()),
  guided_choice: field(choices),
  guided_grammar: field(z.string()),
}

type Fields = z.output<z.ZodObject<typeof structuredFields>>

/**
 * The form that a request asks for, if any.
 * @throws RequestError 400 for more than one
 */
export function structuredOutputOf(fields: Fields): StructuredOutput | undefined {
  const { structured_outputs: { json, regex, choice, grammar, json_object } = {} } = fields
  const forms: [name: string, form: StructuredOutput | undefined][] = [
    ['response_format', responseFormat(fields)],
    ['structured_outputs.json', jsonForm(json, 'structured_outputs.json')],
    ['structured_outputs.regex', regex === undefined ? undefined : { regex }],
    ['structured_outputs.choice', choice && { choice }],
    ['structured_outputs.grammar', grammar === undefined ? undefined : { grammar }],
    ['structured_outputs.json_object', json_object ? { json: true } : undefined],
    ['guided_json', jsonForm(fields.guided_json, 'guided_json')],
    ['guided_regex', fields.guided_regex === undefined ? undefined : { regex: fields.guided_regex }],
    ['guided_choice', fields.guided_choice && { choice: fields.guided_choice }],
    ['guided_grammar', fields.guided_grammar === undefined ? undefined : { grammar: fields.guided_grammar }],
  ]
  const given = forms.filter(([, form]) => form !== undefined)
  if (given.length > 1) {
    const [first, second] = given.map(([name]) => name)
    throw invalidRequest(`${first} and ${second} are given together; give one form of the answer.`, second)
  }
  return given[0]?.[1]
}

function responseFormat({ response_format: format }: Fields): StructuredOutput | undefined {
  if (format === undefined || format.type === 'text') return undefined
  if (format.type === 'json_object') return { json: format.schema ?? true }
  if (format.json_schema === undefined) {
    throw invalidRequest('response_format: the type json_schema needs json_schema.', 'response_format.json_schema')
  }
  return { json: format.json_schema.schema ?? true }
}

function jsonForm(given: z.output<typeof schemaOrText> | undefined, name: string): StructuredOutput | undefined {
  if (typeof given !== 'string') return given === undefined ? undefined : { json: given }
  try {
    return { json: schema.parse(JSON.parse(given)) }
  } catch {
    throw invalidRequest(`${name} is a string, but not the JSON of a schema.`, name)
  }
}
