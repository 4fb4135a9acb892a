/** How an answer ended, as the AI SDK tells it. */
import type { JSONObject, LanguageModelV3FinishReason, LanguageModelV3Usage } from '@ai-sdk/provider'
import type { GenerationResult } from '../../generation/results'

/** The seed that repeats the answer, what stopped it, and what was asked for of billfish alone, under `billfish`. */
export function answerEnd({ finishReason, usage, seed, stoppedBy, timings, logprobs }: GenerationResult) {
  const own = {
    seed,
    timings: { ...timings },
    ...(stoppedBy !== undefined && { stoppedBy }),
    ...(logprobs !== undefined && { logprobs: logprobs as unknown as JSONObject[] }),
  }
  return {
    finishReason: { unified: finishReason, raw: finishReason } satisfies LanguageModelV3FinishReason,
    usage: usageOf(usage.promptTokens, usage.completionTokens),
    providerMetadata: { billfish: own satisfies JSONObject },
  }
}

/** The end of a stream that failed. */
export function failedEnd() {
  return {
    finishReason: { unified: 'error', raw: undefined } satisfies LanguageModelV3FinishReason,
    usage: usageOf(undefined, undefined),
  }
}

function usageOf(input: number | undefined, output: number | undefined): LanguageModelV3Usage {
  return {
    inputTokens: { total: input, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: output, text: output, reasoning: undefined },
  }
}
