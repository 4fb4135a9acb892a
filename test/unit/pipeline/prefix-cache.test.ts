/** Sharing of KV blocks between sequences that begin alike: the scheduler without a model. */
import { describe, expect, test } from 'vitest'
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
  prefixCache: true,
  ropeBase: () => 0,
}
const forward = { sampling: undefined, wantLogits: true } as const

/** Tokens from..to - 1, each its own number. */
const range = (to: number, from = 0) => Array.from({ length: to - from }, (_, i) => from + i)

function request(prompt: readonly number[], change: Partial<SequenceRequest> = {}): SequenceRequest {
  return {
    prompt,
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
  const add = (prompt: readonly number[], of?: Partial<SequenceRequest>) => {
    const sequence = new Sequence(request(prompt, of), arrivals++)
    scheduler.add(sequence)
    return sequence
  }
  const complete = (batch: Batch | undefined, token = 7) => {
    if (!batch) throw new Error('there was no batch')
    scheduler.complete(batch)
    for (const { sequence } of batch) if (sequence.computed === sequence.tokens.length) sequence.tokens.push(token)
  }
  const end = (...sequences: Sequence[]) => {
    for (const sequence of sequences) sequence.ending = {}
    scheduler.sweep()
  }
  /** Computes a prompt alone, ends its sequence, and leaves its blocks in the cache. */
  const warm = (prompt: readonly number[], of?: Partial<SequenceRequest>) => {
    const sequence = add(prompt, of)
    while (sequence.computed < prompt.length) complete(scheduler.next())
    end(sequence)
    return sequence
  }
  return { pool, scheduler, add, complete, end, warm }
}

const shares = (batch: Batch | undefined) => batch?.map(({ sequence, from, rows }) => [sequence.arrival, from, rows])

describe('a sequence', () => {
  test('begins behind the blocks that were computed for an earlier one', () => {
    const { pool, scheduler, add, warm } = setup(16)
    const first = warm(range(11))
    expect(pool.available).toBe(16)
    const second = add([...range(9), 99, 98])
    expect(shares(scheduler.next())).toEqual([[1, 8, 3]])
    expect([first.cachedTokens, second.cachedTokens]).toEqual([0, 8])
    expect(scheduler.cacheCounts).toEqual({ queries: 22, hits: 8 })
    expect(pool.available).toBe(13)
  })

  test('shares blocks with one that runs', () => {
    const { pool, scheduler, add, complete, end } = setup(16)
    const first = add(range(10))
    complete(scheduler.next())
    const second = add(range(10))
    expect(shares(scheduler.next())).toEqual([
      [0, 10, 1],
      [1, 8, 2],
    ])
    expect(second.blocks.slice(0, 2)).toEqual(first.blocks.slice(0, 2))
    expect(second.blocks[2]).not.toBe(first.blocks[2])
    expect(pool.available).toBe(12)
    first.stepsInFlight = 0
    end(first)
    expect(pool.available).toBe(13) // the second one still holds two of its blocks
  })

  test('computes one token at least', () => {
    const { scheduler, add, complete, warm } = setup(16)
    warm(range(8))
    add(range(8))
    const batch = scheduler.next()
    expect(shares(batch)).toEqual([[1, 4, 4]])
    complete(batch)
    warm(range(9))
    add(range(9))
    expect(shares(scheduler.next())).toContainEqual([3, 8, 1])
  })

  test('finds what was generated, as the next turn of a chat does', () => {
    const { scheduler, add, complete, end } = setup(16)
    const turn = add(range(6))
    for (let i = 0; i < 7; i++) complete(scheduler.next(), 50 + i)
    end(turn)
    // 13 tokens, of which the last one was never computed
    expect(turn.tokens).toEqual([...range(6), 50, 51, 52, 53, 54, 55, 56])
    const next = add([...turn.tokens, ...range(3)])
    expect(shares(scheduler.next())).toEqual([[1, 12, 4]])
    expect(next.cachedTokens).toBe(12)
  })

  test('finds nothing under another salt, nor behind another beginning', () => {
    const { scheduler, add, complete, warm } = setup(32)
    warm(range(11), { cacheSalt: 'a' })
    for (const [prompt, cacheSalt, from] of [
      [range(11), undefined, 0],
      [range(11), 'b', 0],
      [[99, ...range(11, 1)], 'a', 0],
      [[...range(4), 99, ...range(11, 5)], 'a', 4],
      [range(11), 'a', 8],
    ] as const) {
      const sequence = add(prompt, { cacheSalt })
      const batch = scheduler.next()
      expect(shares(batch)).toContainEqual([sequence.arrival, from, 11 - from])
      complete(batch)
      sequence.ending = {}
      scheduler.sweep()
    }
  })

  test('that was admitted at the same time begins behind what an earlier one has computed meanwhile', () => {
    const { pool, scheduler, add, complete } = setup(32)
    const prompts = [add(range(16)), add([...range(14), 99, 98])]
    const batch = scheduler.next()
    expect(shares(batch)).toEqual([[0, 0, 16]])
    expect(pool.available).toBe(24)
    complete(batch)
    expect(shares(scheduler.next())).toEqual([
      [0, 16, 1],
      [1, 12, 4],
    ])
    expect(prompts[1]?.cachedTokens).toBe(12)
    expect(pool.available).toBe(26) // three of its blocks were given back, and the first one has grown
  })

  test('with a single token left to compute shares steps like one that decodes', () => {
    const { scheduler, add, complete, end } = setup(32)
    const first = add(range(16))
    add([...range(12), 99])
    complete(scheduler.next())
    end(first)
    expect(shares(scheduler.next())).toEqual([[1, 12, 1]]) // as if it were decoding
  })

  test('whose outputs of all rows are wanted neither takes nor leaves blocks; one of its last row does both', () => {
    const { pool, scheduler, add, warm } = setup(32)
    warm(range(11), forward)
    expect(pool.keyed).toBe(0)
    warm(range(11), { sampling: undefined, wantLogits: 'last' })
    expect(pool.keyed).toBe(2)
    add(range(11), forward)
    add(range(11), { sampling: undefined, wantLogits: 'last' })
    expect(shares(scheduler.next())).toEqual([
      [2, 0, 11],
      [3, 8, 3],
    ])
    expect(scheduler.cacheCounts).toEqual({ queries: 22, hits: 8 })
  })

  test('is recomputed after a preemption from where its blocks end', () => {
    const { scheduler, add, complete, end } = setup(5)
    const [early, late] = [add(range(7)), add(range(27, 20))]
    complete(scheduler.next())
    while (scheduler.preemptions === 0) complete(scheduler.next())
    expect(late.blocks).toEqual([])
    end(early)
    // Of its two full blocks the first one is still there: the deeper one was given to the early sequence.
    expect(shares(scheduler.next())).toEqual([[1, 4, 5]])
    expect(late.cachedTokens).toBe(0)
  })

  test('of a model with recurrent states, or whose tokens see later ones, shares nothing', () => {
    for (const of of [{ hasStates: true }, { wholePrompts: true }, { prefixCache: false }]) {
      const { pool, scheduler, add, warm } = setup(16, of)
      warm(range(11))
      add(range(11))
      expect(shares(scheduler.next())).toEqual([[1, 0, 11]])
      expect([scheduler.cacheCounts, pool.keyed]).toEqual([undefined, 0])
    }
  })
})

describe('admission', () => {
  test('counts cached blocks that nobody holds as taken, and shared ones not at all', () => {
    const { pool, scheduler, add, complete, warm } = setup(6)
    warm(range(17)) // five blocks, of which four have keys
    expect(pool.available).toBe(6)
    const first = add([...range(16), 99])
    const second = add([...range(16), 98])
    const batch = scheduler.next()
    // The first one takes four cached blocks and another one; the second one shares those, needs one, and none is to spare.
    expect(shares(batch)).toEqual([[first.arrival, 16, 1]])
    expect([pool.available, second.blocks.length]).toEqual([1, 0])
    first.ending = {}
    complete(batch)
    scheduler.sweep()
    expect(shares(scheduler.next())).toEqual([[second.arrival, 16, 1]])
  })

  test('lets in sequences that share their beginning and would not fit one by one', () => {
    const { scheduler, add, complete } = setup(11) // four times five without the cache
    add(range(17))
    complete(scheduler.next())
    complete(scheduler.next())
    for (const last of [97, 98, 99]) add([...range(16), last])
    complete(scheduler.next())
    expect(scheduler.counts).toMatchObject({ running: 4, waiting: 0 })
  })

  test('leaves nothing to a sequence that has to wait', () => {
    const { pool, scheduler, add, complete, warm } = setup(6)
    warm(range(9))
    const running = add(range(115, 100))
    complete(scheduler.next())
    const waiting = add([...range(9), ...range(12)]) // six blocks
    complete(scheduler.next())
    expect(waiting).toMatchObject({ blocks: [], computed: 0, scheduled: 0, keyedBlocks: 0 })
    expect(pool.available + running.blocks.length).toBe(6)
  })

  test('preempts paused sequences for the blocks that only they hold', () => {
    const { scheduler, add, complete } = setup(6, { maxSequences: 3 })
    const [one, two] = [add(range(9)), add(range(9))]
    complete(scheduler.next())
    complete(scheduler.next())
    one.paused = true
    two.paused = true
    const next = add(range(120, 101)) // five blocks: both must go, though one of the two frees but one block
    expect(shares(scheduler.next())?.[0]?.[0]).toBe(next.arrival)
    expect([one.blocks, two.blocks]).toEqual([[], []])
  })
})

describe('where numbers may not be finite,', () => {
  test('a prompt in pieces is registered when its last logits are known', () => {
    const { pool, scheduler, add, complete } = setup(16)
    add(range(20))
    complete(scheduler.next())
    expect(pool.keyed).toBe(0)
    complete(scheduler.next())
    expect(pool.keyed).toBe(5)
  })

  test('blocks of a suspect sequence are found by nobody, and computed again elsewhere if others hold them', () => {
    const { pool, scheduler, add, complete, end } = setup(32)
    const bad = add(range(9))
    complete(scheduler.next())
    const other = add(range(9))
    complete(scheduler.next())
    const shared = bad.blocks.slice(0, 2)
    expect(other.blocks.slice(0, 2)).toEqual(shared)
    const batch = scheduler.next() as Batch
    const suspect = batch.find(({ sequence }) => sequence === bad) as Batch[number]
    scheduler.complete(batch, new Set([suspect]))
    other.tokens.push(7)
    expect(pool.keyed).toBe(0)
    expect(bad).toMatchObject({ computed: 0, scheduled: 0, keyedBlocks: 0 })
    const third = add(range(9))
    const search = scheduler.next()
    expect(shares(search)).toEqual([[0, 0, 11]])
    for (const block of shared) expect(bad.blocks).not.toContain(block)
    complete(search)
    const rest = scheduler.next()
    expect(shares(rest)).toContainEqual([third.arrival, 0, 9])
    complete(rest)
    expect(pool.keyed).toBe(2) // of the third one: what was searched registers nothing
    end(bad, other, third)
    expect(pool.available).toBe(32)
  })

  test('a step that failed registers nothing', () => {
    const { pool, scheduler, add } = setup(16)
    const sequence = add(range(9))
    const batch = scheduler.next() as Batch
    sequence.ending = { error: new Error('lost') }
    scheduler.complete(batch)
    scheduler.sweep()
    expect([pool.keyed, pool.available]).toEqual([0, 16])
  })
})

test('with dynamic NTK, blocks are shared where the rotary bases agree', () => {
  const ropeBase = (promptLength: number, length: number) => Math.max(promptLength, length, 12)
  const { scheduler, add, complete, warm } = setup(64, { ropeBase })
  warm(range(11))
  warm(range(20))
  for (const [length, from] of [
    [10, 8],
    [12, 8],
    [14, 0], // nobody has computed with this base
    [20, 16],
    [21, 0],
  ] as const) {
    const sequence = add(range(length))
    let batch = scheduler.next()
    expect(shares(batch)?.[0]).toEqual([sequence.arrival, from, Math.min(16, length - from)])
    for (; sequence.computed < length; batch = scheduler.next()) complete(batch)
    sequence.ending = {}
    if (batch) complete(batch)
    scheduler.sweep()
  }
})

/** What the positions of blocks hold: a number for each different row, its past, salt and rotary base included. */
class Contents {
  readonly #numbers = new Map<string, number>()
  readonly #blocks = new Map<number, number[]>()

  /** What a correct cache holds at a position. */
  wanted({ tokens, promptLength, request }: Sequence, ropeBase: SchedulerOptions['ropeBase']): number[] {
    let past: number | string = `salt ${request.cacheSalt ?? ''}`
    return tokens.map((token, i) => {
      const key = `${past} ${token} ${ropeBase(promptLength, i + 1)}`
      if (!this.#numbers.has(key)) this.#numbers.set(key, this.#numbers.size + 1)
      past = this.#numbers.get(key) as number
      return past
    })
  }

  read(blocks: readonly number[], position: number): number | undefined {
    return this.#blocks.get(blocks[Math.floor(position / blockSize)] as number)?.[position % blockSize]
  }

  write(blocks: readonly number[], position: number, value: number): void {
    const block = blocks[Math.floor(position / blockSize)] as number
    const rows = this.#blocks.get(block) ?? []
    rows[position % blockSize] = value
    this.#blocks.set(block, rows)
  }
}

const POISON = -1

describe.each([1, 2, 4])('random histories with %i steps in flight', (stepsInFlight) => {
  test.each([
    ['a fixed rotary base', () => 0],
    ['dynamic NTK', (promptLength: number, length: number) => Math.max(promptLength, length, 24)],
  ])('every block holds what its readers take it for, with %s', (_, ropeBase) => {
    const random = new Random(stepsInFlight)
    const blocks = 14
    const { pool, scheduler } = setup(blocks, { stepsInFlight, ropeBase })
    const contents = new Contents()
    const beginnings = [range(40), range(40, 20), [...range(17), ...range(123, 100)]]
    const underWay: Batch[] = []
    const poisonous = new WeakSet<Batch>()
    const lengths = new Map<Sequence, number>()
    const count = 400
    let [ended, arrivals, reads, poisoned] = [0, 0, 0, 0]
    for (let tick = 0; ended < count; tick++) {
      expect(tick, 'the scheduler is stuck').toBeLessThan(100_000)
      if (arrivals < count && random.below(3) === 0) {
        const beginning = random.pick(beginnings).slice(0, 1 + random.below(34))
        const prompt = random.chance(0.5) ? beginning : [...beginning, random.below(3), random.below(3)]
        const cacheSalt = random.chance(0.2) ? 'a tenant' : undefined
        const kind = random.pick([{}, {}, {}, forward, { sampling: undefined, wantLogits: 'last' } as const])
        const sequence = new Sequence(request(prompt, { cacheSalt, ...kind }), arrivals++)
        const most = sequence.request.sampling ? prompt.length + 1 + random.below(20) : prompt.length
        lengths.set(sequence, Math.min(blocks * blockSize, most))
        scheduler.add(sequence)
      }
      for (let batch = scheduler.next(); batch; batch = scheduler.next()) {
        const live = scheduler.sequences
        for (const { sequence, from, rows } of batch) {
          // Nobody else has the blocks that the step writes to.
          const last = Math.floor((from + rows - 1) / blockSize)
          const written = sequence.blocks.slice(Math.floor(from / blockSize), last + 1)
          const others = live.filter(
            (other) => other !== sequence && other.blocks.some((block) => written.includes(block)),
          )
          expect([others.length, written.some((block) => pool.isShared(block))]).toEqual([0, false])
          // What was taken from the cache is what the sequence would have computed.
          if (from === 0 || from !== sequence.keyedBlocks * blockSize) continue
          const held = range(from).map((i) => contents.read(sequence.blocks, i))
          expect(held).toEqual(contents.wanted(sequence, ropeBase).slice(0, from))
          reads += from
        }
        const searches = batch.some(({ sequence, from }) => from < sequence.searchTo)
        if (!searches && random.chance(0.03)) poisonous.add(batch)
        underWay.push(batch)
      }
      const tables = scheduler.sequences.map((sequence) => sequence.blocks)
      expect(new Set(tables.flat()).size + pool.available).toBe(blocks)
      expect(tables.every((table) => new Set(table).size === table.length)).toBe(true)
      expect(pool.freedBy(tables)).toBe(blocks - pool.available)

      const sequences = scheduler.sequences
      const victim = random.below(40) === 0 ? sequences[random.below(sequences.length || 1)] : undefined
      if (victim) victim.ending ??= { error: new Error('aborted') }
      const reader = sequences[random.below(sequences.length || 1)]
      if (reader?.request.sampling) reader.paused = random.below(3) === 0
      const batch = underWay.shift()
      if (batch) {
        const suspects = new Set<Batch[number]>()
        for (const share of batch) {
          const { sequence, from, rows } = share
          const wanted = contents.wanted(sequence, ropeBase)
          const damaged = range(from).some((i) => contents.read(sequence.blocks, i) === POISON)
          const isBad = poisonous.has(batch) || damaged
          for (let i = from; i < from + rows; i++)
            contents.write(sequence.blocks, i, isBad ? POISON : (wanted[i] as number))
          const { wantLogits } = sequence.request
          const checked = wantLogits === true || from + rows === sequence.tokens.length
          if (isBad && checked && scheduler.isUsable(share)) suspects.add(share)
        }
        poisoned += suspects.size
        for (const { sequence } of scheduler.complete(batch, suspects)) {
          if (sequence.ending || sequence.computed < sequence.tokens.length) continue
          // The answer follows from what the cache holds, so that equal beginnings have equal answers.
          const next = (contents.read(sequence.blocks, sequence.computed - 1) as number) % 3
          if (sequence.tokens.length >= (lengths.get(sequence) as number)) sequence.ending = {}
          else sequence.tokens.push(next)
        }
      }
      ended += scheduler.sweep().length
    }
    expect(pool.available).toBe(blocks)
    expect(scheduler.preemptions).toBeGreaterThan(5)
    expect(poisoned).toBeGreaterThan(5)
    expect(reads).toBeGreaterThan(500)
    expect(scheduler.cacheCounts?.hits).toBeGreaterThan(200)
  })
})
