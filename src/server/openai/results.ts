/** The results of a request's generations, and what they used. */
import type { GenerationUsage } from '../../generation/results'

/** A generation, or an answer of a chat. */
interface Work<Result> {
  result(): Promise<Result>
  cancel(reason: unknown): void
}

/** All of them; if one fails, the others end. */
export async function resultsOf<Result>(generations: readonly Work<Result>[]): Promise<Result[]> {
  try {
    return await Promise.all(generations.map((generation) => generation.result()))
  } catch (error) {
    for (const generation of generations) generation.cancel(error)
    throw error
  }
}

/** A prompt counts once, however many choices it has. @param choices of each prompt, one after the other */
export function usageOf(results: readonly { readonly usage: GenerationUsage }[], choices = results.length) {
  const prompts = results.filter((_, index) => index % choices === 0)
  const prompt = prompts.reduce((sum, { usage }) => sum + usage.promptTokens, 0)
  const cached = prompts.reduce((sum, { usage }) => sum + usage.cachedTokens, 0)
  const completion = results.reduce((sum, { usage }) => sum + usage.completionTokens, 0)
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  }
}
