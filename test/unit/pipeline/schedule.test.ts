import { describe, expect, test } from 'vitest'
import { pipelinePolicy } from '../../../src/pipeline/policy'
import { nextBatch, prefillChunk, type Ready } from '../../../src/pipeline/schedule'
import { type SimulatedRequest, simulate } from '../../support/simulated-pipeline'

const policy = { maxBatchTokens: 64, stepsInFlight: 1, balancedRows: 8 }
let arrivals = 0
const generating = (lastStep = 0): Ready => ({
  pending: 1,
  tokens: { length: 10 },
  decodes: true,
  draft: [],
  lastStep,
  arrival: arrivals++,
})
const prompt = (pending: number): Ready => ({
  pending,
  tokens: { length: pending },
  decodes: false,
  draft: [],
  lastStep: -1,
  arrival: arrivals++,
})
const traffic = (generating: number, stepsFree = 1) => ({ generating, stepsFree })
const rows = (batch: ReturnType<typeof nextBatch>) => batch.map((share) => share.rows)

describe('a batch', () => {
  test('starts with generating sequences, then takes prompts in order of arrival, the last one in part', () => {
    const first = prompt(40)
    const a = generating()
    const b = generating()
    const second = prompt(40)
    const batch = nextBatch([first, a, b, second], traffic(2), policy)
    expect(batch.map(({ sequence }) => sequence)).toEqual([a, b, first, second])
    expect(rows(batch)).toEqual([1, 1, 40, 22])
  })

  test('leaves a quarter to prompts, however many sequences generate', () => {
    const many = Array.from({ length: 100 }, () => generating())
    expect(nextBatch(many, traffic(100), policy)).toHaveLength(64)
    const batch = nextBatch([...many, prompt(500)], traffic(100), policy)
    expect(batch).toHaveLength(49)
    expect(rows(batch).at(-1)).toBe(16)
    expect(rows(nextBatch([...many, prompt(3)], traffic(100), policy)).at(-1)).toBe(3)
  })

  test('serves the sequence that has waited longest first', () => {
    const late = generating(7)
    const early = generating(3)
    expect(nextBatch([late, early], traffic(2), { ...policy, maxBatchTokens: 1 })).toEqual([
      { sequence: early, rows: 1 },
    ])
  })

  test('lets a short prompt overtake a long one, within a quarter of the step', () => {
    const long = prompt(1000)
    const tooLong = prompt(17)
    const short = prompt(10)
    const batch = nextBatch([long, tooLong, short], traffic(0), policy)
    expect(batch.map(({ sequence }) => sequence)).toEqual([short, long])
    expect(rows(batch)).toEqual([10, 54])
  })

  test('has whole prompts where their tokens see later ones, the first one always', () => {
    const whole = { ...policy, wholePrompts: true, stepsInFlight: 3 }
    const [long, short, other] = [prompt(60), prompt(10), prompt(4)]
    const batch = nextBatch([long, short, other], traffic(0), whole)
    expect(batch.map(({ sequence }) => sequence)).toEqual([long, other])
    expect(rows(batch)).toEqual([60, 4])
  })

  test('takes only its share of the generating sequences, so that the other stages have work too', () => {
    const eight = Array.from({ length: 8 }, () => generating())
    const four = { ...policy, stepsInFlight: 4 }
    expect(nextBatch(eight, traffic(8, 4), four)).toHaveLength(2)
    expect(nextBatch(eight.slice(0, 5), traffic(5, 4), four)).toHaveLength(2)
    expect(nextBatch(eight.slice(0, 3), traffic(5, 3), four)).toHaveLength(1)
    expect(nextBatch(eight.slice(0, 1), traffic(1, 4), four)).toHaveLength(1)
    // The steps under way are reading prompts: the sequences that generate are still dealt out over steps to come.
    expect(nextBatch(eight, traffic(8, 1), four)).toHaveLength(2)
  })

  test('is empty if nothing is waiting', () => {
    expect(nextBatch([], traffic(3), policy)).toEqual([])
  })
})

describe('the size of prompt pieces', () => {
  test('is the whole step if one step runs at a time', () => {
    expect(prefillChunk(1000, policy)).toBe(64)
  })

  test.each([2, 3, 4, 8])('over %i stages is the one that a simulated pipeline is fastest with', (stages) => {
    const balancedRows = 32
    for (const length of [256, 1024, 4000]) {
      const time = (piece: number) => {
        const pieces = Math.ceil(length / piece)
        const last = length - (pieces - 1) * piece // all but the last are whole
        const whole = balancedRows + piece
        return (pieces - 1) * whole + stages * (balancedRows + last) + (stages - 1) * (whole - balancedRows - last)
      }
      const chosen = prefillChunk(length, { maxBatchTokens: 1 << 20, stepsInFlight: stages, balancedRows })
      const best = Math.min(...Array.from({ length: length / 32 }, (_, i) => time(32 * (i + 1))))
      expect(chosen % 32).toBe(0)
      expect(time(chosen)).toBeLessThan(1.15 * best) // in whole multiples of 32 the bottom is flat
    }
  })
})

describe('the policy', () => {
  test('has one step per independent device; the CPU is one device, whatever its stages are called', () => {
    const steps = (...devices: string[]) => pipelinePolicy(devices, undefined).stepsInFlight
    expect(steps('cpu')).toBe(1)
    expect(steps('cpu:0', 'cpu:1', 'cpu:2')).toBe(1)
    expect(steps('cuda:0', 'cuda:1', 'cuda:2')).toBe(3)
    expect(steps('cuda:0', 'cuda:1', 'cpu', 'disk')).toBe(3)
    expect(steps('cuda:0', 'cuda:1', 'cuda:0')).toBe(2)
  })

  test('has no step for the experts of a stage on another device, but sizes steps for a CPU among them', () => {
    expect(pipelinePolicy(['cuda:0'], undefined, ['cpu'])).toEqual({ ...pipelinePolicy(['cpu'], undefined) })
    expect(pipelinePolicy(['cuda:0'], undefined, ['cuda:1'])).toEqual(pipelinePolicy(['cuda:0'], undefined))
  })

  test("follows the user's choice", () => {
    expect(pipelinePolicy(['cpu:0', 'cpu:1'], 2).stepsInFlight).toBe(2)
  })
})

describe('on a simulated clock', () => {
  const limits = { maxBatchTokens: 512, balancedRows: 32, maxSequences: 64, blockSize: 32, blockCount: 4096 }
  const equal = (stages: number) => Array.from({ length: stages }, () => ({ read: 32, row: 1 }))
  const together = (count: number, prompt: number, newTokens: number): SimulatedRequest[] =>
    Array.from({ length: count }, () => ({ arrival: 0, prompt, newTokens }))

  test.each([1, 2, 3, 4].flatMap((stages) => [1, 2, 4, 8].map((sequences) => ({ stages, sequences }))))(
    '$stages equal stages with $sequences sequences are as busy as they can be',
    ({ stages, sequences }) => {
      const { utilization } = simulate(together(sequences, 1, 400), equal(stages), { ...limits, stepsInFlight: stages })
      const ideal = Math.min(1, sequences / stages)
      for (const part of utilization) expect(part).toBeGreaterThan(0.97 * ideal)
    },
  )

  test('the slowest stage is always busy', () => {
    const stages = [
      { read: 20, row: 1 },
      { read: 50, row: 2 },
      { read: 10, row: 1 },
    ]
    const { utilization } = simulate(together(6, 1, 400), stages, { ...limits, stepsInFlight: 3 })
    expect(utilization[1]).toBeGreaterThan(0.97)
  })

  test('one long prompt keeps four stages busy', () => {
    const [alone, piped] = [1, 4].map((stepsInFlight) =>
      simulate([{ arrival: 0, prompt: 4096, newTokens: 1 }], equal(4), { ...limits, stepsInFlight }),
    )
    // 4096 rows in pieces of 512 one after the other take 8 * 4 * (32 + 512)
    expect(alone?.end).toBe(8 * 4 * (32 + 512))
    expect(piped?.utilization).toHaveLength(4)
    expect(piped?.end).toBeLessThan((alone?.end as number) / 2.6)
    for (const part of piped?.utilization ?? []) expect(part).toBeGreaterThan(0.65)
  })

  test('a generating sequence waits for at most one step of a new long prompt', () => {
    const requests = [
      { arrival: 0, prompt: 4, newTokens: 200 },
      { arrival: 1000, prompt: 4000, newTokens: 2 },
    ]
    for (const stepsInFlight of [1, 2]) {
      const { tokenTimes } = simulate(requests, equal(2), { ...limits, stepsInFlight })
      const times = tokenTimes[0] as readonly number[]
      const gaps = times.slice(1).map((time, i) => time - (times[i] as number))
      // Two stages of 32 + 512 rows, and as much again for the step that is under way
      expect(Math.max(...gaps)).toBeLessThanOrEqual(2 * 2 * (32 + 513))
    }
  })

  test('a short prompt does not wait for the whole of a long one before it', () => {
    const requests = [
      { arrival: 0, prompt: 8000, newTokens: 1 },
      { arrival: 1, prompt: 20, newTokens: 1 },
    ]
    const { tokenTimes } = simulate(requests, equal(1), { ...limits, stepsInFlight: 1 })
    const [long, short] = tokenTimes.map((times) => times[0] as number)
    expect(short).toBeLessThan((long as number) / 5)
  })

  test('a steady stream of requests is served in order, and none starves', () => {
    const requests = Array.from({ length: 60 }, (_, i) => ({
      arrival: i * 150,
      prompt: 1 + ((i * 37) % 300),
      newTokens: 1 + ((i * 13) % 140),
    }))
    const small = { ...limits, maxSequences: 6, blockCount: 20, stepsInFlight: 2 }
    const { tokenTimes, available, preemptions } = simulate(requests, equal(2), small)
    for (const [i, times] of tokenTimes.entries()) expect(times).toHaveLength(requests[i]?.newTokens as number)
    expect(available).toBe(20)
    expect(preemptions).toBeGreaterThan(0)
    // The first token of each comes before that of any request ten places behind it.
    const first = tokenTimes.map((times) => times[0] as number)
    for (let i = 0; i + 10 < first.length; i++) expect(first[i]).toBeLessThan(first[i + 10] as number)
  })

  test('no step exceeds the limit', () => {
    const requests = Array.from({ length: 40 }, (_, i) => ({ arrival: i, prompt: 1 + i * 9, newTokens: 20 }))
    const { steps } = simulate(requests, equal(3), { ...limits, maxBatchTokens: 24, stepsInFlight: 3 })
    for (const step of steps) expect(step.rows.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(24)
  })
})
