import { randomInt } from 'node:crypto'
import { types } from 'node:util'
import { z } from 'zod'
import { type StructuredOutput, structuredOutput } from '../chat/structured/spec'
import { BillfishError } from '../common/errors'
import type { SamplingSpec } from '../native/addon'
import { invalidOption, printed } from '../options/printed'
import { optionsOf } from '../options/read-options'
import { isRecord } from '../options/snapshot'
import { abortSignal, flag, members, whole } from '../options/values'
import { cacheSaltOption } from '../pipeline/prefix-cache'
import type { ChatTemplateOptions } from './chat-template'
import { continueFinalMessageOption } from './final-message'
import type { TokenRules } from './token-rules'

/** Options of {@link Model.generate}. The checkpoint's defaults come from its generation_config.json. */
export interface GenerateOptions {
  /** Tokens to generate at most. Default: the checkpoint's (`max_new_tokens`, `max_length`), else what maxModelLength allows. */
  readonly maxNewTokens?: number | undefined
  /** End tokens and `stopTokenIds` are not sampled before this many tokens. Default: the checkpoint's, else 0. */
  readonly minNewTokens?: number | undefined
  /**
   * 0 is greedy; 1 samples from the unmodified distribution. Default: the checkpoint's, which is 0 if it does not
   * sample (`do_sample`); but 1 if topK, topP or minP is given, which would have no effect at 0.
   */
  readonly temperature?: number | undefined
  /** Samples from this many most likely tokens; 0 for all. Default: the checkpoint's, else 0. */
  readonly topK?: number | undefined
  /** Samples from the smallest set of tokens with this total probability. Default: the checkpoint's, else 1. */
  readonly topP?: number | undefined
  /** Drops tokens less likely than this share of the likeliest token's probability. Default: the checkpoint's, else 0. */
  readonly minP?: number | undefined
  /**
   * Divides positive and multiplies negative logits of tokens in prompt and answer. Default: the checkpoint's, else 1.
   */
  readonly repetitionPenalty?: number | undefined
  /** Subtracted from the logits of tokens already in the answer; -2 to 2. Default 0. */
  readonly presencePenalty?: number | undefined
  /** Subtracted from a token's logit once for each time it is already in the answer; -2 to 2. Default 0. */
  readonly frequencyPenalty?: number | undefined
  /** The same seed gives the same answer (on the same devices). A number, bigint or decimal digits. Default: random. */
  readonly seed?: number | bigint | string | undefined
  /** Token id -> value added to its logit; -100 effectively bans a token. */
  readonly logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number> | undefined
  /** Strings that end the answer and are not part of it. Default: `stop_strings` of the checkpoint, else none. */
  readonly stop?: string | readonly string[] | undefined
  /** Token ids that end the answer, in addition to those of the checkpoint. */
  readonly stopTokenIds?: readonly number[] | undefined
  /** Reports the log-probability of each token and of this many most likely alternatives. Default: no report. */
  readonly logprobs?: number | undefined
  /** Continues past the checkpoint's end tokens and stop strings. Default false. */
  readonly ignoreEos?: boolean | undefined
  /**
   * Only generations with the same salt share keys and values of what they begin with (see `prefixCache` of loadModel()),
   * so that nobody can tell from times or `usage.cachedTokens` what others have asked. 1 to 1024 characters. Default: none;
   * those without one share among themselves.
   */
  readonly cacheSalt?: string | undefined
  /**
   * The form of the answer: `{ json: schema }`, `{ json: true }` for any object, `{ regex }`, `{ choice: [...] }` or
   * `{ grammar }`. It goes before `minNewTokens`, `logitBias` and penalties, and begins behind the reasoning of `chat()`; what
   * `stop` and `maxNewTokens` cut off is incomplete.
   */
  readonly structuredOutput?: StructuredOutput | undefined
  /** Cancels the generation, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
  /** For a text: adds what the tokenizer puts around one, such as a leading `<s>`. Default true. */
  readonly addSpecialTokens?: boolean | undefined
  /** For messages: template options. */
  readonly chatTemplate?: ChatTemplateOptions | undefined
}

/** Resolved options: defaults filled in, and independent of objects of the caller. */
export interface ResolvedOptions {
  readonly repetitionPenalty: number
  readonly presencePenalty: number
  readonly frequencyPenalty: number
  readonly stop: readonly string[]
  readonly endTokenIds: ReadonlySet<number>
  readonly rules: TokenRules
  /** Number of alternatives to report; -1 for no log-probabilities. */
  readonly logprobs: number
  readonly signal: AbortSignal | undefined
  /** Native sampling options that do not change from token to token. */
  readonly sampling: Omit<SamplingSpec, 'step' | 'promptTokens' | 'generatedTokens' | 'bannedTokens' | 'matcher'>
}

/** Sampling defaults of a checkpoint; options of generate() override them. */
export interface GenerationDefaults {
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly repetitionPenalty: number
  /** Undefined: up to the model length. */
  readonly maxNewTokens: number | undefined
  /** Maximum tokens of prompt and answer, if `maxNewTokens` is undefined. */
  readonly maxLength: number | undefined
  readonly minNewTokens: number | undefined
  /** Minimum tokens of prompt and answer, if `minNewTokens` is undefined. */
  readonly minLength: number | undefined
  readonly stop: readonly string[]
  /** Token ids that end a generation. */
  readonly endTokenIds: ReadonlySet<number>
  readonly rules: TokenRules
  /** Settings of generation_config.json and config.json that are ignored, and why; for the user. */
  readonly notices: readonly string[]
}

const MAX_INT32 = 2 ** 31 - 1

export const generateOptions = optionsOf<GenerateOptions>('model.generate()', {
  maxNewTokens: whole(1, MAX_INT32, 'a whole number of at least 1'),
  minNewTokens: whole(0, MAX_INT32, 'a whole number of at least 0'),
  temperature: z.number().min(0).max(100).describe('a number from 0 (the likeliest token) to 100'),
  topK: whole(0, MAX_INT32, 'a whole number of at least 1, or 0 for all tokens'),
  topP: z.number().gt(0).max(1).describe('a number greater than 0 and at most 1'),
  minP: z.number().min(0).max(1).describe('a number from 0 to 1'),
  repetitionPenalty: z.number().min(0.01).max(100).describe('a number from 0.01 to 100 (1: none)'),
  presencePenalty: z.number().min(-2).max(2).describe('a number from -2 to 2'),
  frequencyPenalty: z.number().min(-2).max(2).describe('a number from -2 to 2'),
  seed: z
    .union([
      whole(0, Number.MAX_SAFE_INTEGER),
      z
        .bigint()
        .min(0n)
        .lt(1n << 64n),
      z.string().refine((text) => /^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n),
    ])
    .describe('a whole number from 0 to 2^53 - 1, or a bigint or its decimal digits below 2^64'),
  logitBias: z
    .custom<NonNullable<GenerateOptions['logitBias']>>((value) => isRecord(value) || types.isMap(value))
    .describe('an object or a Map from token ids to numbers'),
  stop: z
    .union([z.string().min(1), z.array(z.string().min(1))])
    .describe('a string or an array of strings, none of them empty'),
  stopTokenIds: z.array(whole(0, MAX_INT32, 'a token id')).describe('an array of token ids'),
  logprobs: whole(0, 1000),
  ignoreEos: flag(),
  cacheSalt: cacheSaltOption,
  structuredOutput,
  signal: abortSignal(),
  addSpecialTokens: flag(),
  chatTemplate: members({
    addGenerationPrompt: flag().optional(),
    continueFinalMessage: continueFinalMessageOption.optional(),
    tools: z.array(z.record(z.string(), z.unknown())).describe('an array of objects').optional(),
    variables: z.record(z.string(), z.unknown()).describe('an object of names and values').optional(),
  }).describe(
    'an object { addGenerationPrompt?: boolean, continueFinalMessage?: boolean | string, tools?: object[], variables?: object }',
  ),
})

/** Length limits of an answer. */
export interface AnswerLength {
  readonly maxNewTokens: number
  readonly minNewTokens: number
}

/**
 * Checks the requested lengths and fills in the defaults.
 * @param maxModelLength maximum tokens of prompt and answer
 * @throws BillfishError INVALID_OPTION naming the option, its value and the valid range
 */
export function answerLength(
  given: Pick<GenerateOptions, keyof AnswerLength>,
  defaults: Pick<GenerationDefaults, 'maxNewTokens' | 'maxLength' | 'minNewTokens' | 'minLength'>,
  promptLength: number,
  maxModelLength: number,
): AnswerLength {
  const room = maxModelLength - promptLength
  const { maxLength = maxModelLength, minLength = 0 } = defaults
  const maxNewTokens = given.maxNewTokens ?? Math.min(defaults.maxNewTokens ?? maxLength - promptLength, room)
  const defaultMin = defaults.minNewTokens ?? Math.max(0, minLength - promptLength)
  const minNewTokens = given.minNewTokens ?? Math.min(defaultMin, maxNewTokens)
  if (room < 1) {
    const message = `The prompt is ${1 - room} tokens too long to generate even one token.`
    throw new BillfishError('INVALID_OPTION', `${message} Shorten it, or load the model with a larger maxModelLength.`)
  }
  if (maxNewTokens < 1) {
    const limit = `max_length in the checkpoint's generation_config.json is ${maxLength} for prompt and answer combined`
    throw new BillfishError('INVALID_OPTION', `The prompt has ${promptLength} tokens, but ${limit}; pass maxNewTokens.`)
  }
  if (maxNewTokens > room) {
    const advice = 'ask for fewer, shorten the prompt, or load the model with a larger maxModelLength'
    throw invalidOption('maxNewTokens', maxNewTokens, `at most ${room}, which is what fits after the prompt; ${advice}`)
  }
  if (minNewTokens > maxNewTokens) {
    throw invalidOption('minNewTokens', minNewTokens, `at most maxNewTokens, which is ${maxNewTokens}`)
  }
  return { maxNewTokens, minNewTokens }
}

/**
 * Fills in the defaults, except for {@link answerLength}, which depends on the prompt.
 * @param given validated {@link generateOptions}
 * @param vocabulary upper bound (exclusive) of token ids
 * @throws BillfishError INVALID_OPTION naming the option, its value and the valid range
 */
export function resolveOptions(
  given: GenerateOptions,
  defaults: GenerationDefaults,
  vocabulary: number,
): ResolvedOptions {
  const ends = new Set([...(given.ignoreEos ? [] : defaults.endTokenIds), ...(given.stopTokenIds ?? [])])
  for (const id of ends) {
    if (id >= vocabulary) throw invalidOption('stopTokenIds', id, `below the size of the vocabulary, ${vocabulary}`)
  }
  const narrowed = given.topK !== undefined || given.topP !== undefined || given.minP !== undefined
  const seed = BigInt(given.seed ?? randomInt(2 ** 48 - 1))
  const penalties = {
    repetitionPenalty: given.repetitionPenalty ?? defaults.repetitionPenalty,
    presencePenalty: given.presencePenalty ?? 0,
    frequencyPenalty: given.frequencyPenalty ?? 0,
  }
  return {
    ...penalties,
    stop: [given.stop ?? (given.ignoreEos ? [] : defaults.stop)].flat(),
    rules: defaults.rules,
    endTokenIds: ends,
    logprobs: given.logprobs ?? -1,
    signal: given.signal,
    sampling: {
      ...penalties,
      temperature: given.temperature ?? (defaults.temperature || (narrowed ? 1 : 0)),
      topK: given.topK ?? defaults.topK,
      topP: given.topP ?? defaults.topP,
      minP: given.minP ?? defaults.minP,
      seed: [Number(seed & 0xffffffffn), Number(seed >> 32n)],
      logprobs: given.logprobs ?? -1,
      ...biasArrays(given.logitBias, vocabulary),
    },
  }
}

function biasArrays(
  bias: GenerateOptions['logitBias'],
  vocabulary: number,
): Pick<SamplingSpec, 'biasTokens' | 'biasValues'> {
  const given: [unknown, unknown][] = types.isMap(bias) ? [...bias] : Object.entries(bias ?? {})
  if (given.length === 0) return {}
  // Object keys are strings: accept only decimal digits, unlike Number(), which takes '' and '0x10'.
  const entries = given.map(([key, value]) => [
    typeof key === 'string' && /^(0|[1-9]\d*)$/.test(key) ? Number(key) : key,
    value,
  ])
  for (const [id, value] of entries) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabulary) {
      const message = `logitBias has the key ${printed(id)}, but keys must be token ids from 0 to ${vocabulary - 1}.`
      throw new BillfishError('INVALID_OPTION', message)
    }
    if (typeof value !== 'number' || !(Math.abs(value) <= 100)) {
      throw invalidOption(`logitBias[${id}]`, value, 'a number from -100 to 100')
    }
  }
  return {
    biasTokens: Int32Array.from(entries, ([id]) => id as number),
    biasValues: Float32Array.from(entries, ([, value]) => value as number),
  }
}
