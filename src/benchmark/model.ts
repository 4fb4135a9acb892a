import { BillfishError } from '../errors'
import type { Generation } from '../generation/generation'
import type { Model } from '../model'
import { onAbort } from '../options/signal'

/** So many sequences at the same time, each with a prompt of so many tokens. */
export interface ModelLoad {
  readonly batchSize: number
  readonly context: number
}

export interface ModelRun {
  /** Milliseconds to the last sequence's first token. */
  readonly timeToFirstToken: number
  /** Tokens of all prompts over that time. */
  readonly prefillTokensPerSecond: number
  /** Of all sequences together, once each of them has its first token. */
  readonly decodeTokensPerSecond: number
  /** How much of the time each stage was busy, 0 to 1. */
  readonly utilization: readonly number[]
}

const BLOCK_SIZE = 32 // tokens a KV block

/**
 * The length that a sequence of this load may come to. Those whose prompts are done first generate while the other
 * prompts are computed, of which a step brings a quarter of its tokens at least; and all of them are admitted at once
 * only where there is a KV block more for each than its prompt takes.
 */
export function lengthOf({ batchSize, context }: ModelLoad, newTokens: number, maxBatchTokens: number): number {
  const meanwhile = Math.ceil((batchSize * context) / Math.max(1, maxBatchTokens / 4)) + batchSize
  return context + Math.max(newTokens + meanwhile, BLOCK_SIZE)
}

/**
 * Generates with all sequences at once, greedy, from random tokens: until every prompt has been computed, and then
 * `newTokens` tokens more for each sequence.
 * @param seed the same seed, the same prompts
 * @throws BillfishError INVALID_OPTION where the model's length leaves no room for the tokens; the signal's reason once it
 *   aborts
 */
export async function measureModel(
  model: Model,
  { batchSize, context }: ModelLoad,
  newTokens: number,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<ModelRun> {
  signal?.throwIfAborted()
  const firstStep = (model.trace().steps.at(-1)?.step ?? -1) + 1
  const enough = new AbortController()
  const abort = () => enough.abort(signal?.reason)
  const stopListening = onAbort(signal, abort)
  const started = performance.now()
  let promptsLeft = batchSize
  let promptsDone = 0
  let decoded = 0
  let lastDecoded = 0
  const follow = async (generation: Generation): Promise<unknown> => {
    let first = true
    for await (const { tokenIds } of generation) {
      if (tokenIds.length === 0) continue
      const now = performance.now()
      if (promptsLeft === 0) {
        decoded += tokenIds.length
        lastDecoded = now
        if (decoded >= batchSize * newTokens) enough.abort()
      } else if (first && --promptsLeft === 0) promptsDone = now
      first = false
    }
    throw tooShort(model, context, newTokens)
  }
  try {
    const prompts = Array.from({ length: batchSize }, (_, i) =>
      randomTokens(context, model.limits.vocabulary, seed * batchSize + i),
    )
    const maxNewTokens = model.limits.maxModelLength - context
    if (maxNewTokens <= newTokens) throw tooShort(model, context, newTokens)
    const options = { maxNewTokens, temperature: 0, repetitionPenalty: 1, ignoreEos: true, signal: enough.signal }
    const endings = await Promise.all(
      prompts.map((prompt) => follow(model.generate(prompt, options)).catch((error: unknown) => error)),
    )
    // All end with the reason of `enough`: because enough has been generated, or because the signal says so.
    const ended = decoded >= batchSize * newTokens && !signal?.aborted
    const failure = endings.find((error) => !ended || error !== enough.signal.reason)
    if (failure !== undefined) throw failure
  } finally {
    stopListening()
  }
  return {
    timeToFirstToken: promptsDone - started,
    prefillTokensPerSecond: (batchSize * context * 1000) / (promptsDone - started),
    decodeTokensPerSecond: (decoded * 1000) / (lastDecoded - promptsDone),
    utilization: model.trace().slice(firstStep).utilization(),
  }
}

function tooShort(model: Model, context: number, newTokens: number): BillfishError {
  return new BillfishError(
    'INVALID_OPTION',
    `Sequences of ${model.limits.maxModelLength} tokens are too short for prompts of ${context} and ${newTokens} tokens behind them, and for what is generated while other prompts are computed. Raise --context, or lower --contexts, --batch-sizes or --new-tokens.`,
  )
}

/** The same tokens for the same seed, whatever the machine: a minimal standard generator (Park and Miller). */
function randomTokens(count: number, vocabulary: number, seed: number): number[] {
  let state = seed + 1
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647
    return state % vocabulary
  })
}
