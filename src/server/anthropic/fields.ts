/** The fields of Anthropic's Messages API, and the chat that they stand for. */
import { z } from 'zod'
import type { ChatMessage } from '../../generation/chat-message'
import type { ChatOptions, Tool, ToolChoice } from '../../generation/chat-options'
import { field } from '../openai/fields'
import { invalidRequest } from '../request-error'
import type { AnswerFormats, ServedModel } from '../served-models'
import { templateVariables } from '../template-variables'
import { chatMessages, contentField } from './messages'

const MAX_MESSAGES = 10_000
const MAX_TOOLS = 1024

const tool = z.looseObject({
  /** Only tools of the client's own have no type, or this one. */
  type: field(z.string()),
  name: z.string().min(1),
  description: field(z.string()),
  input_schema: field(z.record(z.string(), z.unknown())),
})

export const promptFields = z.looseObject({
  model: field(z.string()),
  system: field(contentField),
  messages: z
    .array(z.looseObject({ role: z.string().min(1), content: contentField }))
    .min(1)
    .max(MAX_MESSAGES),
  tools: field(z.array(tool).max(MAX_TOOLS)),
  tool_choice: field(
    z.looseObject({
      type: z.enum(['auto', 'any', 'tool', 'none']),
      name: field(z.string()),
      disable_parallel_tool_use: field(z.boolean()),
    }),
  ),
  thinking: field(z.looseObject({ type: z.enum(['enabled', 'disabled', 'adaptive']) })),
  output_config: field(
    z.looseObject({
      effort: field(z.enum(['low', 'medium', 'high', 'xhigh', 'max'])),
      format: field(z.looseObject({ type: z.literal('json_schema'), schema: z.record(z.string(), z.unknown()) })),
    }),
  ),
})

export const messagesFields = promptFields.extend({
  max_tokens: z.int().min(1),
  stop_sequences: field(z.array(z.string().min(1))),
  temperature: field(z.number().min(0).max(1)),
  top_p: field(z.number().gt(0).max(1)),
  top_k: field(z.int().min(0)),
  stream: field(z.boolean()),
})

type PromptRequest = z.output<typeof promptFields>
type MessagesRequest = z.output<typeof messagesFields>

/** The conversation, the tools and the template's variables. */
export function promptOf(
  { system, messages, tools, thinking, output_config }: PromptRequest,
  { templateVariables: defaults }: Pick<ServedModel, 'templateVariables'>,
) {
  const own = thinking && { enable_thinking: thinking.type !== 'disabled' }
  const last = messages.at(-1)
  if (last?.role === 'assistant') {
    throw invalidRequest('The last message has the role assistant, but an answer cannot be prefilled.', 'messages')
  }
  return {
    messages: chatMessages(system, messages) as readonly ChatMessage[],
    tools: tools && tools.length > 0 ? tools.map(toolOf) : undefined,
    variables: templateVariables(defaults, own, output_config?.effort),
  }
}

/** @throws RequestError 400 for what cannot be met */
export function chatOptions(
  request: MessagesRequest,
  { tools, variables }: ReturnType<typeof promptOf>,
  formats: AnswerFormats,
): ChatOptions {
  const { tool_choice: choice, output_config } = request
  const format = output_config?.format
  if (tools === undefined && (choice?.type === 'any' || choice?.type === 'tool')) {
    throw invalidRequest(`tool_choice is ${choice.type}, but there are no tools.`, 'tool_choice')
  }
  return {
    ...formats,
    maxNewTokens: request.max_tokens,
    stop: request.stop_sequences,
    temperature: request.temperature,
    topP: request.top_p,
    topK: request.top_k,
    ...(tools && {
      tools,
      toolChoice: choice && toolChoiceOf(choice, tools),
      parallelToolCalls: choice?.disable_parallel_tool_use === true ? false : undefined,
    }),
    ...(format && { structuredOutput: { json: format.schema } }),
    reasoningEffort: output_config?.effort,
    chatTemplate: { variables },
  }
}

/** @throws RequestError 400 for a tool that is none of those given */
function toolChoiceOf({ type, name }: NonNullable<MessagesRequest['tool_choice']>, tools: readonly Tool[]): ToolChoice {
  if (type === 'any') return 'required'
  if (type !== 'tool') return type
  if (name !== undefined && tools.some((tool) => tool.function.name === name)) return { name }
  throw invalidRequest(`tool_choice names ${name ?? 'no tool'}, which is none of the tools.`, 'tool_choice')
}

function toolOf({ type, name, description, input_schema }: z.output<typeof tool>): Tool {
  if (type !== undefined && type !== 'custom') {
    throw invalidRequest(`tools: ${name} has the type ${type}; only tools of the client's own are supported.`, 'tools')
  }
  return { type: 'function', function: { name, description, parameters: input_schema } }
}
