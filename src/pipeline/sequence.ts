import type { SampledToken, SamplingSpec } from '../native/addon'
import type { NgramIndex } from './ngram-index'

/** Results of one step for a sequence, or for one token of its draft. */
export interface SequenceStep {
  /** The token sampled after its last token; undefined during prefill. */
  readonly sample?: SampledToken | undefined
  /** [rows * outputWidth] for the rows of this step, if requested. */
  readonly logits?: Float32Array | undefined
  /** Per embedding and layer, [rows * hidden] for the rows of this step, if requested. */
  readonly hiddenStates?: readonly Float32Array[] | undefined
  /** Whether a requested logit is NaN or infinite; then nothing else is usable. */
  readonly nonFinite: boolean
  /** Input of the head, [rows * hidden] for the rows of this step, if hidden states and logits are requested. */
  readonly normedStates?: Float32Array | undefined
}

/** A request to the runner. */
export interface SequenceRequest {
  readonly prompt: readonly number[]
  /** Maximum tokens after the prompt. */
  readonly maxNewTokens: number
  /**
   * Sampling of the token after those that are known and those of a draft; if undefined, the sequence ends after prefill.
   */
  readonly sampling?: ((draft: readonly number[]) => SamplingSpec) | undefined
  /**
   * Whether {@link sampling} can tell now how to sample behind a draft, which is only then made. Default: always.
   */
  readonly speculates?: (() => boolean) | undefined
  /** Of all rows, or of the prompt's last one. */
  readonly wantLogits?: boolean | 'last'
  /** Only sequences with the same salt share KV blocks. Default: none, which is a salt of its own. */
  readonly cacheSalt?: string | undefined
  readonly wantHiddenStates?: boolean
  /**
   * Handles the results of a step; returns the token to continue with, or undefined to end. Called again with those of
   * the same step's draft, as far as it was right.
   */
  onStep(step: SequenceStep): number | undefined
  /** Called when the sequence has ended and its blocks are free; `error` is set unless onStep ended it. */
  onEnd(error?: unknown): void
}

/**
 * A request owned by the scheduler. Of its tokens (prompt and accepted ones), `computed` are in the KV cache of every
 * stage, and `scheduled` will be once the steps in flight complete:
 *
 *     0 ........ computed ........ scheduled ........ tokens.length
 *       in cache         in flight         pending
 *
 * A step may also compute a draft behind them. It becomes part of the tokens once it has proven right; what is in
 * the cache behind these counts as empty and is written over.
 */
export class Sequence {
  readonly tokens: number[]
  computed = 0
  scheduled = 0
  /** KV blocks: position p is in blocks[p / blockSize]. */
  blocks: number[] = []
  /** Its first blocks that are in the prefix cache, found there or registered; nobody writes to them. */
  keyedBlocks = 0
  /** Keys of its first blocks, as far as they were asked for. */
  readonly blockKeys: string[] = []
  /** Tokens that may follow its own; the next step may check them. */
  draft: readonly number[] = []
  /** Where drafts are found, once one was looked for. */
  ngrams: NgramIndex | undefined
  /** Tokens of the prompt that were in the prefix cache when its first step began. */
  cachedTokens = 0
  /** Where its recurrent states are, while it runs. */
  slot: number | undefined
  /** Rows whose results onStep has been given; those of a recomputation are not handed over again. */
  delivered = 0
  /** Its steps in flight: several while a prompt flows through the stages in chunks. */
  stepsInFlight = 0
  /** Number of its last step; the schedule serves the longest waiting first. */
  lastStep = -1
  /** Whether it is suspended because its reader is behind. */
  paused = false
  /** Position to recompute from once none of its steps is in flight; later results are discarded. */
  rewindTo: number | undefined
  /**
   * Tokens to compute in search steps, alone in their batch, to find the module where its non-finite logits originate.
   */
  searchTo = 0
  /** Whether a search has run before. */
  searched = false
  /** Set to end the sequence as soon as none of its steps is in flight. */
  ending: { error?: unknown } | undefined

  /** @param arrival sequence number of the request; lower ones came first and take precedence */
  constructor(
    readonly request: SequenceRequest,
    readonly arrival: number,
  ) {
    this.tokens = [...request.prompt]
  }

  get promptLength(): number {
    return this.request.prompt.length
  }

  /** Tokens not in any step yet. */
  get pending(): number {
    return this.tokens.length - this.scheduled
  }

  /** Whether it is decoding: one token per step, each after the previous one was sampled. */
  get decodes(): boolean {
    return this.tokens.length - this.computed === 1 && this.computed > 0
  }

  /** Tokens that it may still get. */
  get tokensLeft(): number {
    return this.promptLength + this.request.maxNewTokens - this.tokens.length
  }

  /** Whether drafts may be made for it now. Not where outputs of rows are wanted, nor once numbers were not finite. */
  get speculates(): boolean {
    const { sampling, wantLogits, wantHiddenStates, speculates } = this.request
    if (sampling === undefined || wantLogits || wantHiddenStates || this.searched) return false
    return speculates?.() ?? true
  }

  /** Whether its next step is a search step. */
  get searches(): boolean {
    return this.scheduled < this.searchTo
  }

  /**
   * Whether it shares KV blocks with sequences that begin alike. Not if the outputs of all rows are wanted, since those of
   * cached tokens are not computed; nor if no logits show whether its numbers are finite, or once they were not.
   */
  get sharesBlocks(): boolean {
    const { wantLogits, sampling } = this.request
    return !this.searched && (wantLogits === 'last' || (!wantLogits && sampling !== undefined))
  }

  /**
   * Whether it may be preempted and recomputed. Not while a step of it is in flight, and not if the outputs of its rows
   * are requested, which must not be delivered twice (such sequences are short-lived: they only prefill).
   */
  get preemptible(): boolean {
    return this.stepsInFlight === 0 && this.request.sampling !== undefined && !this.ending
  }
}
