/** The results of a request's generations, and what they used. */
import type { Generation } from '../../generation/generation'
import type { GenerationResult } from '../../generation/results'

/** All of them; if one fails, the others end. */
export async function resultsOf(generations: readonly Generation[]): Promise<GenerationResult[]> {
  try {
    return await Promise.all(generations.map((generation) => generation.result()))
  } catch (error) {
    for (const generation of generations) generation.cancel(error)
    throw error
  }
}

/** A prompt counts once, however many choices it has. @param choices of each prompt, one after the other */
export function usageOf(results: readonly GenerationResult[], choices = results.length) {
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
