/** The fields of a chat request, and the options that they stand for. */
import { z } from 'zod'
import { type ChatOptions, REASONING_EFFORTS, type Tool } from '../../generation/chat-options'
import { invalidRequest } from '../request-error'
import type { AnswerFormats } from '../served-models'
import { messagesField } from './chat-messages'
import { checkFields, field, generateOptions, samplingFields } from './fields'
import { structuredFields, structuredOutputOf } from './response-format'
import { checkedChoice } from './tool-choice'

const MAX_TOOLS = 1024
const MAX_LOGPROBS = 20

const tool = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({
    name: z.string().min(1),
    description: field(z.string()),
    parameters: field(z.record(z.string(), z.unknown())),
  }),
})

export const chatFields = z.looseObject({
  ...samplingFields,
  ...structuredFields,
  messages: messagesField,
  max_completion_tokens: field(z.int().min(1)),
  chat_template_kwargs: field(z.record(z.string(), z.unknown())),
  add_generation_prompt: field(z.boolean()),
  continue_final_message: field(z.boolean()),
  tools: field(z.array(tool).min(1).max(MAX_TOOLS)),
  tool_choice: field(
    z.union([
      z.enum(['none', 'auto', 'required']),
      z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string() }) }),
    ]),
  ),
  parallel_tool_calls: field(z.boolean()),
  reasoning_effort: field(z.enum(REASONING_EFFORTS)),
  include_reasoning: field(z.boolean()),
  logprobs: field(z.boolean()),
  top_logprobs: field(z.int().min(0).max(MAX_LOGPROBS)),
})
export type ChatRequest = z.output<typeof chatFields>

/** Fields that would change the answer, and are not understood yet. Others are ignored, as vLLM does. */
const REFUSED = ['functions', 'echo']

/** @throws RequestError 400 for fields that contradict each other, or are not understood */
export function checkChat(request: ChatRequest): void {
  checkFields(request)
  if (request.top_logprobs !== undefined && request.logprobs !== true) {
    throw invalidRequest('top_logprobs is given without logprobs: true.', 'top_logprobs')
  }
  for (const name of REFUSED) {
    const value = request[name]
    if (value == null || value === false) continue
    throw invalidRequest(`${name} is not supported by this server yet; leave it out.`, name)
  }
}

/** @throws RequestError 400 for a choice of tools that cannot be met */
export function chatOptions(request: ChatRequest, choice: number, formats: AnswerFormats): ChatOptions {
  const { tools, tool_choice: chosen } = request
  const toolChoice = checkedChoice(
    typeof chosen === 'object' ? { name: chosen.function.name } : chosen,
    tools?.map((tool) => tool.function.name),
  )
  return {
    ...generateOptions({ ...request, max_tokens: request.max_completion_tokens ?? request.max_tokens }, choice),
    ...formats,
    ...(request.logprobs && { logprobs: request.top_logprobs ?? 0 }),
    ...(tools && { tools: tools as readonly Tool[], toolChoice, parallelToolCalls: request.parallel_tool_calls }),
    structuredOutput: structuredOutputOf(request),
    reasoningEffort: request.reasoning_effort,
    chatTemplate: {
      variables: request.chat_template_kwargs,
      addGenerationPrompt: request.add_generation_prompt,
      continueFinalMessage: request.continue_final_message,
    },
  }
}
