import { expect, test } from 'vitest'
import { BillfishError } from '../../src/errors'
import type { NativeModel, StepOutput, StepRequest } from '../../src/native/addon'
import { Runner, type RunnerLimits } from '../../src/pipeline/runner'
import type { SequenceStep } from '../../src/pipeline/sequence'

const limits: RunnerLimits = {
  blockSize: 4,
  blockCount: 32,
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

/** A device that computes logits that are not finite wherever the poison is among a step's tokens. */
function device(steps: number[][] = []) {
  const step = async ({ tokens, sampling, logitRows, wantLogits }: StepRequest): Promise<StepOutput> => {
    steps.push([...tokens])
    await new Promise(setImmediate)
    if (tokens.includes(poison)) {
      const message = 'The logits are not finite: NaN or infinity first appears in model.layers.1.'
      throw Object.assign(new Error(message), { code: 'NON_FINITE' })
    }
    return {
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

test('of a step whose logits are not finite only the sequence ends that is to blame', async () => {
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

test('long prompts in pieces: what is behind the failure is not told of twice', async () => {
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

test('any other failure ends all sequences of the step', async () => {
  const broken = { step: () => Promise.reject(Object.assign(new Error('lost'), { code: 'INTERNAL' })) }
  const runner = new Runner(broken as unknown as NativeModel, limits, () => 0, ['cpu'])
  const runs = await Promise.allSettled([run(runner, [1], true), run(runner, [2], false)])
  for (const outcome of runs) expect(outcome).toMatchObject({ reason: new BillfishError('INTERNAL', 'lost') })
})
