import type { SampledToken } from '../native/addon'

/** Why a generation ended: an end token or stop string (`stop`), or its length. */
export type FinishReason = 'stop' | 'length'

/** A token with its log-probability (natural log, of the model's unmodified distribution) and the likeliest alternatives. */
export type TokenLogprob = SampledToken

/** A piece of a generation: the tokens that came since the last piece, and the text that is now certain. */
export interface GenerationChunk {
  /** Never cuts a character in two; may be empty, and may lag behind `tokenIds`. */
  readonly text: string
  readonly tokenIds: readonly number[]
  /** One a token, if `logprobs` was asked for. */
  readonly logprobs?: readonly TokenLogprob[] | undefined
}

export interface GenerationUsage {
  readonly promptTokens: number
  readonly completionTokens: number
  readonly totalTokens: number
}

/** Wall-clock times as the caller sees them, tokenizing the prompt and waiting for other generations included. */
export interface GenerationTimings {
  /** Milliseconds from generate() to the first token. */
  readonly timeToFirstToken: number
  /** Milliseconds from generate() to the last token. */
  readonly total: number
  /** Prompt tokens over the time to the first token, a second. */
  readonly prefillTokensPerSecond: number
  /** Tokens after the first over the time that they took, a second; 0 if there was only one. */
  readonly decodeTokensPerSecond: number
}

/** What a generation came to. Plain data: it is the same after JSON.stringify() and JSON.parse(). */
export interface GenerationResult {
  /** The end token, where one ended the generation, included. */
  readonly tokenIds: readonly number[]
  /** Empty if the checkpoint has no tokenizer. */
  readonly text: string
  readonly finishReason: FinishReason
  /** The stop string or end token that ended it. */
  readonly stoppedBy?: string | number | undefined
  readonly logprobs?: readonly TokenLogprob[] | undefined
  /** The seed that was used, in decimal digits: given as an option, it gives the same answer again. */
  readonly seed: string
  readonly usage: GenerationUsage
  readonly timings: GenerationTimings
}
