import { detectReasoningFormat, detectToolFormat, TOOL_FORMAT_NAMES } from '../chat/formats'
import type { AnswerForm, ToolCallForm } from '../chat/structured/spec'
import { BillfishError } from '../common/errors'
import type { Runner, RunnerLimits } from '../pipeline/runner'
import type { GenerationAssets } from './assets'
import { ChatGeneration } from './chat-generation'
import type { ChatMessage } from './chat-message'
import { templateMessages } from './chat-messages'
import { type ChatOptions, effortVariables, toolChoiceName, usableTools } from './chat-options'
import { ChatReader } from './chat-reader'
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
  const {
    tools: _,
    toolChoice,
    schema,
    structuredOutput,
    parallelToolCalls = true,
    reasoningEffort,
    chatTemplate,
    ...others
  } = options
  const { toolFormat: givenTools, reasoningFormat: givenReasoning, ...sampling } = others
  if (assets.tokenizer === undefined) throw assets.missingTokenizer('A prompt of messages')
  const tools = usableTools(options)
  const template = assets.chatTemplate?.source({ tools }) ?? ''
  const format = givenTools ?? detectToolFormat(template)
  const calls = tools && {
    format: format ?? refuseTools(),
    functions: tools.map((tool) => tool.function),
    isParallel: parallelToolCalls,
  }
  const reader = new ChatReader(assets.tokenizer, {
    tools: calls,
    reasoning: givenReasoning ?? detectReasoningFormat(template),
    form: answerForm(calls, options),
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

/**
 * What an answer must be.
 * @throws BillfishError INVALID_OPTION for two forms of text
 */
function answerForm(
  calls: ToolCallForm | undefined,
  { toolChoice = 'auto', schema, structuredOutput }: ChatOptions,
): AnswerForm | undefined {
  if (schema !== undefined && structuredOutput !== undefined) {
    const message = 'schema and structuredOutput are given together, but both say what the answer is to be'
    throw new BillfishError('INVALID_OPTION', `${message}; leave one out.`)
  }
  const text = schema === undefined ? structuredOutput : { json: schema }
  if (calls === undefined) return text
  if (toolChoice === 'auto') return text && { calls: plainCalls(calls), text }
  const chosen = calls.functions.filter((tool) => toolChoice === 'required' || tool.name === toolChoiceName(toolChoice))
  return { calls: plainCalls({ ...calls, functions: chosen }), text: undefined }
}

/** Without what does not change the grammar, which is kept for answers of the same form. */
function plainCalls({ functions, ...calls }: ToolCallForm): ToolCallForm {
  return { ...calls, functions: functions.map(({ name, parameters }) => ({ name, parameters })) }
}

function refuseTools(): never {
  const known = TOOL_FORMAT_NAMES.join(', ')
  throw new BillfishError(
    'INVALID_OPTION',
    `tools is given, but the chat template shows no way of calling them that is known (${known}); if the model has one of these, name it as toolFormat.`,
  )
}
