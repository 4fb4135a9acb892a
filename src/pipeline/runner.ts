import { asBillfishError, BillfishError } from '../common/errors'
import type { NativeModel, StepOutput } from '../native/addon'
import { BlockPool } from './block-pool'
import { type Batch, type ScheduledEntry, Scheduler } from './scheduler'
import { Sequence, type SequenceRequest, type SequenceStep } from './sequence'
import type { SpeculationOptions } from './speculation'
import type { SpeculationCounts } from './speculation-counts'
import { composeStep, type OutputShape, splitOutput } from './step-request'
import { type Trace, TraceRecorder } from './trace'

export interface RunnerLimits extends OutputShape {
  readonly blockSize: number
  readonly blockCount: number
  readonly maxBatchTokens: number
  /** Sequences that hold KV blocks at the same time; others wait. */
  readonly maxSequences: number
  /** Whether sequences have recurrent states. */
  readonly hasStates: boolean
  /** Whether sequences share the KV blocks of what they begin with, where the model allows it. */
  readonly prefixCache: boolean
  /** How tokens are drafted, where the model allows it; undefined if they are not. */
  readonly speculation: SpeculationOptions | undefined
  /** Whether a sequence must be computed in one step, and is never continued. */
  readonly wholePrompts: boolean
  /** Maximum tokens per sequence, prompt and generated. */
  readonly maxModelLength: number
  readonly vocabulary: number
  /** Maximum steps in flight: one per independent device. */
  readonly stepsInFlight: number
  /** Rows per step at which compute time equals weight-read time. */
  readonly balancedRows: number
}

/** Current state of the runner. */
export interface RunnerState {
  readonly waiting: number
  readonly running: number
  readonly paused: number
  readonly stepsInFlight: number
  /** Number of times a sequence lost its KV blocks and had to be recomputed. */
  readonly preemptions: number
  /** Sequences that hold a slot of states. */
  readonly slotsInUse: number
  readonly blocks: { readonly total: number; readonly available: number }
  /** Milliseconds that each stage has been busy. */
  readonly busy: ReadonlyMap<string, number>
  /** Tokens of prompts that began, those of them found in the prefix cache, and its blocks; undefined without one. */
  readonly prefixCache: { readonly queries: number; readonly hits: number; readonly blocks: number } | undefined
  /** What became of drafts; undefined where none are made. */
  readonly speculation: SpeculationCounts | undefined
}

/** Handle of a submitted sequence. Its methods have no effect once the sequence has ended. */
export interface SubmittedSequence {
  /** Ends it early. onEnd is called with `error` once none of its steps is in flight. */
  end(error: unknown): void
  /** Suspends it from the next step on, until it is resumed. */
  pause(): void
  resume(): void
  /** Tokens of its prompt that were in the prefix cache; known once its first step has begun. */
  readonly cachedTokens: number
}

/**
 * Runs the native pipeline: submits the steps of the scheduler and delivers their results to the sequences. Entered
 * once per step.
 */
export class Runner {
  readonly #pool: BlockPool
  readonly #scheduler: Scheduler
  readonly #recorder: TraceRecorder
  #arrivals = 0
  #closed: BillfishError | undefined

  readonly #native: NativeModel
  readonly #limits: RunnerLimits
  readonly #ropeBase: (promptLength: number, length: number) => number

  /** @param stages names of the stages, for the trace */
  constructor(
    native: NativeModel,
    limits: RunnerLimits,
    ropeBase: (promptLength: number, length: number) => number,
    stages: readonly string[],
  ) {
    this.#native = native
    this.#limits = limits
    this.#ropeBase = ropeBase

    this.#pool = new BlockPool(limits.blockSize, limits.blockCount)
    this.#scheduler = new Scheduler(this.#pool, { ...limits, ropeBase })
    this.#recorder = new TraceRecorder(stages)
  }

  get state(): RunnerState {
    const { blockCount, available, keyed } = this.#pool
    const { counts, preemptions, slotsInUse, cacheCounts, speculationCounts: speculation } = this.#scheduler
    const { busy } = this.#recorder
    const prefixCache = cacheCounts && { ...cacheCounts, blocks: keyed }
    const blocks = { total: blockCount, available }
    return { ...counts, preemptions, slotsInUse, blocks, busy, prefixCache, speculation }
  }

  trace(): Trace {
    return this.#recorder.trace()
  }

  /**
   * Starts a sequence. onEnd is called exactly once, never before submit returns.
   * @throws BillfishError INVALID_OPTION for a request that could never run; DISPOSED
   */
  submit(request: SequenceRequest): SubmittedSequence {
    if (this.#closed) throw this.#closed
    this.#check(request)
    const sequence = new Sequence(request, this.#arrivals++)
    this.#scheduler.add(sequence)
    queueMicrotask(() => this.#pump())
    return {
      end: (error) => {
        sequence.ending ??= { error }
        this.#sweep()
        this.#pump()
      },
      pause: () => {
        sequence.paused = true
      },
      resume: () => {
        sequence.paused = false
        this.#pump()
      },
      get cachedTokens() {
        return sequence.cachedTokens
      },
    }
  }

  /** Ends all sequences with `error` and rejects new ones. The caller closes the native model. */
  close(error: BillfishError): void {
    if (this.#closed) return
    this.#closed = error
    for (const sequence of this.#scheduler.sequences) sequence.ending ??= { error }
    this.#sweep()
  }

  #check({ prompt, maxNewTokens }: SequenceRequest): void {
    const { maxModelLength, vocabulary, wholePrompts, maxBatchTokens } = this.#limits
    if (prompt.length === 0) throw new BillfishError('INVALID_OPTION', 'The prompt has no tokens; give at least one.')
    const wrong = prompt.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary)
    if (wrong !== undefined) {
      throw new BillfishError(
        'INVALID_OPTION',
        `The prompt contains token id ${wrong}, but token ids of this model range from 0 to ${vocabulary - 1}.`,
      )
    }
    if (wholePrompts && prompt.length > maxBatchTokens) {
      throw new BillfishError(
        'INVALID_OPTION',
        `The prompt has ${prompt.length} tokens, but this model, whose tokens see later ones, computes a sequence in one step of at most ${maxBatchTokens} (maxBatchTokens). Shorten it, or load the model with a larger maxBatchTokens.`,
      )
    }
    if (prompt.length + maxNewTokens > maxModelLength) {
      throw new BillfishError(
        'INVALID_OPTION',
        `The prompt's ${prompt.length} tokens and ${maxNewTokens} new ones exceed maxModelLength ${maxModelLength}. Shorten the prompt, lower maxNewTokens, or load the model with a larger maxModelLength.`,
      )
    }
  }

  #pump(): void {
    if (this.#closed) return
    for (let batch = this.#scheduler.next(); batch; batch = this.#scheduler.next()) void this.#step(batch)
  }

  async #step(batch: Batch): Promise<void> {
    const composed = composeStep(batch, this.#pool, this.#ropeBase)
    let output: StepOutput | undefined
    let error: unknown
    try {
      output = await this.#native.step(composed.request)
      this.#recorder.record(composed.request.tokens.length, batch.length, output.stages)
      for (const notice of output.notices) {
        process.emitWarning(notice, { type: 'BillfishWarning', code: 'BILLFISH_FALLBACK' })
      }
    } catch (thrown) {
      error = asBillfishError(thrown)
    }
    if (output) {
      const results = splitOutput(composed, output, this.#limits)
      const suspects = batch.filter((share, i) => results[i]?.[0]?.nonFinite && this.#scheduler.isUsable(share))
      for (const { sequence } of suspects.filter(({ sequence }) => sequence.searched)) {
        sequence.ending ??= { error: unreproducedNonFinite() }
      }
      const counts = new Set(this.#scheduler.complete(batch, new Set(suspects)))
      for (const [i, share] of batch.entries()) {
        if (counts.has(share)) this.#advance(share, results[i] as SequenceStep[])
      }
    } else {
      for (const { sequence } of batch) sequence.ending ??= { error } // first: what is in their blocks is unknown
      this.#scheduler.complete(batch)
    }
    this.#sweep()
    this.#pump()
  }

  /** Hands over the results of a step: those of the last known token, then those of the draft as long as it is right. */
  #advance({ sequence, draft }: ScheduledEntry, steps: readonly SequenceStep[]): void {
    let accepted = 0
    for (const [i, step] of steps.entries()) {
      if (i > 0) {
        if (sequence.tokens.at(-1) !== draft[i - 1]) break
        accepted++
        // The next step computes this row once more, as its first one, if it was sampled by what no longer holds, or if it
        // is to be searched for the number that is not finite.
        if (step.nonFinite || !sequence.speculates) break
        this.#scheduler.accept(sequence)
      }
      this.#take(sequence, step)
      if (sequence.ending) break
    }
    if (draft.length > 0) this.#scheduler.countDraft(draft.length, accepted)
  }

  #take(sequence: Sequence, step: SequenceStep): void {
    if (sequence.ending) return
    try {
      const token = sequence.request.onStep(step)
      if (sequence.computed < sequence.tokens.length) return
      if (token === undefined) sequence.ending = {}
      else sequence.tokens.push(token)
    } catch (error) {
      sequence.ending = { error }
    }
  }

  #sweep(): void {
    for (const { request, ending } of this.#scheduler.sweep()) queueMicrotask(() => request.onEnd(ending?.error))
  }
}

function unreproducedNonFinite(): BillfishError {
  return new BillfishError(
    'NON_FINITE',
    "The logits contain NaN or infinity, but recomputing them to find the module gave finite numbers: values are at the limit of their format, or a device or its memory is faulty. Load the checkpoint with dtype 'bfloat16' ('float32' on the CPU), or on another device.",
  )
}
