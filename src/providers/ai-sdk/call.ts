/** What a call of the AI SDK asks for, as messages and options of generate(). */
import type { LanguageModelV3CallOptions, SharedV3Warning } from '@ai-sdk/provider'
import type { ChatMessage } from '../../generation/chat-template'
import type { GenerateOptions } from '../../generation/sampling-options'
import { templateMessages } from './prompt'

/**
 * What `providerOptions.billfish` may hold of `generateText`, `streamText` and the like: options of billfish's
 * `generate()`. Those that the AI SDK has itself go before them.
 */
export type BillfishOptions = Omit<GenerateOptions, 'signal'>

export interface Call {
  readonly messages: readonly ChatMessage[]
  readonly options: GenerateOptions
  /** What was asked for and is not done. */
  readonly warnings: SharedV3Warning[]
}

/** @throws UnsupportedFunctionalityError for prompts with files or images */
export function readCall(call: LanguageModelV3CallOptions): Call {
  const warnings: SharedV3Warning[] = []
  if ((call.tools?.length ?? 0) > 0) {
    warnings.push({ type: 'unsupported', feature: 'tools', details: 'The model is not told of them.' })
  }
  const { responseFormat } = call
  const messages = templateMessages(call.prompt)
  if (responseFormat?.type !== 'json') return { messages, options: generateOptions(call), warnings }
  const details = 'The prompt asks for JSON, but the model may write something else.'
  warnings.push({ type: 'unsupported', feature: 'responseFormat', details })
  return { messages: withInstruction(messages, responseFormat.schema), options: generateOptions(call), warnings }
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

function generateOptions(call: LanguageModelV3CallOptions): GenerateOptions {
  const given: GenerateOptions = {
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
