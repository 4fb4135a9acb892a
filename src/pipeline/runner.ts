import { BillfishError } from '../errors'
import type { NativeModel, StepOutput } from '../native/addon'
import { BlockPool } from './block-pool'
import { type Batch, Scheduler } from './scheduler'
import { Sequence, type SequenceRequest, type SequenceStep } from './sequence'
import { composeStep, splitOutput } from './step-request'
import { type Trace, TraceRecorder } from './trace'

export interface RunnerLimits {
  readonly blockSize: number
  readonly blockCount: number
  readonly maxBatchTokens: number
  /** Sequences that hold KV blocks at a time; more wait their turn. */
  readonly maxSequences: number
  /** Prompt and generated tokens of one sequence. */
  readonly maxModelLength: number
  readonly vocabulary: number
  readonly hiddenSize: number
  /** Decoder layers. */
  readonly layers: number
  /** Numbers that the last stage brings for a row: logits, or normed hidden states where the model has no head. */
  readonly outputWidth: number
  /** Steps under way at a time: as many as there are devices that work independently of each other. */
  readonly stepsInFlight: number
  /** Rows of a step at which computing takes a device as long as reading its weights does. */
  readonly balancedRows: number
}

/** What the runner is at. */
export interface RunnerState {
  readonly waiting: number
  readonly running: number
  readonly paused: number
  readonly stepsInFlight: number
  /** How many times a sequence had to give its KV blocks back, to be computed again. */
  readonly preemptions: number
  readonly blocks: { readonly total: number; readonly available: number }
}

/** A sequence that has been submitted. Nothing here has an effect once it has ended. */
export interface SubmittedSequence {
  /** Ends it early. Its onEnd is called with `error` when no step of it is under way any more. */
  end(error: unknown): void
  /** Computes nothing of it, from the next step on, until it is resumed. */
  pause(): void
  resume(): void
}

/**
 * Keeps the native stages at work: hands them the scheduler's steps, and each sequence what its steps bring. Entered
 * once a step.
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
    const { blockCount, available } = this.#pool
    const { counts, preemptions } = this.#scheduler
    return { ...counts, preemptions, blocks: { total: blockCount, available } }
  }

  trace(): Trace {
    return this.#recorder.trace()
  }

  /**
   * Starts a sequence. Its onEnd is called exactly once, never before submit has returned.
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
    }
  }

  /** Ends all sequences with `error`; nothing may be submitted any more. The native model is the caller's to close. */
  close(error: BillfishError): void {
    if (this.#closed) return
    this.#closed = error
    for (const sequence of this.#scheduler.sequences) sequence.ending ??= { error }
    this.#sweep()
  }

  #check({ prompt, maxNewTokens }: SequenceRequest): void {
    const { maxModelLength, vocabulary } = this.#limits
    if (prompt.length === 0) throw new BillfishError('INVALID_OPTION', 'The prompt has no tokens; give at least one.')
    const wrong = prompt.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary)
    if (wrong !== undefined) {
      throw new BillfishError(
        'INVALID_OPTION',
        `The prompt has the token id ${wrong}, but this model's ids go from 0 to ${vocabulary - 1}.`,
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
      const brought = splitOutput(composed, output, this.#limits)
      const suspects = batch.filter((share, i) => brought[i]?.nonFinite && this.#scheduler.isOfUse(share))
      for (const { sequence } of suspects.filter(({ sequence }) => sequence.searched)) {
        sequence.ending ??= { error: nothingFound() }
      }
      const counts = new Set(this.#scheduler.complete(batch, new Set(suspects)))
      for (const [i, share] of batch.entries()) {
        if (counts.has(share)) this.#advance(share.sequence, brought[i] as SequenceStep)
      }
    } else {
      this.#scheduler.complete(batch)
      for (const { sequence } of batch) sequence.ending ??= { error }
    }
    this.#sweep()
    this.#pump()
  }

  #advance(sequence: Sequence, step: SequenceStep): void {
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

function nothingFound(): BillfishError {
  return new BillfishError(
    'NON_FINITE',
    "The logits are NaN or infinite, and a search for the module found only finite numbers when they were computed again: they exceed their format by little, or a device or its memory is faulty. Load the checkpoint with dtype 'bfloat16' (on the CPU, 'float32'), or on another device.",
  )
}

/** Errors from the native side carry `code`; make them the one error class. */
export function asBillfishError(error: unknown): unknown {
  if (error instanceof BillfishError || !(error instanceof Error)) return error
  if (!('code' in error) || typeof error.code !== 'string') return error
  return new BillfishError(error.code as BillfishError['code'], error.message, { cause: error })
}
