import { randomUUID } from 'node:crypto'
import { BillfishError } from '../common/errors'
import type { Generation } from '../generation/generation'
import type { Model } from '../model'
import { onAbort } from '../options/signal'

/** A workload: `batchSize` concurrent sequences with prompts of `context` tokens. */
export interface ModelLoad {
  readonly batchSize: number
  readonly context: number
}

export interface ModelRun {
  /** Milliseconds until the last sequence has its first token. */
  readonly timeToFirstToken: number
  /** Prompt tokens of all sequences over that time. */
  readonly prefillTokensPerSecond: number
  /** Of all sequences together, once each has its first token. */
  readonly decodeTokensPerSecond: number
  /** Fraction of the time each stage was busy, 0 to 1. */
  readonly utilization: readonly number[]
}

const BLOCK_SIZE = 32 // tokens a KV block

/**
 * Maximum length of a sequence in this workload. Sequences whose prompts finish first decode while the other prompts
 * are prefilled, of which a step takes at least a quarter of its tokens; and all of them are admitted at once only if
 * there is one more KV block for each than its prompt needs.
 */
export function lengthOf({ batchSize, context }: ModelLoad, newTokens: number, maxBatchTokens: number): number {
  const meanwhile = Math.ceil((batchSize * context) / Math.max(1, maxBatchTokens / 4)) + batchSize
  return context + Math.max(newTokens + meanwhile, BLOCK_SIZE)
}

/**
 * Generates greedily from random tokens with all sequences at once: until every prompt is prefilled, then `newTokens`
 * more tokens per sequence.
 * @param seed determines the prompts
 * @throws BillfishError INVALID_OPTION if the model length leaves no room; the reason of the signal if it aborts
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
    const options = {
      maxNewTokens,
      temperature: 0,
      repetitionPenalty: 1,
      ignoreEos: true,
      cacheSalt: randomUUID(), // nothing of an earlier run is of use
      signal: enough.signal,
    }
    const endings = await Promise.all(
      prompts.map((prompt) => follow(model.generate(prompt, options)).catch((error: unknown) => error)),
    )
    // All end with the reason of `enough`: the target was reached, or the caller aborted.
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
    `Sequences of ${model.limits.maxModelLength} tokens are too short for prompts of ${context} tokens, ${newTokens} new tokens and what is generated while other prompts are prefilled. Raise --context, or lower --contexts, --batch-sizes or --new-tokens.`,
  )
}

/** Deterministic tokens on any machine: the minimal standard generator of Park and Miller. */
function randomTokens(count: number, vocabulary: number, seed: number): number[] {
  let state = seed + 1
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647
    return state % vocabulary
  })
}
