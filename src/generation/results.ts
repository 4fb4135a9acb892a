import type { AnswerEvent } from '../chat/answer-events'
import type { SampledToken as TokenLogprob } from '../native/addon'

export type { TokenLogprob }

/** Why a generation ended: an end token, a stop string or its complete form (`stop`), or its maximum length. */
export type FinishReason = 'stop' | 'length'

/** A part of a generation: the tokens since the last chunk, and the text that is now certain. */
export interface GenerationChunk {
  /** Never splits a character or part of a stop string; may be empty, and may lag behind `tokenIds`. */
  readonly text: string
  readonly tokenIds: readonly number[]
  /** One per token, if `logprobs` was asked for. */
  readonly logprobs?: readonly TokenLogprob[] | undefined
  /** What an AnswerReader read in its text. @internal */
  readonly events?: readonly AnswerEvent[] | undefined
}

/** Token counts. */
export interface GenerationUsage {
  readonly promptTokens: number
  /** Tokens of the prompt whose keys and values were in the prefix cache, and were not computed again. */
  readonly cachedTokens: number
  readonly completionTokens: number
  readonly totalTokens: number
}

/** Wall-clock times as seen by the caller, including tokenization and waiting for other generations. */
export interface GenerationTimings {
  /** Milliseconds from generate() to the first token. */
  readonly timeToFirstToken: number
  /** Milliseconds from generate() to the last token. */
  readonly total: number
  /** Prompt tokens divided by the time to the first token. */
  readonly prefillTokensPerSecond: number
  /** Tokens per second after the first; 0 if there was only one. */
  readonly decodeTokensPerSecond: number
}

/** The result of a generation. Plain data that survives JSON.stringify() and JSON.parse() unchanged. */
export interface GenerationResult {
  /** Includes the end token, if one ended the generation. */
  readonly tokenIds: readonly number[]
  /** Empty if the checkpoint has no tokenizer. */
  readonly text: string
  readonly finishReason: FinishReason
  /** The stop string or end token that ended it; undefined where nothing could follow in the form of `structuredOutput`. */
  readonly stoppedBy?: string | number | undefined
  readonly logprobs?: readonly TokenLogprob[] | undefined
  /** The seed used, in decimal digits. Passed as the option `seed`, it reproduces the answer. */
  readonly seed: string
  readonly usage: GenerationUsage
  readonly timings: GenerationTimings
}
