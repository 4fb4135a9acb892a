import type { BlockPool } from './block-pool'
import { nextBatch, type SchedulePolicy, type Share } from './schedule'
import type { Sequence } from './sequence'

export interface SchedulerOptions extends SchedulePolicy {
  /** Sequences that hold KV blocks at a time; more wait their turn. */
  readonly maxSequences: number
  /** Base of the rotary embedding of a sequence that is `length` tokens long; rows of one step must share it. */
  readonly ropeBase: (promptLength: number, length: number) => number
}

export type Batch = readonly Share<Sequence>[]

/**
 * Which sequences run, with which KV blocks, and what the next step computes. Knows nothing of devices, promises or
 * JavaScript callbacks: `next` composes steps, `complete` takes them back, in any order of events.
 *
 * A sequence is admitted when there are blocks for all its tokens, and takes more blocks as it grows. When they run
 * out, the sequence that came last gives its blocks back and is computed again later: its tokens are known, so that
 * nothing is lost but time. The oldest one can always go on, because the pool holds at least one sequence of full
 * length; so every sequence ends.
 */
export class Scheduler {
  /** In order of arrival. */
  private readonly waiting: Sequence[] = []
  private readonly running: Sequence[] = []
  private inFlight = 0
  private steps = 0
  /** How many times a sequence had to give its blocks back. */
  preemptions = 0

  constructor(
    private readonly pool: BlockPool,
    private readonly options: SchedulerOptions,
  ) {}

  get sequences(): readonly Sequence[] {
    return [...this.waiting, ...this.running]
  }

  get counts(): { readonly waiting: number; readonly running: number; readonly stepsInFlight: number } {
    return { waiting: this.waiting.length, running: this.running.length, stepsInFlight: this.inFlight }
  }

  add(sequence: Sequence): void {
    const after = this.waiting.findIndex(({ arrival }) => arrival > sequence.arrival)
    this.waiting.splice(after === -1 ? this.waiting.length : after, 0, sequence)
  }

  /** The next step, or undefined if as many as may be are under way or nothing waits to be computed. */
  next(): Batch | undefined {
    if (this.inFlight >= this.options.stepsInFlight) return undefined
    this.admit()
    const generating = this.running.filter(({ decodes }) => decodes).length
    const stepsFree = this.options.stepsInFlight - this.inFlight
    const batch = nextBatch(this.ready(), { generating, stepsFree }, this.options).map(({ sequence, rows }) => ({
      sequence,
      rows: this.rowsOfOneBase(sequence, rows),
    }))
    if (batch.length === 0) return undefined
    for (const { sequence, rows } of batch) {
      sequence.scheduled += rows
      sequence.stepsInFlight++
      sequence.lastStep = this.steps
    }
    this.steps++
    this.inFlight++
    return batch
  }

  /** Takes a step back whose rows are in the cache now, or would be had it not failed. */
  complete(batch: Batch): void {
    this.inFlight--
    for (const { sequence, rows } of batch) {
      sequence.stepsInFlight--
      sequence.computed += rows
    }
  }

  /** Takes out the sequences that are to end and have no step under way; their blocks are free again. */
  sweep(): Sequence[] {
    const ended: Sequence[] = []
    for (const list of [this.waiting, this.running]) {
      for (let i = list.length - 1; i >= 0; i--) {
        const sequence = list[i] as Sequence
        if (!sequence.ending || sequence.stepsInFlight > 0) continue
        list.splice(i, 1)
        this.release(sequence)
        ended.unshift(sequence)
      }
    }
    return ended
  }

  /** In order of arrival: a long request at the head of the queue is not overtaken for ever by short ones. */
  private admit(): void {
    for (let next = this.waiting[0]; next; next = this.waiting[0]) {
      if (this.running.length >= this.options.maxSequences) return
      const needed = this.pool.blocksFor(next.tokens.length)
      // A block for each one that runs: else the newcomer would be sent back as soon as they grow.
      if (needed + this.running.length > this.pool.available) return
      this.waiting.shift()
      next.blocks = this.pool.take(needed)
      this.running.push(next)
    }
  }

  /** Running sequences that have something to compute and the blocks for it, oldest first. */
  private ready(): Sequence[] {
    const byArrival = [...this.running].sort((a, b) => a.arrival - b.arrival)
    return byArrival.filter((sequence) => {
      const preempted = sequence.blocks.length === 0 // by one before it, just now
      return !preempted && !sequence.ending && sequence.pending > 0 && this.makeRoom(sequence)
    })
  }

  /** Makes sure that there are blocks for all tokens of a sequence, at the cost of those that came after it. */
  private makeRoom(sequence: Sequence): boolean {
    const missing = this.pool.blocksFor(sequence.tokens.length) - sequence.blocks.length
    while (missing > this.pool.available) {
      const last = this.running
        .filter((other) => other.arrival > sequence.arrival && other.preemptible && other.blocks.length > 0)
        .reduce<Sequence | undefined>((a, b) => (a && a.arrival > b.arrival ? a : b), undefined)
      if (!last) return false
      this.preempt(last)
    }
    if (missing > 0) sequence.blocks.push(...this.pool.take(missing))
    return true
  }

  private preempt(sequence: Sequence): void {
    this.running.splice(this.running.indexOf(sequence), 1)
    this.release(sequence)
    sequence.computed = 0
    sequence.scheduled = 0
    this.preemptions++
    this.add(sequence)
  }

  private release(sequence: Sequence): void {
    this.pool.give(sequence.blocks)
    sequence.blocks = []
  }

  /**
   * Of `rows` rows those whose keys were, or will be, rotated by the same base: a sequence that is computed again must
   * find the cache as it was, and while it was generated the base may have grown with it (dynamic NTK).
   */
  private rowsOfOneBase({ promptLength, scheduled }: Sequence, rows: number): number {
    const { ropeBase } = this.options
    const base = ropeBase(promptLength, scheduled + 1)
    let low = 1
    let high = rows
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if (ropeBase(promptLength, scheduled + middle) === base) low = middle
      else high = middle - 1
    }
    return low
  }
}
