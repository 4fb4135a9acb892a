/**
 * Relevance of documents to a query. Qwen3-Reranker is an ordinary language model that is asked whether a document meets the
 * requirements: its score is the probability of "yes" against "no". Converted classifiers have one label instead, whose
 * logit's sigmoid is the same.
 */
import { z } from 'zod'
import { BillfishError } from '../common/errors'
import { invalidOption } from '../options/printed'
import { optionsOf, readOptions } from '../options/read-options'
import { withOwnSignal } from '../options/signal'
import { abortSignal, text } from '../options/values'
import { cacheSaltOption } from '../pipeline/prefix-cache'
import type { Tokenizer } from '../tokenizer'
import { computeAll } from './compute-all'
import type { EmbeddingUsage } from './embed'
import { encodeText, readInputs } from './inputs'
import type { ScoreHead } from './score-head'

/** Options of {@link Model.rerank}. */
export interface RerankOptions {
  /** What makes a document relevant. Default: "Given a web search query, retrieve relevant passages that answer the query". */
  readonly instruct?: string | undefined
  /** As that of {@link GenerateOptions}. */
  readonly cacheSalt?: string | undefined
  /** Cancels the call, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

/** What {@link Model.rerank} returns. */
export interface RerankResult {
  /** The relevance of each document, from 0 to 1, in the order they were given in. */
  readonly scores: readonly number[]
  /** Indices of the documents, the most relevant first. */
  readonly order: readonly number[]
  readonly usage: EmbeddingUsage
}

/** Options of {@link Model.score}. */
export interface ScoreOptions {
  /**
   * The two answers of a language model, as texts of one token or as token ids, the one that counts as relevant last.
   * Default `['no', 'yes']`.
   */
  readonly answers?: readonly [string | number, string | number] | undefined
  /** As that of {@link GenerateOptions}. */
  readonly cacheSalt?: string | undefined
  /** Cancels the call, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

const rerankOptions = optionsOf<RerankOptions>('model.rerank()', {
  instruct: text(),
  cacheSalt: cacheSaltOption,
  signal: abortSignal(),
})
const scoreOptions = optionsOf<ScoreOptions>('model.score()', {
  answers: z
    .tuple([z.union([z.string(), z.int().min(0)]), z.union([z.string(), z.int().min(0)])])
    .describe('two texts or token ids'),
  cacheSalt: cacheSaltOption,
  signal: abortSignal(),
})

/** What scoring needs of a model. */
export interface ScoringModel {
  readonly tokenizer: Tokenizer | undefined
  readonly limits: { readonly vocabulary: number; readonly maxModelLength: number }
  /** Undefined for a language model, whose logits of two tokens are compared. */
  head(): Promise<ScoreHead | undefined>
  readonly hasLanguageHead: boolean
  /** After the last position: the logits of a language model, [vocabulary], else the normed hidden state. */
  lastOutputs(tokens: readonly number[], signal: AbortSignal, cacheSalt: string | undefined): Promise<Float32Array>
}

/** P(yes) of finished prompts, or of a classifier the sigmoid of its label. */
export async function score(model: ScoringModel, inputs: unknown, given: ScoreOptions): Promise<Float32Array> {
  const options = readOptions(scoreOptions, given)
  const all = readInputs(inputs, model.limits)
  return withOwnSignal(options.signal, async (signal) => {
    const head = await model.head()
    const scoreOf = await scorer(model, head, options, signal)
    // A finished prompt has its special tokens; a text for a classifier gets those that the checkpoint adds.
    const addSpecialTokens = head !== undefined
    const encode = async (input: string | number[]) =>
      typeof input === 'string'
        ? encodeText(model.tokenizer, input, model.limits.maxModelLength, { addSpecialTokens, signal })
        : input
    const { outputs } = await computeAll(all, signal, encode, scoreOf)
    return Float32Array.from(outputs)
  })
}

const DEFAULT_INSTRUCT = 'Given a web search query, retrieve relevant passages that answer the query'
const PREFIX =
  '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. ' +
  'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
const SUFFIX = '<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n'

/** Scores of documents for a query, in the prompt that Qwen3-Reranker was trained with. */
export async function rerank(
  model: ScoringModel,
  query: unknown,
  documents: unknown,
  given: RerankOptions,
): Promise<RerankResult> {
  const options = readOptions(rerankOptions, given)
  const { instruct = DEFAULT_INSTRUCT } = options
  if (typeof query !== 'string') throw invalidOption('The query', query, 'a text')
  const texts = readInputs(documents, model.limits)
  return withOwnSignal(options.signal, async (signal) => {
    const { maxModelLength } = model.limits
    const encode = (part: string) =>
      encodeText(model.tokenizer, part, maxModelLength, { addSpecialTokens: false, signal })
    const scoreOf = await scorer(model, await model.head(), { cacheSalt: options.cacheSalt }, signal)
    // The three parts are tokenized by themselves, as the model's authors do.
    const [prefix, suffix] = [await encode(PREFIX), await encode(SUFFIX)]
    const finished = async (document: string | number[]) => {
      if (typeof document !== 'string') throw invalidOption('A document', document, 'a text')
      const body = await encode(`<Instruct>: ${instruct}\n<Query>: ${query}\n<Document>: ${document}`)
      const tokens = [...prefix, ...body, ...suffix]
      if (tokens.length <= maxModelLength) return tokens
      throw new BillfishError(
        'INVALID_OPTION',
        `A document's prompt has ${tokens.length} tokens, but maxModelLength is ${maxModelLength}. Shorten the document, or load the model with a larger one.`,
      )
    }
    const { outputs: scores, promptTokens } = await computeAll(texts, signal, finished, scoreOf)
    const order = scores.map((_, i) => i).sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
    return { scores, order, usage: { promptTokens, totalTokens: promptTokens } }
  })
}

/** What turns a prompt into a score. @throws BillfishError UNSUPPORTED_MODEL for a model that has no scores */
async function scorer(
  model: ScoringModel,
  head: ScoreHead | undefined,
  { answers: [negative, positive] = ['no', 'yes'], cacheSalt }: ScoreOptions,
  signal: AbortSignal,
): Promise<(tokens: readonly number[], signal: AbortSignal) => Promise<number>> {
  if (head) {
    return async (tokens, own) => {
      const states = await model.lastOutputs(tokens, own, cacheSalt)
      return sigmoid(head.weight.reduce((sum, weight, i) => sum + weight * (states[i] as number), 0))
    }
  }
  if (!model.hasLanguageHead) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      'This model gives no scores: its checkpoint has neither an lm_head nor a score.weight of one label. embed() gives its vectors.',
    )
  }
  const [yes, no] = [await answerToken(model, positive, signal), await answerToken(model, negative, signal)]
  return async (tokens, own) => {
    const logits = await model.lastOutputs(tokens, own, cacheSalt)
    return sigmoid((logits[yes] as number) - (logits[no] as number))
  }
}

async function answerToken(model: ScoringModel, answer: string | number, signal: AbortSignal): Promise<number> {
  if (typeof answer === 'number') {
    const { vocabulary } = model.limits
    if (answer < vocabulary) return answer
    throw invalidOption('answers', answer, `token ids below ${vocabulary}`)
  }
  const ids = await encodeText(model.tokenizer, answer, model.limits.maxModelLength, {
    addSpecialTokens: false,
    signal,
  })
  if (ids.length === 1) return ids[0] as number
  throw new BillfishError(
    'UNSUPPORTED_MODEL',
    `The answer "${answer}" is ${ids.length} tokens in this vocabulary; models that are scored by it have one.`,
  )
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x))
}
