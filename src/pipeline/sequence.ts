import type { SampledToken, SamplingSpec } from '../native/addon'

/** What one step brought for a sequence. */
export interface SequenceStep {
  /** The token sampled after the sequence's last token; absent while its prompt is still being read. */
  readonly sample?: SampledToken | undefined
  /** [rows * vocabulary] for the rows of this step, if the sequence wants logits. */
  readonly logits?: Float32Array | undefined
  /** By tap, [rows * hidden] for the rows of this step, if the sequence wants hidden states. */
  readonly hiddenStates?: readonly Float32Array[] | undefined
}

/** A request to the runner. */
export interface SequenceRequest {
  readonly prompt: readonly number[]
  /** The most tokens that may follow the prompt; KV blocks for all of them are set aside. */
  readonly maxNewTokens: number
  /** How the next token is drawn; without it the sequence ends when its prompt has been computed. */
  readonly sampling?: (() => SamplingSpec) | undefined
  readonly wantLogits?: boolean
  readonly wantHiddenStates?: boolean
  /** Takes the outcome of a step; returns the token that the sequence goes on with, or undefined to end it. */
  onStep(step: SequenceStep): number | undefined
  /** The sequence has ended and its blocks are free again; `error` is why, if it was not onStep's wish. */
  onEnd(error?: unknown): void
}

/** A request in the runner's hands. */
export class Sequence {
  /** Prompt and accepted tokens. */
  readonly tokens: number[]
  /** How many of them the KV cache holds. */
  computed = 0
  blocks: number[] = []
  inFlight = false
  /** Set when the sequence is to end, as soon as no step of it is under way. */
  ending: { error?: unknown } | undefined

  constructor(readonly request: SequenceRequest) {
    this.tokens = [...request.prompt]
  }

  get promptLength(): number {
    return this.request.prompt.length
  }

  /** Tokens that are not in the KV cache yet. */
  get pending(): number {
    return this.tokens.length - this.computed
  }
}
