import { expect, test } from 'vitest'
import { BillfishError } from '../../../src/common/errors'
import type { NativeModel, StepRequest } from '../../../src/native/addon'
import { Runner, type RunnerLimits } from '../../../src/pipeline/runner'
import type { SequenceStep } from '../../../src/pipeline/sequence'

const limits: RunnerLimits = {
  blockSize: 4,
  blockCount: 32,
  hasStates: false,
  prefixCache: true,
  speculation: undefined,
  wholePrompts: false,
  maxBatchTokens: 16,
  maxSequences: 8,
  maxModelLength: 64,
  vocabulary: 10,
  hiddenSize: 2,
  outputWidth: 10,
  layers: 2,
  stepsInFlight: 2,
  balancedRows: 8,
}
const poison = 9

/** A device whose logits are not finite where the poison is among a sequence's tokens in a step, as a search finds. */
function device(steps: number[][] = []) {
  const step = async ({ tokens, sequences, sampling, logitRows, wantLogits, search }: StepRequest) => {
    steps.push([...tokens])
    await new Promise(setImmediate)
    if (search && tokens.includes(poison)) {
      throw Object.assign(new Error('The output of model.layers.1.mlp.up_proj is NaN'), { code: 'NON_FINITE' })
    }
    const nonFiniteRows = [...logitRows.keys()].filter((at) => {
      const row = logitRows[at] as number
      for (let i = 0; i < sequences.length; i += 6) {
        const [first, rows] = sequences.subarray(i, i + 2) as unknown as [number, number]
        if (row >= first && row < first + rows) return tokens.subarray(first, first + rows).includes(poison)
      }
      return false
    })
    return {
      nonFiniteRows,
      samples: sampling.filter((spec) => spec !== null).map(() => ({ token: 3, logprob: 0, alternatives: [] })),
      ...(wantLogits && { logits: new Float32Array(logitRows.length * limits.vocabulary) }),
      stages: new Float64Array(2),
      notices: [],
    }
  }
  return { step } as unknown as NativeModel
}

/** How a sequence ends: with the number of steps that it was told of, or with an error. */
function run(runner: Runner, prompt: number[], generates: boolean, token = 3) {
  return new Promise<number>((resolve, reject) => {
    let steps = 0
    runner.submit({
      prompt,
      maxNewTokens: 4,
      ...(generates ? { sampling: () => ({}) as never } : { wantLogits: true }),
      onStep: (_: SequenceStep) => (++steps < 4 && generates ? token : undefined),
      onEnd: (error) => (error === undefined ? resolve(steps) : reject(error)),
    })
  })
}

const nonFinite = { name: 'BillfishError', code: 'NON_FINITE', message: expect.stringMatching(/model\.layers\.1/) }

test('a step with non-finite logits ends only the sequence that causes them', async () => {
  const steps: number[][] = []
  const runner = new Runner(device(steps), limits, () => 0, ['cpu'])
  const good = [run(runner, [1, 2], true), run(runner, [4, 5, 6], false), run(runner, [7], true)]
  const bad = [run(runner, [1, poison], true), run(runner, [poison, 2], false), run(runner, [8], true, poison)]
  for (const sequence of bad) await expect(sequence).rejects.toMatchObject(nonFinite)
  expect(await Promise.all(good)).toEqual([4, 1, 4])
  expect(steps.some((tokens) => tokens.length > 3 && tokens.includes(poison))).toBe(true) // they did share a step
  expect(await run(runner, [1, 2, 3], true)).toBe(4)
  expect(runner.state).toMatchObject({ waiting: 0, running: 0, stepsInFlight: 0, blocks: { available: 32 } })
})

test('long prompts in pieces: a failure is reported once, not for later pieces again', async () => {
  const runner = new Runner(device(), { ...limits, stepsInFlight: 3 }, () => 0, ['cpu'])
  const long = Array.from({ length: 60 }, (_, i) => i % 9)
  const rows: number[] = []
  const forward = new Promise((resolve) => {
    runner.submit({
      prompt: long,
      maxNewTokens: 0,
      wantLogits: true,
      onStep: ({ logits }) => {
        rows.push((logits as Float32Array).length / limits.vocabulary)
        return undefined
      },
      onEnd: resolve,
    })
  })
  const bad = Array.from({ length: 5 }, () => run(runner, [1, poison], true).catch((error: unknown) => error))
  for (const error of await Promise.all(bad)) expect(error).toMatchObject(nonFinite)
  expect(await forward).toBeUndefined()
  expect(rows.reduce((sum, count) => sum + count, 0)).toBe(60)
})

test('states are recomputed from the beginning, and no row is delivered twice', async () => {
  const steps: number[][] = []
  const runner = new Runner(device(steps), { ...limits, hasStates: true, stepsInFlight: 1 }, () => 0, ['cpu'])
  const rows: number[] = []
  const prompt = Array.from({ length: 40 }, (_, i) => (i === 20 ? poison : i % 9))
  const failure = await new Promise((resolve) => {
    runner.submit({
      prompt,
      maxNewTokens: 0,
      wantLogits: true,
      onStep: ({ logits }) => {
        rows.push((logits as Float32Array).length / limits.vocabulary)
        return undefined
      },
      onEnd: resolve,
    })
  })
  expect(failure).toMatchObject(nonFinite)
  expect(rows).toEqual([16])
  expect(steps.map(({ length }) => length)).toEqual([16, 16, 16, 16]) // from the first token on, up to the damage
  expect(steps[2]).toEqual(prompt.slice(0, 16))
})

test('a running sequence has a slot of its own', async () => {
  const slots: number[][] = []
  const { step } = device()
  const noting = {
    step: (request: StepRequest) => {
      slots.push(slotsOf(request))
      return step(request)
    },
  }
  const runner = new Runner(noting as unknown as NativeModel, { ...limits, maxSequences: 3 }, () => 0, ['cpu'])
  await Promise.all(Array.from({ length: 9 }, (_, i) => run(runner, Array(1 + i).fill(1), true)))
  for (const inStep of slots) expect(new Set(inStep).size).toBe(inStep.length)
  expect(new Set(slots.flat())).toEqual(new Set([0, 1, 2]))
})

const slotsOf = ({ sequences }: StepRequest) => Array.from(sequences).filter((_, i) => i % 6 === 5)

test('any other failure ends all sequences of the step', async () => {
  const broken = { step: () => Promise.reject(Object.assign(new Error('lost'), { code: 'INTERNAL' })) }
  const runner = new Runner(broken as unknown as NativeModel, limits, () => 0, ['cpu'])
  const runs = await Promise.allSettled([run(runner, [1], true), run(runner, [2], false)])
  for (const outcome of runs) expect(outcome).toMatchObject({ reason: new BillfishError('INTERNAL', 'lost') })
})
