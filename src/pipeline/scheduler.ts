import type { BlockPool } from './block-pool'
import { PrefixCache } from './prefix-cache'
import { type BatchEntry, nextBatch, type SchedulePolicy } from './schedule'
import type { Sequence } from './sequence'
import { Drafter, type SpeculationOptions } from './speculation'
import type { SpeculationCounts } from './speculation-counts'

export interface SchedulerOptions extends SchedulePolicy {
  /** Sequences that hold KV blocks and a slot of states at the same time; others wait. */
  readonly maxSequences: number
  /** Whether sequences have recurrent states, which cannot be taken back to an earlier position. */
  readonly hasStates?: boolean | undefined
  /** Whether sequences share the KV blocks of what they begin with. Not of states, nor of rows that see later ones. */
  readonly prefixCache?: boolean | undefined
  /** How tokens are drafted, if they are. Not of sequences with states: those cannot be taken back behind a wrong draft. */
  readonly speculation?: SpeculationOptions | undefined
  /** Rotary base of a sequence of `length` tokens; the rows of a sequence in one step must share it. */
  readonly ropeBase: (promptLength: number, length: number) => number
}

/** Rows of a sequence in a step, from position `from` on; the last ones are of a draft. */
export interface ScheduledEntry extends BatchEntry<Sequence> {
  readonly from: number
  readonly draft: readonly number[]
}

export type Batch = readonly ScheduledEntry[]

/**
 * Decides which sequences run, allocates their KV blocks and composes steps. Independent of devices, promises and
 * callbacks: `next` composes a step, `complete` returns it, in any order.
 *
 * A sequence is admitted when there are blocks for all its tokens, cached ones among them, and allocates more as it
 * grows. When blocks run out, the latest sequence is preempted and recomputed later; its tokens are known, so only time is
 * lost. The oldest can always continue because the pool holds at least one sequence of full length, so every sequence
 * ends.
 *
 * A paused sequence computes nothing. It keeps its blocks until others need them and is preempted first, whatever its
 * age; it counts as running only while nobody waits for its slot.
 */
export class Scheduler {
  /** In order of arrival. */
  readonly #waiting: Sequence[] = []
  readonly #running: Sequence[] = []
  readonly #freeSlots: number[]
  #inFlight = 0
  #steps = 0
  #searchedLast = false
  /** Number of preemptions so far. */
  preemptions = 0

  readonly #pool: BlockPool
  readonly #options: SchedulerOptions
  readonly #cache: PrefixCache | undefined
  readonly #drafter: Drafter | undefined

  constructor(pool: BlockPool, options: SchedulerOptions) {
    this.#pool = pool
    this.#options = options
    const { prefixCache, speculation, hasStates, wholePrompts, ropeBase } = options
    this.#cache = prefixCache && !hasStates && !wholePrompts ? new PrefixCache(pool, ropeBase) : undefined
    this.#drafter = speculation && !hasStates ? new Drafter(speculation) : undefined
    this.#freeSlots = Array.from({ length: options.maxSequences }, (_, i) => options.maxSequences - 1 - i)
  }

  /** Sequences that hold a slot of states, and KV blocks. */
  get slotsInUse(): number {
    return this.#options.maxSequences - this.#freeSlots.length
  }

  /** Tokens of prompts that began, and those found in the prefix cache; undefined without one. */
  get cacheCounts(): { readonly queries: number; readonly hits: number } | undefined {
    return this.#cache && { queries: this.#cache.queries, hits: this.#cache.hits }
  }

  /** What became of drafts; undefined where none are made. */
  get speculationCounts(): SpeculationCounts | undefined {
    return this.#drafter?.counts
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

  /** The next step; undefined if the pipeline is full or nothing is pending. */
  next(): Batch | undefined {
    if (this.#inFlight >= this.#options.stepsInFlight) return undefined
    this.#admit()
    // What a sequence begins with may have been computed for another one since it was admitted.
    for (const sequence of this.#running) this.#cache?.reuse(sequence)
    const generating = this.#running.filter(({ decodes, paused }) => decodes && !paused).length
    const stepsFree = this.#options.stepsInFlight - this.#inFlight
    const ready = this.#ready()
    if (this.#drafter) for (const sequence of ready) sequence.draft = this.#drafter.draft(sequence)
    const searching = this.#nextSearch(ready)
    const sharing = ready.filter(({ searches }) => !searches)
    const batch = nextBatch(searching ? [searching] : sharing, { generating, stepsFree }, this.#options).map((share) =>
      this.#entry(share),
    )
    if (batch.length === 0) return undefined
    for (const entry of batch) {
      const { sequence } = entry
      if (sequence.lastStep === -1) this.#cache?.begin(sequence)
      sequence.scheduled += knownRows(entry)
      sequence.stepsInFlight++
      sequence.lastStep = this.#steps
    }
    this.#steps++
    this.#inFlight++
    this.#searchedLast = searching !== undefined
    return batch
  }

  /** Limits the rows of a sequence in a batch to those that it can have. */
  #entry({ sequence, rows: wanted }: BatchEntry<Sequence>): ScheduledEntry {
    const sameBase = this.#rowsWithSameRopeBase(sequence, withinDelivered(sequence, wanted))
    const rows = this.#rowsWithBlocks(sequence, sameBase)
    return { sequence, rows, from: sequence.scheduled, draft: sequence.draft.slice(0, rows - sequence.pending) }
  }

  /** The sequence to search for non-finite values in the next step: every other step while other work is pending. */
  #nextSearch(ready: readonly Sequence[]): Sequence | undefined {
    const searching = ready.filter(({ searches }) => searches)
    if (this.#searchedLast && searching.length < ready.length) return undefined
    return searching.sort((a, b) => a.lastStep - b.lastStep)[0]
  }

  /**
   * Completes a step whose rows are now in the cache.
   * @param suspects entries with non-finite logits: their sequences are recomputed by search steps
   * @returns the entries whose results are valid and new
   */
  complete(batch: Batch, suspects: ReadonlySet<ScheduledEntry> = new Set()): ScheduledEntry[] {
    this.#inFlight--
    return batch.filter((share) => {
      const { sequence } = share
      const rows = knownRows(share)
      const counts = this.isUsable(share) && !suspects.has(share)
      const isNew = share.from >= sequence.delivered
      if (counts) sequence.computed += rows
      if (counts && sequence.request.wantLogits === true)
        sequence.delivered = Math.max(sequence.delivered, share.from + rows)
      if (suspects.has(share)) this.#rewind(share)
      if (counts && sequence.computed === sequence.tokens.length && !sequence.ending) this.#cache?.register(sequence)
      this.#stepEnded(sequence)
      return counts && isNew
    })
  }

  /** Notes that the next token of a sequence's draft was right: its keys and values are in the cache. */
  accept(sequence: Sequence): void {
    sequence.computed++
    sequence.scheduled++
    this.#cache?.register(sequence)
  }

  /** Counts what became of a draft that a step has checked. */
  countDraft(drafted: number, accepted: number): void {
    this.#drafter?.count(drafted, accepted)
  }

  /** Whether the results of an entry are usable, i.e. before the position its sequence rewinds to. */
  isUsable({ sequence, from }: ScheduledEntry): boolean {
    return sequence.rewindTo === undefined || from < sequence.rewindTo
  }

  /**
   * Rewinds to where the damage may have begun: earlier rows, whose logits nobody checked, may have left bad keys and
   * values. If all logits are wanted, earlier rows were checked; only states must be recomputed from the beginning.
   */
  #rewind(entry: ScheduledEntry): void {
    const { sequence, from } = entry
    const to = sequence.request.wantLogits === true && !this.#options.hasStates ? from : 0
    sequence.rewindTo = Math.min(sequence.rewindTo ?? to, to)
    sequence.searchTo = Math.max(sequence.searchTo, from + knownRows(entry))
    sequence.searched = true
    this.#cache?.withdraw(sequence)
  }

  #stepEnded(sequence: Sequence): void {
    sequence.stepsInFlight--
    if (sequence.rewindTo === undefined || sequence.stepsInFlight > 0) return
    sequence.computed = sequence.rewindTo
    sequence.scheduled = sequence.rewindTo
    sequence.rewindTo = undefined
    this.#cache?.unshare(sequence)
  }

  /** Removes sequences that are ending and have no step in flight, and frees their blocks. */
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

  /** Admits in order of arrival: short requests never overtake a long one at the head of the queue. */
  #admit(): void {
    const first = () => this.#waiting.find(({ paused }) => !paused)
    for (let next = first(); next; next = first()) {
      const idle = this.#running.filter(({ paused, preemptible }) => paused && preemptible)
      if (this.#running.length - idle.length === this.#options.maxSequences) return
      this.#cache?.reuse(next) // first, so that nobody is given the blocks that it will share
      const needed = this.#pool.blocksFor(next.tokens.length) - next.blocks.length
      if (!this.#makeRoom(needed, idle)) {
        this.#release(next)
        return
      }
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      next.blocks.push(...this.#pool.allocate(needed))
      next.slot = this.#freeSlots.pop() // one for each that may run
      this.#running.push(next)
    }
  }

  /** Makes room for one more running sequence that takes `needed` free blocks, preempting idle ones if necessary. */
  #makeRoom(needed: number, idle: Sequence[]): boolean {
    const freed = this.#pool.freedBy(idle.map(({ blocks }) => blocks))
    // One spare block per running sequence; otherwise the new one would be preempted as soon as they grow.
    const fits = (running: number, available: number) =>
      running < this.#options.maxSequences && needed + running <= available
    if (!fits(this.#running.length - idle.length, this.#pool.available + freed)) return false
    idle.sort((a, b) => a.arrival - b.arrival)
    while (!fits(this.#running.length, this.#pool.available)) this.#preempt(idle.pop() as Sequence)
    return true
  }

  /** Running sequences with pending tokens and the blocks for them, oldest first. */
  #ready(): Sequence[] {
    const byArrival = [...this.#running].sort((a, b) => a.arrival - b.arrival)
    return byArrival.filter((sequence) => {
      const preempted = sequence.blocks.length === 0 // just now, by an older one
      const held = preempted || sequence.paused || sequence.rewindTo !== undefined || sequence.ending
      return !held && sequence.pending > 0 && this.#ensureBlocks(sequence)
    })
  }

  /** Allocates blocks for all tokens of a sequence, preempting paused and later ones if necessary. */
  #ensureBlocks(sequence: Sequence): boolean {
    const missing = this.#pool.blocksFor(sequence.tokens.length) - sequence.blocks.length
    while (missing > this.#pool.available) {
      const victim = this.#running
        .filter((other) => (other.paused || other.arrival > sequence.arrival) && other.preemptible)
        .filter((other) => other.blocks.length > 0)
        .reduce<Sequence | undefined>((a, b) => (a && isPreemptedBefore(a, b) ? a : b), undefined)
      if (!victim) return false
      this.#preempt(victim)
    }
    if (missing > 0) sequence.blocks.push(...this.#pool.allocate(missing))
    return true
  }

  /** Limits `rows` to those that there are blocks for: free ones are taken for a draft, those of others are not. */
  #rowsWithBlocks(sequence: Sequence, rows: number): number {
    const missing = this.#pool.blocksFor(sequence.scheduled + rows) - sequence.blocks.length
    if (missing > 0) sequence.blocks.push(...this.#pool.allocate(Math.min(missing, this.#pool.available)))
    return Math.min(rows, sequence.blocks.length * this.#pool.blockSize - sequence.scheduled)
  }

  #preempt(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1)
    this.#release(sequence)
    this.preemptions++
    this.add(sequence)
  }

  #release(sequence: Sequence): void {
    this.#pool.free(sequence.blocks)
    sequence.blocks = []
    sequence.keyedBlocks = 0
    sequence.computed = 0
    sequence.scheduled = 0
    if (sequence.slot !== undefined) this.#freeSlots.push(sequence.slot)
    sequence.slot = undefined
  }

  /**
   * Limits `rows` to those with the same rotary base. A recomputed sequence must reproduce the cache, and with dynamic
   * NTK the base may have changed while it was generated.
   */
  #rowsWithSameRopeBase({ promptLength, scheduled }: Sequence, rows: number): number {
    const { ropeBase, wholePrompts } = this.#options
    if (wholePrompts) return rows
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

/** Rows of tokens that are no draft. */
function knownRows({ rows, draft }: ScheduledEntry): number {
  return rows - draft.length
}

/** Of the next `rows`, those that end where a recomputation reaches results that are new. */
function withinDelivered({ scheduled, delivered }: Sequence, rows: number): number {
  return scheduled < delivered ? Math.min(rows, delivered - scheduled) : rows
}

/** Whether `a` is preempted before `b`: paused ones first, then the latest. */
function isPreemptedBefore(a: Sequence, b: Sequence): boolean {
  return a.paused === b.paused ? a.arrival > b.arrival : a.paused
}
