import { BillfishError } from '../common/errors'
import { optionsOf, readOptions } from '../options/read-options'
import { withOwnSignal } from '../options/signal'
import { abortSignal, flag, text, whole } from '../options/values'
import { cacheSaltOption } from '../pipeline/prefix-cache'
import type { Tokenizer } from '../tokenizer'
import { computeAll } from './compute-all'
import { encodeText, readInputs } from './inputs'
import { type EmbeddingConfig, instructionPrompt, type Pooling } from './pooling'

/** Options of {@link Model.embed}. */
export interface EmbedOptions {
  /**
   * What the texts are queries for, as one sentence: "Given a web search query, retrieve relevant passages that answer the
   * query". It is put before each text in the form that the checkpoint was trained with. Documents have none.
   */
  readonly instruct?: string | undefined
  /**
   * Keeps only the first so many numbers of each vector, before it is normalized, as models trained for it (Matryoshka)
   * allow. From 1 to the hidden size, which is the default.
   */
  readonly dimensions?: number | undefined
  /** Makes vectors of length 1. Default: what the checkpoint's modules.json says; true without one. */
  readonly normalize?: boolean | undefined
  /** As that of {@link GenerateOptions}. */
  readonly cacheSalt?: string | undefined
  /** Cancels the call, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

export interface EmbeddingUsage {
  /** Tokens of all inputs, special ones and instructions included. */
  readonly promptTokens: number
  readonly totalTokens: number
}

/** What {@link Model.embed} returns. */
export interface EmbeddingResult {
  /** One vector of fp32 numbers for each input, in their order. */
  readonly embeddings: readonly Float32Array[]
  readonly usage: EmbeddingUsage
}

const embedOptions = optionsOf<EmbedOptions>('model.embed()', {
  instruct: text(),
  dimensions: whole(1, 2 ** 24, 'a whole number from 1 to the hidden size'),
  normalize: flag(),
  cacheSalt: cacheSaltOption,
  signal: abortSignal(),
})

/** What embedding needs of a model. */
export interface EmbeddingModel {
  config(): Promise<EmbeddingConfig>
  readonly tokenizer: Tokenizer | undefined
  readonly limits: { readonly vocabulary: number; readonly maxModelLength: number; readonly hiddenSize: number }
  /** The hidden states after the final norm: of the last position, or of all, [positions * hiddenSize]. */
  normedStates(
    tokens: readonly number[],
    rows: 'all' | 'last',
    signal: AbortSignal,
    cacheSalt: string | undefined,
  ): Promise<Float32Array>
}

export async function embed(model: EmbeddingModel, inputs: unknown, given: EmbedOptions): Promise<EmbeddingResult> {
  const { limits } = model
  const options = readOptions(embedOptions, given)
  const { instruct, dimensions = limits.hiddenSize } = options
  if (dimensions > limits.hiddenSize) {
    throw new BillfishError(
      'INVALID_OPTION',
      `dimensions is ${dimensions}, but the vectors of this model have ${limits.hiddenSize} numbers.`,
    )
  }
  const all = readInputs(inputs, limits)
  if (instruct !== undefined && all.some((input) => typeof input !== 'string')) {
    throw new BillfishError('INVALID_OPTION', 'instruct is put before texts; token ids must have their instruction.')
  }
  return withOwnSignal(options.signal, async (signal) => {
    const config = await model.config()
    const prompt = instruct === undefined ? config.defaultPrompt : instructionPrompt(instruct, config.queryPrompt)
    const normalize = options.normalize ?? config.normalize
    const encode = (text: string, addSpecialTokens = true) =>
      encodeText(model.tokenizer, text, limits.maxModelLength, { addSpecialTokens, signal })
    const isText = (input: string | number[]) => typeof input === 'string'
    const skipped = config.includePrompt || prompt === '' || !all.some(isText) ? 0 : await promptLength(prompt, encode)
    const { outputs, promptTokens } = await computeAll(
      all,
      signal,
      async (input) => (typeof input === 'string' ? encode(prompt + input) : input),
      async (tokens, own, input) => {
        const rows = config.pooling === 'lasttoken' ? 'last' : 'all'
        const states = await model.normedStates(tokens, rows, own, options.cacheSalt)
        const first = isText(input) ? Math.min(skipped * limits.hiddenSize, states.length - limits.hiddenSize) : 0
        return finished(pooled(states.subarray(first), config.pooling, limits.hiddenSize), dimensions, normalize)
      },
    )
    return { embeddings: outputs, usage: { promptTokens, totalTokens: promptTokens } }
  })
}

/** Tokens of the text before an input, without what ends a text of its own, as sentence-transformers counts them. */
async function promptLength(
  prompt: string,
  encode: (text: string, addSpecialTokens?: boolean) => Promise<readonly number[]>,
): Promise<number> {
  const [whole, plain] = [await encode(prompt), await encode(prompt, false)]
  return whole.at(-1) === plain.at(-1) ? whole.length : whole.length - 1
}

function pooled(states: Float32Array, pooling: Pooling, width: number): Float32Array {
  if (pooling === 'lasttoken') return states.slice(states.length - width)
  if (pooling === 'cls') return states.slice(0, width)
  const rows = states.length / width
  const sums = new Float64Array(width)
  for (const [i, value] of states.entries()) sums[i % width] = (sums[i % width] as number) + value
  return Float32Array.from(sums, (sum) => sum / rows)
}

/** Cut, and then normalized in fp64. */
function finished(vector: Float32Array, dimensions: number, normalize: boolean): Float32Array {
  const cut = vector.slice(0, dimensions)
  if (!normalize) return cut
  const length = Math.sqrt(cut.reduce((sum, value) => sum + value * value, 0))
  return length > 0 ? cut.map((value) => value / length) : cut
}
