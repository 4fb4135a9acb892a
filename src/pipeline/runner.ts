import { BillfishError } from '../errors'
import type { NativeModel, SamplingSpec, StepOutput, StepRequest } from '../native/addon'
import { BlockPool } from './block-pool'
import { nextBatch, type Share } from './schedule'
import { Sequence, type SequenceRequest, type SequenceStep } from './sequence'

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
  /** Steps under way at a time: one a stage keeps every stage busy. */
  readonly stepsInFlight: number
}

/**
 * Keeps the native stages at work: admits sequences as KV blocks allow, composes batches and hands each sequence what
 * its steps bring. Entered once a step.
 */
export class Runner {
  private readonly pool: BlockPool
  private readonly waiting: Sequence[] = []
  private readonly running: Sequence[] = []
  private stepsInFlight = 0
  private closed: BillfishError | undefined

  constructor(
    private readonly native: NativeModel,
    private readonly limits: RunnerLimits,
    private readonly ropeBase: (promptLength: number, length: number) => number,
  ) {
    this.pool = new BlockPool(limits.blockSize, limits.blockCount)
  }

  /** KV blocks of all sequences together, and those that are free. */
  get blocks(): { readonly total: number; readonly available: number } {
    return { total: this.pool.blockCount, available: this.pool.available }
  }

  /**
   * Starts a sequence. Its onEnd is called exactly once, never before submit has returned.
   * @returns ends the sequence early, with the error given
   * @throws BillfishError INVALID_OPTION for a request that could never run; DISPOSED
   */
  submit(request: SequenceRequest): (error?: unknown) => void {
    if (this.closed) throw this.closed
    this.check(request)
    const sequence = new Sequence(request)
    this.waiting.push(sequence)
    queueMicrotask(() => this.pump())
    return (error) => {
      sequence.ending ??= { error }
      this.sweep()
      this.pump()
    }
  }

  /** Ends all sequences with `error`; nothing may be submitted any more. The native model is the caller's to close. */
  close(error: BillfishError): void {
    if (this.closed) return
    this.closed = error
    for (const sequence of [...this.waiting, ...this.running]) sequence.ending ??= { error }
    this.sweep()
  }

  private check({ prompt, maxNewTokens }: SequenceRequest): void {
    const { maxModelLength, vocabulary } = this.limits
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

  private pump(): void {
    if (this.closed) return
    this.admit()
    while (this.stepsInFlight < this.limits.stepsInFlight) {
      const ready = this.running.filter((sequence) => !sequence.inFlight)
      const batch = nextBatch(ready, this.limits.maxBatchTokens)
      if (batch.length === 0) return
      void this.step(batch)
    }
  }

  /** In order of arrival: a long request at the head of the queue is not overtaken for ever by short ones. */
  private admit(): void {
    for (let next = this.waiting[0]; next; next = this.waiting[0]) {
      const needed = this.pool.blocksFor(next.promptLength + next.request.maxNewTokens)
      if (this.running.length >= this.limits.maxSequences || needed > this.pool.available) return
      this.waiting.shift()
      next.blocks = this.pool.take(needed)
      this.running.push(next)
    }
  }

  private async step(batch: readonly Share<Sequence>[]): Promise<void> {
    this.stepsInFlight++
    for (const { sequence } of batch) sequence.inFlight = true
    let outcome: { output: StepOutput } | { error: unknown }
    try {
      const output = await this.native.step(this.request(batch))
      outcome = { output }
    } catch (error) {
      outcome = { error: asBillfishError(error) }
    }
    this.stepsInFlight--
    const reader = 'output' in outcome ? new OutputReader(outcome.output, this.limits) : undefined
    for (const { sequence, rows } of batch) {
      sequence.inFlight = false
      if (!reader) sequence.ending ??= { error: (outcome as { error: unknown }).error }
      else this.advance(sequence, rows, reader)
    }
    this.sweep()
    this.pump()
  }

  private advance(sequence: Sequence, rows: number, reader: OutputReader): void {
    const { request } = sequence
    sequence.computed += rows
    const complete = sequence.pending === 0
    const step: SequenceStep = reader.next(rows, {
      sample: complete && request.sampling !== undefined,
      logits: request.wantLogits === true,
      hiddenStates: request.wantHiddenStates === true,
    })
    if (sequence.ending) return
    try {
      const token = request.onStep(step)
      if (!complete) return
      if (token === undefined) sequence.ending = {}
      else sequence.tokens.push(token)
    } catch (error) {
      sequence.ending = { error }
    }
  }

  /** Takes out the sequences that are to end and have no step under way. */
  private sweep(): void {
    for (const list of [this.waiting, this.running]) {
      for (let i = list.length - 1; i >= 0; i--) {
        const sequence = list[i] as Sequence
        if (!sequence.ending || sequence.inFlight) continue
        list.splice(i, 1)
        this.pool.give(sequence.blocks)
        sequence.blocks = []
        const { error } = sequence.ending
        queueMicrotask(() => sequence.request.onEnd(error))
      }
    }
  }

  private request(batch: readonly Share<Sequence>[]): StepRequest {
    const rows = batch.reduce((sum, share) => sum + share.rows, 0)
    const tokens = new Int32Array(rows)
    const positions = new Int32Array(rows)
    const sequences = new Int32Array(batch.length * 5)
    const ropeBases = new Float64Array(batch.length)
    const blockTables: number[] = []
    const logitRows: number[] = []
    const sampling: (SamplingSpec | null)[] = []
    let row = 0
    for (const [i, { sequence, rows: count }] of batch.entries()) {
      const { request, computed } = sequence
      const blocks = sequence.blocks.slice(0, this.pool.blocksFor(computed + count))
      sequences.set([row, count, computed, blockTables.length, blocks.length], i * 5)
      blockTables.push(...blocks)
      ropeBases[i] = this.ropeBase(sequence.promptLength, computed + count)
      for (let j = 0; j < count; j++) {
        tokens[row + j] = sequence.tokens[computed + j] as number
        positions[row + j] = computed + j
      }
      const complete = count === sequence.pending
      const lastRow = row + count - 1
      const sampled = complete && request.sampling ? request.sampling() : null
      for (let r = request.wantLogits ? row : lastRow; r <= lastRow; r++) {
        if (!request.wantLogits && !sampled) continue
        logitRows.push(r)
        sampling.push(r === lastRow ? sampled : null)
      }
      row += count
    }
    return {
      tokens,
      positions,
      sequences,
      blockTables: Int32Array.from(blockTables),
      ropeBases,
      logitRows: Int32Array.from(logitRows),
      sampling,
      wantLogits: batch.some(({ sequence }) => sequence.request.wantLogits),
      wantHiddenStates: batch.some(({ sequence }) => sequence.request.wantHiddenStates),
    }
  }
}

/** Deals a step's output out to its sequences, in the order of the batch. */
class OutputReader {
  private row = 0
  private logitRow = 0
  private sample = 0

  constructor(
    private readonly output: StepOutput,
    private readonly limits: RunnerLimits,
  ) {}

  next(rows: number, wanted: { sample: boolean; logits: boolean; hiddenStates: boolean }): SequenceStep {
    const { vocabulary, hiddenSize } = this.limits
    const sample = wanted.sample ? this.output.samples[this.sample++] : undefined
    const logits = wanted.logits
      ? this.output.logits?.slice(this.logitRow * vocabulary, (this.logitRow + rows) * vocabulary)
      : undefined
    this.logitRow += wanted.logits ? rows : wanted.sample ? 1 : 0
    const hiddenStates = wanted.hiddenStates
      ? this.output.hiddenStates?.map((state) => state.slice(this.row * hiddenSize, (this.row + rows) * hiddenSize))
      : undefined
    this.row += rows
    return { sample, logits, hiddenStates }
  }
}

/** Errors from the native side carry `code`; make them the one error class. */
export function asBillfishError(error: unknown): unknown {
  if (error instanceof BillfishError || !(error instanceof Error) || !('code' in error)) return error
  return new BillfishError(error.code as BillfishError['code'], error.message, { cause: error })
}
