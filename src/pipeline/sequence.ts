import type { SampledToken, SamplingSpec } from '../native/addon'

/** What one step brought for a sequence. */
export interface SequenceStep {
  /** The token sampled after the sequence's last token; absent while its prompt is still being read. */
  readonly sample?: SampledToken | undefined
  /** [rows * outputWidth] for the rows of this step, if the sequence wants logits. */
  readonly logits?: Float32Array | undefined
  /** Of the embedding and each layer, [rows * hidden] for the rows of this step, if the sequence wants hidden states. */
  readonly hiddenStates?: readonly Float32Array[] | undefined
  /** Whether a wanted logit is NaN or infinite: nothing else of the step is of use. */
  readonly nonFinite: boolean
  /** What the head reads, [rows * hidden] for the rows of this step, if the sequence wants hidden states and logits. */
  readonly normedStates?: Float32Array | undefined
}

/** A request to the runner. */
export interface SequenceRequest {
  readonly prompt: readonly number[]
  /** The most tokens that may follow the prompt. */
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

/**
 * A request in the scheduler's hands. Its tokens are those of the prompt and those accepted since; of them, `computed`
 * are in the KV cache of every stage, `scheduled` will be once the steps under way are through:
 *
 *     0 ........ computed ........ scheduled ........ tokens.length
 *       in cache         under way          pending
 */
export class Sequence {
  readonly tokens: number[]
  computed = 0
  scheduled = 0
  /** Its KV blocks: position p lies in blocks[p / blockSize]. */
  blocks: number[] = []
  /** Steps under way that bring rows of it: several while a prompt flows through the stages in pieces. */
  stepsInFlight = 0
  /** When its last step was composed, as a number of steps; the schedule serves first who has waited longest. */
  lastStep = -1
  /** Whether it is to compute nothing for the time being: its reader is behind. */
  paused = false
  /** Where it is to be computed from again, once no step of it is under way: what follows from there does not count. */
  rewindTo: number | undefined
  /**
   * How many of its tokens are to be computed by steps that search, with no other sequence in them: its logits were not
   * finite, and the module is to be named where that began.
   */
  searchTo = 0
  /** Whether it has been searched before. */
  searched = false
  /** Set when the sequence is to end, as soon as no step of it is under way. */
  ending: { error?: unknown } | undefined

  /** @param arrival number of the request: lower ones came earlier and go first */
  constructor(
    readonly request: SequenceRequest,
    readonly arrival: number,
  ) {
    this.tokens = [...request.prompt]
  }

  get promptLength(): number {
    return this.request.prompt.length
  }

  /** Tokens that no step has been given yet. */
  get pending(): number {
    return this.tokens.length - this.scheduled
  }

  /** Whether it computes one token a step, each after the one before has been sampled. */
  get decodes(): boolean {
    return this.tokens.length - this.computed === 1 && this.computed > 0
  }

  /** Whether its next step searches. */
  get searches(): boolean {
    return this.scheduled < this.searchTo
  }

  /**
   * Whether its blocks may be taken from it, to be computed again later. Not while a step of it is under way; and not
   * if its rows' own outputs are wanted, which must not come twice (it keeps its blocks a short while: it only reads
   * its prompt).
   */
  get preemptible(): boolean {
    return this.stepsInFlight === 0 && this.request.sampling !== undefined && !this.ending
  }
}
