import { expect, test } from 'vitest'
import { BlockPool } from '../../../src/pipeline/block-pool'
import { type Batch, Scheduler, type SchedulerOptions } from '../../../src/pipeline/scheduler'
import { Sequence, type SequenceRequest } from '../../../src/pipeline/sequence'
import { Random } from '../../support/random.cjs'

const blockSize = 4
const options: SchedulerOptions = {
  maxBatchTokens: 16,
  stepsInFlight: 1,
  balancedRows: 8,
  maxSequences: 4,
  ropeBase: () => 0,
}

function request(prompt: number, change: Partial<SequenceRequest> = {}): SequenceRequest {
  return {
    prompt: Array.from({ length: prompt }, (_, i) => i),
    maxNewTokens: 100,
    sampling: () => ({}) as never,
    onStep: () => 1,
    onEnd: () => {},
    ...change,
  }
}

function setup(blocks: number, change: Partial<SchedulerOptions> = {}) {
  const pool = new BlockPool(blockSize, blocks)
  const scheduler = new Scheduler(pool, { ...options, ...change })
  let arrivals = 0
  const add = (prompt: number, of?: Partial<SequenceRequest>) => {
    const sequence = new Sequence(request(prompt, of), arrivals++)
    scheduler.add(sequence)
    return sequence
  }
  /** Completes a batch: sequences that are through get one token more. */
  const complete = (batch: Batch | undefined) => {
    if (!batch) throw new Error('there was no batch')
    scheduler.complete(batch)
    for (const { sequence } of batch) if (sequence.computed === sequence.tokens.length) sequence.tokens.push(7)
  }
  return { pool, scheduler, add, complete }
}

const shares = (batch: Batch | undefined) => batch?.map(({ sequence, rows }) => [sequence.arrival, rows])

test('several pieces of one prompt are in flight at a time, in order', () => {
  const { scheduler, add, complete } = setup(64, { stepsInFlight: 3, maxBatchTokens: 32 })
  const sequence = add(80)
  const first = scheduler.next()
  const second = scheduler.next()
  expect(shares(first)).toEqual([[0, 32]])
  expect(shares(second)).toEqual([[0, 32]])
  expect(shares(scheduler.next())).toEqual([[0, 16]])
  expect(scheduler.next()).toBeUndefined()
  expect(sequence).toMatchObject({ computed: 0, scheduled: 80, stepsInFlight: 3 })
  complete(first)
  expect(sequence).toMatchObject({ computed: 32, stepsInFlight: 2 })
  expect(scheduler.next()).toBeUndefined() // its next token is not known yet
})

test('when blocks run out, the latest sequence gives its blocks back and is recomputed', () => {
  const { pool, scheduler, add, complete } = setup(4)
  const early = add(3)
  const late = add(3)
  complete(scheduler.next())
  for (let length = 4; length <= 8; length++) {
    const batch = scheduler.next()
    expect(shares(batch)).toEqual([
      [0, 1],
      [1, 1],
    ])
    complete(batch)
  }
  // 9 tokens each: three blocks, but there are four in all.
  const batch = scheduler.next()
  expect(shares(batch)).toEqual([[0, 1]])
  expect(scheduler.preemptions).toBe(1)
  expect(late).toMatchObject({ computed: 0, scheduled: 0, blocks: [] })
  expect(late.tokens).toHaveLength(9)
  expect(scheduler.counts).toEqual({ waiting: 1, running: 1, paused: 0, stepsInFlight: 1 })
  expect(pool.available).toBe(1)

  early.ending = {}
  complete(batch)
  expect(scheduler.sweep()).toEqual([early])
  expect(shares(scheduler.next())).toEqual([[1, 9]]) // the prompt and what it had generated
})

test('blocks are not taken from a sequence with a step in flight, nor from one whose outputs would be repeated', () => {
  const { scheduler, add, complete } = setup(4, { stepsInFlight: 2 })
  const early = add(4)
  const late = add(4)
  complete(scheduler.next())
  const a = scheduler.next()
  const b = scheduler.next()
  expect([shares(a), shares(b)]).toEqual([[[0, 1]], [[1, 1]]])
  complete(a)
  early.tokens.push(...Array(8).fill(7)) // as if it had grown by two blocks more
  expect(scheduler.next()).toBeUndefined()
  expect(late.blocks).toHaveLength(2)
  complete(b)
  expect(shares(scheduler.next())?.[0]).toEqual([0, 9])
  expect(late.blocks).toHaveLength(0)

  expect(new Sequence(request(3, { sampling: undefined, wantLogits: true }), 0).preemptible).toBe(false)
})

test('a new sequence is admitted only if the running ones can grow by a block each', () => {
  const { scheduler, add } = setup(4)
  add(8)
  add(8)
  expect(shares(scheduler.next())).toEqual([[0, 8]])
  expect(scheduler.counts).toMatchObject({ waiting: 1, running: 1 })
})

test('a paused sequence computes nothing, and resumes where it was', () => {
  const { pool, scheduler, add, complete } = setup(16)
  const slow = add(3)
  const other = add(3)
  complete(scheduler.next())
  slow.paused = true
  expect(scheduler.counts).toEqual({ waiting: 0, running: 1, paused: 1, stepsInFlight: 0 })
  const batch = scheduler.next()
  expect(shares(batch)).toEqual([[1, 1]])
  complete(batch)
  other.paused = true
  expect(scheduler.next()).toBeUndefined()
  expect(pool.available).toBe(14) // nobody needs their blocks
  slow.paused = false
  expect(shares(scheduler.next())).toEqual([[0, 1]])
  expect(slow).toMatchObject({ computed: 3, scheduled: 4 })
})

test('paused sequences yield their slots and blocks to waiting ones, the latest first, and are recomputed', () => {
  const { scheduler, add, complete } = setup(16, { maxSequences: 2 })
  const [early, late] = [add(3), add(3)]
  complete(scheduler.next())
  early.paused = true
  late.paused = true
  const newcomer = add(3)
  const batch = scheduler.next()
  expect(shares(batch)).toEqual([[2, 3]])
  expect(scheduler.counts).toEqual({ waiting: 0, running: 1, paused: 2, stepsInFlight: 1 })
  expect([early.blocks.length, late.blocks.length, scheduler.preemptions]).toEqual([1, 0, 1])
  complete(batch)
  add(3)
  complete(scheduler.next()) // which admits the fourth in the place of the first
  expect([early.blocks.length, scheduler.preemptions]).toEqual([0, 2])

  late.paused = false
  newcomer.ending = {}
  scheduler.sweep()
  const again = scheduler.next()
  expect(shares(again)).toContainEqual([1, 4]) // its prompt, and the token that it had
  expect(scheduler.counts).toEqual({ waiting: 0, running: 2, paused: 1, stepsInFlight: 1 })
})

test('a paused sequence loses its blocks to growing ones before a later sequence does', () => {
  const { scheduler, add, complete } = setup(5)
  const [slow, growing, late] = [add(4), add(4), add(4)]
  complete(scheduler.next())
  slow.paused = true
  for (let length = 5; length <= 8; length++) complete(scheduler.next())
  expect([slow.blocks.length, growing.blocks.length, late.blocks.length]).toEqual([1, 2, 2])
  const batch = scheduler.next() // 9 tokens each: three blocks
  expect(shares(batch)).toEqual([[1, 1]])
  expect([slow.blocks.length, growing.blocks.length, late.blocks.length]).toEqual([0, 3, 2])
  complete(batch)
  slow.paused = false
  growing.ending = {}
  scheduler.sweep()
  expect(shares(scheduler.next())).toEqual([
    [2, 1],
    [0, 5],
  ])
})

test('paused sequences keep their blocks if those would not suffice for the waiting one', () => {
  const { scheduler, add, complete } = setup(6)
  const slow = add(4)
  const running = add(8)
  complete(scheduler.next())
  slow.paused = true
  add(20) // five blocks: what is free and paused together are three
  expect(shares(scheduler.next())).toEqual([[1, 1]])
  expect(slow.blocks).toHaveLength(1)
  expect(scheduler.counts).toMatchObject({ waiting: 1, running: 1, paused: 1 })
  expect(running.blocks).toHaveLength(3)
})

test('a suspect sequence is recomputed alone from its start, in turn with the others, and then shares steps again', () => {
  const { scheduler, add, complete } = setup(64)
  const [first, second] = [add(20, { prompt: Array(20).fill(0) }), add(6)]
  const asked = (batch: Batch | undefined) => [
    shares(batch),
    batch?.some(({ sequence, from }) => from < sequence.searchTo),
  ]
  complete(scheduler.next()) // a short prompt goes before the rest of a long one
  while (first.computed < 20) complete(scheduler.next())
  const batch = scheduler.next() as Batch
  expect(shares(batch)).toEqual([
    [0, 1],
    [1, 1],
  ])
  const [suspect, good] = batch as [Batch[number], Batch[number]]
  expect(scheduler.complete(batch, new Set([suspect]))).toEqual([good])
  second.tokens.push(7)
  expect(first).toMatchObject({ computed: 0, scheduled: 0, stepsInFlight: 0, searchTo: 21, searched: true })
  for (const expected of [
    [[[0, 16]], true],
    [[[1, 1]], false],
    [[[0, 5]], true],
  ]) {
    const next = scheduler.next()
    expect(asked(next)).toEqual(expected)
    complete(next)
  }
  expect(asked(scheduler.next())).toEqual([
    [
      [1, 1],
      [0, 1],
    ],
    false,
  ])
})

test('if all logits are requested, a search begins with the piece that failed; later ones do not count', () => {
  const { scheduler, add } = setup(64, { stepsInFlight: 3, maxBatchTokens: 32 })
  const sequence = add(80, { sampling: undefined, wantLogits: true })
  const [one, two, three] = [scheduler.next(), scheduler.next(), scheduler.next()] as [Batch, Batch, Batch]
  expect(scheduler.complete(one)).toEqual(one)
  expect(scheduler.complete(two, new Set(two))).toEqual([])
  expect(scheduler.next()).toBeUndefined()
  expect(scheduler.isUsable(three[0] as Batch[number])).toBe(false)
  expect(scheduler.complete(three)).toEqual([])
  expect(sequence).toMatchObject({ computed: 32, scheduled: 32, stepsInFlight: 0, searchTo: 64 })
  expect(shares(scheduler.next())).toEqual([[0, 32]])
  expect(sequence.searches).toBe(false)
})

test('rows whose rotary base differs do not share a step', () => {
  // As dynamic NTK: fixed for the prompt, growing behind it.
  const ropeBase = (promptLength: number, length: number) => 1000 + Math.max(promptLength, length, 10)
  const { scheduler, add, complete } = setup(16, { ropeBase })
  const sequence = add(6)
  sequence.tokens.push(...Array(6).fill(7)) // 12 tokens, to be computed again
  const batches: unknown[] = []
  for (let i = 0; i < 3; i++) {
    const batch = scheduler.next()
    batches.push(shares(batch))
    complete(batch)
  }
  expect(batches).toEqual([[[0, 10]], [[0, 1]], [[0, 1]]])
})

test('random traffic: every request ends within its limits, and all blocks are returned', () => {
  const numbers = new Random(1)
  const random = (below: number) => numbers.below(below)
  for (const stepsInFlight of [1, 2, 4]) {
    const blocks = 12
    const { pool, scheduler } = setup(blocks, { stepsInFlight })
    const underWay: Batch[] = []
    const lengths = new Map<Sequence, number>()
    let ended = 0
    let arrivals = 0
    for (let tick = 0; ended < 400; tick++) {
      expect(tick, 'the scheduler is stuck').toBeLessThan(100_000)
      if (arrivals < 400 && random(3) === 0) {
        const prompt = 1 + random(40)
        const wantLogits = random(8) === 0
        const sequence = new Sequence(
          request(prompt, wantLogits ? { sampling: undefined, wantLogits } : {}),
          arrivals++,
        )
        lengths.set(sequence, wantLogits ? prompt : Math.min(blocks * blockSize, prompt + 1 + random(20)))
        scheduler.add(sequence)
      }
      for (let batch = scheduler.next(); batch; batch = scheduler.next()) {
        expect(batch.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(options.maxBatchTokens)
        if (batch.some(({ sequence, from }) => from < sequence.searchTo)) expect(batch).toHaveLength(1)
        for (const { sequence } of batch)
          expect(sequence.blocks.length * blockSize).toBeGreaterThanOrEqual(sequence.scheduled)
        underWay.push(batch)
      }
      expect(underWay.length).toBeLessThanOrEqual(stepsInFlight)
      const held = scheduler.sequences.flatMap((sequence) => sequence.blocks)
      expect(new Set(held).size).toBe(held.length)
      expect(held.length + pool.available).toBe(blocks)
      expect(scheduler.counts.running).toBeLessThanOrEqual(options.maxSequences)

      const sequences = scheduler.sequences
      const victim = random(40) === 0 ? sequences[random(sequences.length || 1)] : undefined
      if (victim) victim.ending ??= {}
      const reader = sequences[random(sequences.length || 1)]
      if (reader?.request.sampling) reader.paused = random(3) === 0 // of the slow ones, too, each is read one day
      const batch = underWay.shift()
      if (batch) {
        const isSuspect = (share: Batch[number]) =>
          scheduler.isUsable(share) && !share.sequence.searched && random(20) === 0
        for (const { sequence } of scheduler.complete(batch, new Set(batch.filter(isSuspect)))) {
          if (sequence.ending || sequence.computed < sequence.tokens.length) continue
          if (sequence.tokens.length >= (lengths.get(sequence) as number)) sequence.ending = {}
          else sequence.tokens.push(7)
        }
      }
      ended += scheduler.sweep().length
    }
    expect(pool.available).toBe(blocks)
    expect(scheduler.preemptions).toBeGreaterThan(10)
  }
})
