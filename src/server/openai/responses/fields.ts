/** The fields of OpenAI's Responses API, and the options that they stand for. */
import { z } from 'zod'
import type { StructuredOutput } from '../../../chat/structured/spec'
import { type ChatOptions, REASONING_EFFORTS, type Tool, type ToolChoice } from '../../../generation/chat-options'
import { invalidRequest } from '../../request-error'
import type { AnswerFormats } from '../../served-models'
import { field, generateOptions, samplingFields } from '../fields'
import { checkedChoice } from '../tool-choice'
import { inputField } from './input'

const MAX_TOOLS = 1024
const MAX_LOGPROBS = 20
const MAX_INCLUDED = 100

/** The value of `include` that asks for log-probabilities. Others name parts that answers here never have. */
const LOGPROBS = 'message.output_text.logprobs'

const tool = z.looseObject({
  type: z.string(),
  name: field(z.string().min(1)),
  description: field(z.string()),
  parameters: field(z.record(z.string(), z.unknown())),
})

const format = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text') }),
  z.looseObject({ type: z.literal('json_object') }),
  z.looseObject({ type: z.literal('json_schema'), schema: z.record(z.string(), z.unknown()) }),
])

export const responseFields = z
  .looseObject(samplingFields)
  .omit({ n: true, max_tokens: true, stream_options: true })
  .extend({
    input: inputField,
    instructions: field(z.string()),
    max_output_tokens: field(z.int().min(1)),
    tools: field(z.array(tool).max(MAX_TOOLS)),
    tool_choice: field(
      z.union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.literal('function'), name: z.string() })]),
    ),
    parallel_tool_calls: field(z.boolean()),
    reasoning: field(z.looseObject({ effort: field(z.enum(REASONING_EFFORTS)) })),
    text: field(z.looseObject({ format: field(format) })),
    include: field(z.array(z.string()).max(MAX_INCLUDED)),
    top_logprobs: field(z.int().min(0).max(MAX_LOGPROBS)),
    truncation: field(z.enum(['auto', 'disabled'])),
    background: field(z.boolean()),
    store: field(z.boolean()),
    metadata: field(z.record(z.string(), z.string())),
  })
export type ResponseRequest = z.output<typeof responseFields>

/** Fields that need earlier answers or prompts to be kept. */
const STORED = ['previous_response_id', 'conversation', 'prompt']

/** @throws RequestError 400 for fields that contradict each other, or that cannot be met */
export function checkResponse(request: ResponseRequest): void {
  for (const name of STORED) {
    if (request[name] == null) continue
    throw invalidRequest(`${name}: this server stores nothing; send all items of the conversation as input.`, name)
  }
  if (request.background) {
    throw invalidRequest(
      'background: true is not supported, as this server stores nothing; stream instead.',
      'background',
    )
  }
  if (request.truncation === 'auto') {
    throw invalidRequest('truncation: auto is not supported; leave items out of the input yourself.', 'truncation')
  }
  if (request.top_logprobs && !request.include?.includes(LOGPROBS)) {
    throw invalidRequest(`top_logprobs is given without '${LOGPROBS}' in include.`, 'top_logprobs')
  }
}

/** @throws RequestError 400 for tools, or a choice among them, that cannot be met */
export function chatOptions(request: ResponseRequest, formats: AnswerFormats): ChatOptions {
  const tools = request.tools && request.tools.length > 0 ? request.tools.map(toolOf) : undefined
  const toolChoice = toolChoiceOf(request, tools)
  return {
    ...generateOptions({ ...request, max_tokens: request.max_output_tokens }, 0),
    ...formats,
    ...(request.include?.includes(LOGPROBS) && { logprobs: request.top_logprobs ?? 0 }),
    ...(tools && { tools, toolChoice, parallelToolCalls: request.parallel_tool_calls }),
    structuredOutput: formOf(request),
    reasoningEffort: request.reasoning?.effort,
  }
}

function toolOf({ type, name, description, parameters }: z.output<typeof tool>, index: number): Tool {
  if (type !== 'function') {
    throw invalidRequest(`tools[${index}] has the type ${type}; only functions are supported.`, `tools[${index}].type`)
  }
  if (name === undefined) throw invalidRequest(`tools[${index}] has no name.`, `tools[${index}].name`)
  return { type, function: { name, description, parameters } }
}

/** `auto` is what clients send without tools, too. */
function toolChoiceOf({ tool_choice: choice }: ResponseRequest, tools: readonly Tool[] | undefined) {
  if (tools === undefined && choice === 'auto') return undefined
  const names = tools?.map((tool) => tool.function.name)
  const chosen: ToolChoice | undefined = typeof choice === 'object' ? { name: choice.name } : choice
  return checkedChoice(chosen, names)
}

function formOf({ text }: ResponseRequest): StructuredOutput | undefined {
  switch (text?.format?.type) {
    case 'json_object':
      return { json: true }
    case 'json_schema':
      return { json: text.format.schema }
    default:
      return undefined
  }
}
