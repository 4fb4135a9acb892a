/** A whole answer, and how it ended, as the AI SDK tells it. */
import type {
  JSONObject,
  LanguageModelV3Content,
  LanguageModelV3FinishReason,
  LanguageModelV3Usage,
} from '@ai-sdk/provider'
import type { ChatResult, ChatUsage } from '../../generation/chat-generation'

/** @param complete indices of the calls that were not cut off: others are left out */
export function contentOf({ reasoning, content, toolCalls }: ChatResult, complete: ReadonlySet<number>) {
  const calls = toolCalls.filter((_, index) => complete.has(index))
  return [
    ...(reasoning === undefined ? [] : [{ type: 'reasoning' as const, text: reasoning }]),
    ...(content ? [{ type: 'text' as const, text: content }] : []),
    ...calls.map((call) => ({
      type: 'tool-call' as const,
      toolCallId: call.id,
      toolName: call.name,
      input: call.arguments,
    })),
  ] satisfies LanguageModelV3Content[]
}

/** The seed that repeats the answer, what stopped it, and what was asked for of billfish alone, under `billfish`. */
export function answerEnd({ finishReason, usage, seed, stoppedBy, timings, logprobs }: ChatResult) {
  const own = {
    seed,
    timings: { ...timings },
    ...(stoppedBy !== undefined && { stoppedBy }),
    ...(logprobs !== undefined && { logprobs: logprobs as unknown as JSONObject[] }),
  }
  return {
    finishReason: {
      unified: finishReason === 'tool_calls' ? 'tool-calls' : finishReason,
      raw: finishReason,
    } satisfies LanguageModelV3FinishReason,
    usage: usageOf(usage),
    providerMetadata: { billfish: own satisfies JSONObject },
  }
}

/** The end of a stream that failed. */
export function failedEnd() {
  return {
    finishReason: { unified: 'error', raw: undefined } satisfies LanguageModelV3FinishReason,
    usage: {
      inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
      outputTokens: { total: undefined, text: undefined, reasoning: undefined },
    } satisfies LanguageModelV3Usage,
  }
}

function usageOf({ promptTokens, cachedTokens, completionTokens, reasoningTokens }: ChatUsage): LanguageModelV3Usage {
  return {
    inputTokens: {
      total: promptTokens,
      noCache: promptTokens - cachedTokens,
      cacheRead: cachedTokens,
      cacheWrite: undefined,
    },
    outputTokens: {
      total: completionTokens,
      text: completionTokens - reasoningTokens,
      reasoning: reasoningTokens,
    },
  }
}
