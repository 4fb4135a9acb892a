/** What a call of the AI SDK asks for, as messages and options of chat(). */
import type { LanguageModelV3CallOptions, SharedV3Warning } from '@ai-sdk/provider'
import type { ChatMessage } from '../../generation/chat-message'
import type { ChatOptions, Tool } from '../../generation/chat-options'
import { templateMessages } from './prompt'

/**
 * What `providerOptions.billfish` may hold of `generateText`, `streamText` and the like: options of billfish's
 * `chat()`. Those that the AI SDK has itself go before them.
 */
export type BillfishOptions = Omit<ChatOptions, 'signal' | 'tools' | 'toolChoice'>

export interface Call {
  readonly messages: readonly ChatMessage[]
  readonly options: ChatOptions
  /** What was asked for and is not done. */
  readonly warnings: SharedV3Warning[]
}

/** @throws UnsupportedFunctionalityError for prompts with files or images */
export function readCall(call: LanguageModelV3CallOptions): Call {
  const warnings: SharedV3Warning[] = []
  const options = { ...samplingOptions(call), ...toolOptions(call, warnings) }
  const messages = templateMessages(call.prompt)
  const { responseFormat } = call
  if (responseFormat?.type !== 'json') return { messages, options, warnings }
  const { schema } = responseFormat
  const asked = withInstruction(messages, schema)
  return { messages: asked, options: { ...options, structuredOutput: { json: schema ?? true } }, warnings }
}

/** Asks for JSON in the system's message: the only one that templates accept is the first. */
function withInstruction(messages: readonly ChatMessage[], schema: object | undefined): ChatMessage[] {
  const asked = 'Answer with one JSON value and nothing else, without Markdown.'
  const instruction =
    schema === undefined ? asked : `${asked} It must be valid under this JSON schema:\n${JSON.stringify(schema)}`
  const [first, ...rest] = messages
  if (first?.role !== 'system') return [{ role: 'system', content: instruction }, ...messages]
  return [{ ...first, content: `${first.content}\n\n${instruction}` }, ...rest]
}

function samplingOptions(call: LanguageModelV3CallOptions): ChatOptions {
  const given: ChatOptions = {
    maxNewTokens: call.maxOutputTokens,
    temperature: call.temperature,
    topP: call.topP,
    topK: call.topK,
    presencePenalty: call.presencePenalty,
    frequencyPenalty: call.frequencyPenalty,
    stop: call.stopSequences,
    seed: call.seed === undefined ? undefined : BigInt.asUintN(64, BigInt(call.seed)),
    signal: call.abortSignal,
  }
  const own: BillfishOptions = call.providerOptions?.billfish ?? {}
  return { ...own, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) }
}

function toolOptions(
  { tools = [], toolChoice }: LanguageModelV3CallOptions,
  warnings: SharedV3Warning[],
): Pick<ChatOptions, 'tools' | 'toolChoice'> {
  const functions = tools.flatMap((tool): Tool[] => {
    if (tool.type === 'provider') {
      const details = 'billfish has no tools of its own.'
      warnings.push({ type: 'unsupported', feature: `the tool ${tool.id}`, details })
      return []
    }
    const { name, description, inputSchema } = tool
    return [{ type: 'function', function: { name, description, parameters: { ...inputSchema } } }]
  })
  if (functions.length === 0) return {}
  if (toolChoice === undefined) return { tools: functions }
  return { tools: functions, toolChoice: toolChoice.type === 'tool' ? { name: toolChoice.toolName } : toolChoice.type }
}
