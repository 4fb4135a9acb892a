import { detectReasoningFormat, detectToolFormat, TOOL_FORMAT_NAMES } from '../chat/formats'
import { BillfishError } from '../common/errors'
import type { Runner, RunnerLimits } from '../pipeline/runner'
import type { GenerationAssets } from './assets'
import { ChatGeneration } from './chat-generation'
import { templateMessages } from './chat-messages'
import { type ChatOptions, effortVariables, usableTools } from './chat-options'
import { ChatReader } from './chat-reader'
import type { ChatMessage } from './chat-template'
import { Generation } from './generation'
import { GenerationRun } from './generation-run'
import type { GenerationObservers } from './observer'

/**
 * Starts the answer to a conversation.
 * @throws BillfishError INVALID_OPTION
 */
export function startChat(
  runner: Runner,
  assets: GenerationAssets,
  limits: Pick<RunnerLimits, 'maxModelLength' | 'vocabulary'>,
  messages: readonly ChatMessage[],
  options: ChatOptions,
  observers: GenerationObservers,
): ChatGeneration {
  const { tools: _, toolChoice, parallelToolCalls = true, reasoningEffort, chatTemplate, ...others } = options
  const { toolFormat: givenTools, reasoningFormat: givenReasoning, ...sampling } = others
  if (assets.tokenizer === undefined) throw assets.missingTokenizer('A prompt of messages')
  const tools = usableTools(options)
  if (tools !== undefined && options.structuredOutput !== undefined) {
    const message = 'tools and structuredOutput are given together, but an answer in a form has no room for calls'
    throw new BillfishError('INVALID_OPTION', `${message}; leave one out, or set toolChoice to 'none'.`)
  }
  const template = assets.chatTemplate?.source({ tools }) ?? ''
  const format = givenTools ?? detectToolFormat(template)
  const reader = new ChatReader(assets.tokenizer, {
    tools: tools && {
      format: format ?? refuseTools(),
      functions: tools.map((tool) => tool.function),
      isParallel: parallelToolCalls,
    },
    reasoning: givenReasoning ?? detectReasoningFormat(template),
  })
  const variables = { ...effortVariables(reasoningEffort), ...chatTemplate?.variables }
  const run = new GenerationRun(
    runner,
    assets,
    limits,
    templateMessages(messages, format),
    { ...sampling, chatTemplate: { ...chatTemplate, variables, tools } },
    observers,
    reader,
  )
  return new ChatGeneration(new Generation(run), reader)
}

function refuseTools(): never {
  const known = TOOL_FORMAT_NAMES.join(', ')
  throw new BillfishError(
    'INVALID_OPTION',
    `tools is given, but the chat template shows no way of calling them that is known (${known}); if the model has one of these, name it as toolFormat.`,
  )
}
