import type { BlockPool } from './block-pool'
import { nextBatch, type SchedulePolicy, type Share } from './schedule'
import type { Sequence } from './sequence'

export interface SchedulerOptions extends SchedulePolicy {
  /** Sequences that hold KV blocks at a time; more wait their turn. */
  readonly maxSequences: number
  /** Base of the rotary embedding of a sequence that is `length` tokens long; rows of one step must share it. */
  readonly ropeBase: (promptLength: number, length: number) => number
}

/** Rows of a sequence in a step, from position `from` on. */
export interface BatchShare extends Share<Sequence> {
  readonly from: number
}

export type Batch = readonly BatchShare[]

/**
 * Which sequences run, with which KV blocks, and what the next step computes. Knows nothing of devices, promises or
 * JavaScript callbacks: `next` composes steps, `complete` takes them back, in any order of events.
 *
 * A sequence is admitted when there are blocks for all its tokens, and takes more blocks as it grows. When they run
 * out, the sequence that came last gives its blocks back and is computed again later: its tokens are known, so that
 * nothing is lost but time. The oldest one can always go on, because the pool holds at least one sequence of full
 * length; so every sequence ends.
 *
 * A sequence that is paused computes nothing. It keeps its blocks as long as nobody else needs them, and gives them back
 * before any other sequence does, whenever it came; it counts as running only as long as nobody waits for its place.
 */
export class Scheduler {
  /** In order of arrival. */
  readonly #waiting: Sequence[] = []
  readonly #running: Sequence[] = []
  #inFlight = 0
  #steps = 0
  #searchedLast = false
  /** How many times a sequence had to give its blocks back. */
  preemptions = 0

  readonly #pool: BlockPool
  readonly #options: SchedulerOptions

  constructor(pool: BlockPool, options: SchedulerOptions) {
    this.#pool = pool
    this.#options = options
  }

  get sequences(): readonly Sequence[] {
    return [...this.#waiting, ...this.#running]
  }

  get counts(): {
    readonly waiting: number
    readonly running: number
    readonly paused: number
    readonly stepsInFlight: number
  } {
    const waiting = this.#waiting.filter(({ paused }) => !paused).length
    const running = this.#running.filter(({ paused }) => !paused).length
    const paused = this.#waiting.length + this.#running.length - waiting - running
    return { waiting, running, paused, stepsInFlight: this.#inFlight }
  }

  add(sequence: Sequence): void {
    const after = this.#waiting.findIndex(({ arrival }) => arrival > sequence.arrival)
    this.#waiting.splice(after === -1 ? this.#waiting.length : after, 0, sequence)
  }

  /** The next step, or undefined if as many as may be are under way or nothing waits to be computed. */
  next(): Batch | undefined {
    if (this.#inFlight >= this.#options.stepsInFlight) return undefined
    this.#admit()
    const generating = this.#running.filter(({ decodes, paused }) => decodes && !paused).length
    const stepsFree = this.#options.stepsInFlight - this.#inFlight
    const ready = this.#ready()
    const searching = this.#turnToSearch(ready)
    const sharing = ready.filter(({ searches }) => !searches)
    const batch = nextBatch(searching ? [searching] : sharing, { generating, stepsFree }, this.#options).map(
      ({ sequence, rows }) => ({ sequence, rows: this.#rowsOfOneBase(sequence, rows), from: sequence.scheduled }),
    )
    if (batch.length === 0) return undefined
    for (const { sequence, rows } of batch) {
      sequence.scheduled += rows
      sequence.stepsInFlight++
      sequence.lastStep = this.#steps
    }
    this.#steps++
    this.#inFlight++
    this.#searchedLast = searching !== undefined
    return batch
  }

  /** The sequence that the next step searches: every second step, as long as others have something to compute. */
  #turnToSearch(ready: readonly Sequence[]): Sequence | undefined {
    const searching = ready.filter(({ searches }) => searches)
    if (this.#searchedLast && searching.length < ready.length) return undefined
    return searching.sort((a, b) => a.lastStep - b.lastStep)[0]
  }

  /**
   * Takes a step back whose rows are in the cache now.
   * @param suspects the shares whose logits are not finite: their sequences are computed again, by steps that search
   * @returns the shares that count
   */
  complete(batch: Batch, suspects: ReadonlySet<BatchShare> = new Set()): BatchShare[] {
    this.#inFlight--
    return batch.filter((share) => {
      const { sequence, rows } = share
      const counts = this.isOfUse(share) && !suspects.has(share)
      if (counts) sequence.computed += rows
      if (suspects.has(share)) this.#rewind(share)
      this.#stepEnded(sequence)
      return counts
    })
  }

  /** Whether what a step brings of a share is of use: nothing is, that lies behind where its sequence goes back to. */
  isOfUse({ sequence, from }: BatchShare): boolean {
    return sequence.rewindTo === undefined || from < sequence.rewindTo
  }

  /**
   * To where its damage may have begun: earlier rows, whose own logits nobody looks at, leave keys and values to those
   * that follow. Where all rows' logits are wanted, those that came before are good, and must not come twice.
   */
  #rewind({ sequence, rows, from }: BatchShare): void {
    const to = sequence.request.wantLogits ? from : 0
    sequence.rewindTo = Math.min(sequence.rewindTo ?? to, to)
    sequence.searchTo = Math.max(sequence.searchTo, from + rows)
    sequence.searched = true
  }

  #stepEnded(sequence: Sequence): void {
    sequence.stepsInFlight--
    if (sequence.rewindTo === undefined || sequence.stepsInFlight > 0) return
    sequence.computed = sequence.rewindTo
    sequence.scheduled = sequence.rewindTo
    sequence.rewindTo = undefined
  }

  /** Takes out the sequences that are to end and have no step under way; their blocks are free again. */
  sweep(): Sequence[] {
    const ended: Sequence[] = []
    for (const list of [this.#waiting, this.#running]) {
      for (let i = list.length - 1; i >= 0; i--) {
        const sequence = list[i] as Sequence
        if (!sequence.ending || sequence.stepsInFlight > 0) continue
        list.splice(i, 1)
        this.#release(sequence)
        ended.unshift(sequence)
      }
    }
    return ended
  }

  /** In order of arrival: a long request at the head of the queue is not overtaken for ever by short ones. */
  #admit(): void {
    const first = () => this.#waiting.find(({ paused }) => !paused)
    for (let next = first(); next; next = first()) {
      const needed = this.#pool.blocksFor(next.tokens.length)
      if (!this.#makePlace(needed)) return
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      next.blocks = this.#pool.take(needed)
      this.#running.push(next)
    }
  }

  /** Makes sure that one sequence more may run and take so many blocks, at the cost of those that are paused. */
  #makePlace(needed: number): boolean {
    const idle = this.#running.filter(({ paused, preemptible }) => paused && preemptible)
    const freed = idle.reduce((sum, { blocks }) => sum + blocks.length, 0)
    // A block for each one that runs: else the newcomer would be sent back as soon as they grow.
    const fits = (running: number, available: number) =>
      running < this.#options.maxSequences && needed + running <= available
    if (!fits(this.#running.length - idle.length, this.#pool.available + freed)) return false
    idle.sort((a, b) => a.arrival - b.arrival)
    while (!fits(this.#running.length, this.#pool.available)) this.#preempt(idle.pop() as Sequence)
    return true
  }

  /** Running sequences that have something to compute and the blocks for it, oldest first. */
  #ready(): Sequence[] {
    const byArrival = [...this.#running].sort((a, b) => a.arrival - b.arrival)
    return byArrival.filter((sequence) => {
      const preempted = sequence.blocks.length === 0 // by one before it, just now
      const held = preempted || sequence.paused || sequence.rewindTo !== undefined || sequence.ending
      return !held && sequence.pending > 0 && this.#makeRoom(sequence)
    })
  }

  /** Makes sure that there are blocks for all tokens of a sequence, at the cost of those that are paused or came later. */
  #makeRoom(sequence: Sequence): boolean {
    const missing = this.#pool.blocksFor(sequence.tokens.length) - sequence.blocks.length
    while (missing > this.#pool.available) {
      const victim = this.#running
        .filter((other) => (other.paused || other.arrival > sequence.arrival) && other.preemptible)
        .filter((other) => other.blocks.length > 0)
        .reduce<Sequence | undefined>((a, b) => (a && goesBefore(a, b) ? a : b), undefined)
      if (!victim) return false
      this.#preempt(victim)
    }
    if (missing > 0) sequence.blocks.push(...this.#pool.take(missing))
    return true
  }

  #preempt(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1)
    this.#release(sequence)
    sequence.computed = 0
    sequence.scheduled = 0
    this.preemptions++
    this.add(sequence)
  }

  #release(sequence: Sequence): void {
    this.#pool.give(sequence.blocks)
    sequence.blocks = []
  }

  /**
   * Of `rows` rows those whose keys were, or will be, rotated by the same base: a sequence that is computed again must
   * find the cache as it was, and while it was generated the base may have grown with it (dynamic NTK).
   */
  #rowsOfOneBase({ promptLength, scheduled }: Sequence, rows: number): number {
    const { ropeBase } = this.#options
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

/** Whether `a` gives its blocks back before `b` does: those that are paused first, and of alike ones the latest. */
function goesBefore(a: Sequence, b: Sequence): boolean {
  return a.paused === b.paused ? a.arrival > b.arrival : a.paused
}
