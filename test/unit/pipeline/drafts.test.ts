/** What becomes of drafts, on a device whose tokens are known. */
import { expect, test } from 'vitest'
import type { NativeModel, StepRequest } from '../../../src/native/addon'
import { Runner, type RunnerLimits } from '../../../src/pipeline/runner'
import { nextBatch, type Ready } from '../../../src/pipeline/schedule'
import type { SequenceRequest } from '../../../src/pipeline/sequence'

const limits: RunnerLimits = {
  blockSize: 4,
  blockCount: 32,
  hasStates: false,
  prefixCache: true,
  speculation: { method: 'ngram', tokens: 3, minMatch: 1, maxMatch: 2 },
  wholePrompts: false,
  maxBatchTokens: 64,
  maxSequences: 4,
  maxModelLength: 64,
  vocabulary: 100,
  hiddenSize: 2,
  outputWidth: 100,
  layers: 2,
  stepsInFlight: 1,
  balancedRows: 32,
}
const poison = 66

/**
 * A device on which every token is followed by that of `next`. The logits of the poison are not finite, which a search
 * finds. Notes the tokens of each step.
 */
function setup(next: (token: number) => number, change: Partial<RunnerLimits> = {}) {
  const steps: number[][] = []
  const step = async ({ tokens, logitRows, sampling, search }: StepRequest) => {
    steps.push([...tokens])
    await new Promise(setImmediate)
    if (search && tokens.includes(poison)) throw Object.assign(new Error('up_proj is NaN'), { code: 'NON_FINITE' })
    const rows = [...logitRows].map((row) => tokens[row] as number)
    return {
      nonFiniteRows: [...rows.keys()].filter((i) => rows[i] === poison),
      samples: rows
        .filter((_, i) => sampling[i] !== null)
        .map((token) => ({ token: next(token), logprob: 0, alternatives: [] })),
      stages: new Float64Array(2),
      notices: [],
    }
  }
  const runner = new Runner({ step } as unknown as NativeModel, { ...limits, ...change }, () => 0, ['cpu'])
  /** The answer to a prompt. */
  const run = (prompt: number[], maxNewTokens: number, of: Partial<SequenceRequest> = {}) =>
    new Promise<number[]>((resolve, reject) => {
      const answer: number[] = []
      runner.submit({
        prompt,
        maxNewTokens,
        sampling: () => ({}) as never,
        onStep: ({ sample }) => {
          answer.push(sample?.token as number)
          return answer.length < maxNewTokens ? sample?.token : undefined
        },
        onEnd: (error) => (error === undefined ? resolve(answer) : reject(error)),
        ...of,
      })
    })
  return { runner, run, steps }
}

const countUp = (token: number) => token + 1

test('a right draft gives a token for each of its own, and one more', async () => {
  const { runner, run, steps } = setup(countUp)
  expect(await run([1, 2, 3, 4, 5, 6, 7, 8, 0, 1], 8)).toEqual([2, 3, 4, 5, 6, 7, 8, 9])
  expect(steps.slice(1)).toEqual([
    [2, 3, 4, 5],
    [6, 7, 8], // what would be behind the answer's end is not computed
  ])
  expect(runner.state.speculation).toEqual({ drafts: 2, draftTokens: 5, acceptedTokens: 5 })
  expect(runner.state.blocks.available).toBe(32)
})

test('the first wrong token of a draft ends it, and the right one follows', async () => {
  const { runner, run, steps } = setup(countUp)
  expect(await run([1, 2, 3, 50, 51, 0, 1], 5)).toEqual([2, 3, 4, 5, 6])
  expect(steps.slice(1)).toEqual([[2, 3, 50, 51], [4], [5]]) // 4 follows 3, and has not occurred before
  expect(runner.state.speculation).toEqual({ drafts: 1, draftTokens: 3, acceptedTokens: 1 })
})

test('each row is sampled as behind the tokens of the draft before it', async () => {
  const { run } = setup(countUp)
  const asked: (readonly number[])[] = []
  const sampling = (draft: readonly number[]) => {
    asked.push(draft)
    return {} as never
  }
  await run([1, 2, 3, 4, 5, 0, 1], 5, { sampling })
  expect(asked).toEqual([[], [], [3], [3, 4], [3, 4, 5]])
})

test('nothing is taken of a draft behind the end', async () => {
  const { runner, run } = setup(countUp)
  const answer: number[] = []
  const onStep: SequenceRequest['onStep'] = ({ sample }) => {
    answer.push(sample?.token as number)
    return sample?.token === 4 ? undefined : sample?.token
  }
  await run([1, 2, 3, 4, 5, 6, 7, 0, 1], 20, { onStep })
  expect(answer).toEqual([2, 3, 4])
  expect(runner.state).toMatchObject({ running: 0, blocks: { available: 32 } })
  const error = new Error('enough')
  const failing = run([1, 2, 3, 4, 5, 6, 7, 0, 1], 20, {
    onStep: ({ sample }) => {
      if (sample?.token === 4) throw error
      return sample?.token
    },
  })
  await expect(failing).rejects.toBe(error)
})

test('once sampling depends on more than tokens, the rest of a draft is dropped and no other is made', async () => {
  const { run, steps } = setup(countUp)
  let last = 0
  const onStep: SequenceRequest['onStep'] = ({ sample }) => {
    last = sample?.token as number
    return last < 8 ? last : undefined
  }
  await run([1, 2, 3, 4, 5, 6, 7, 8, 0, 1], 20, { onStep, speculates: () => last < 4 })
  expect(steps.slice(1)).toEqual([[2, 3, 4, 5], [4], [5], [6], [7]])
})

test('numbers that are not finite fail a sequence only if it gets to them', async () => {
  const { run, steps } = setup((token) => (token === 5 ? poison : token + 1))
  const beside = run([20, 21, 22, 23, 24, 25, 26, 20], 6)
  await expect(run([4, 5, poison, 7, 8, 0, 3], 8)).rejects.toMatchObject({ code: 'NON_FINITE', message: /up_proj/ })
  expect(await beside).toEqual([21, 22, 23, 24, 25, 26])
  expect(steps.some((tokens) => tokens.includes(poison) && tokens.includes(20))).toBe(true)

  const wrong = setup((token) => (token === 3 ? 50 : token + 1))
  expect(await wrong.run([1, 2, 3, poison, 8, 0, 1], 5)).toEqual([2, 3, 50, 51, 52])
  expect(wrong.steps[1]).toEqual([2, 3, poison, 8]) // computed, though not part of the answer
})

test('a draft takes free blocks, and is cut where there are none', async () => {
  const prompt = [1, 2, 3, 4, 5, 6, 7, 0, 1] // three blocks, the third with room for three tokens
  const free = setup(countUp, { blockCount: 4, maxModelLength: 16 })
  await free.run(prompt, 7)
  expect(free.steps[1]).toEqual([2, 3, 4, 5])
  const full = setup(countUp, { blockCount: 4, maxModelLength: 16, prefixCache: false })
  const [answer] = await Promise.all([full.run([1, 2, 3, 4, 5, 1], 4), full.run([9], 3)])
  expect(answer).toEqual([2, 3, 4, 5])
  for (const tokens of full.steps) expect(tokens.length).toBeLessThanOrEqual(8)
  expect(full.runner.state.blocks.available).toBe(4)
})

test('blocks behind accepted tokens are found by later prompts, and no wrong token is', async () => {
  const { run, runner, steps } = setup((token) => (token === 4 ? 30 : token + 1))
  const prompt = [1, 2, 3, 4, 5, 6, 7, 0, 1]
  expect(await run(prompt, 6)).toEqual([2, 3, 4, 30, 31, 32])
  expect(steps[1]).toEqual([2, 3, 4, 5])
  await run([...prompt, 2, 3, 4, 30], 1)
  expect(runner.state.prefixCache?.hits).toBe(12)
  expect(steps.at(-1)).toEqual([30])
  await run([...prompt, 2, 3, 4, 5, 6], 1)
  expect(steps.at(-1)).toEqual([5, 6])
})

test('drafts get rows up to where computing takes longer than reading weights, behind prompts', () => {
  const ready = (pending: number, draft: number, arrival: number): Ready => ({
    pending,
    tokens: { length: 10 },
    decodes: pending === 1,
    draft: { length: draft },
    lastStep: 0,
    arrival,
  })
  const rows = (all: Ready[], change = {}) =>
    nextBatch(
      all,
      { generating: 2, stepsFree: 1 },
      { maxBatchTokens: 64, stepsInFlight: 1, balancedRows: 8, ...change },
    ).map((share) => share.rows)
  expect(rows([ready(1, 4, 0)])).toEqual([5])
  expect(rows([ready(1, 4, 0), ready(1, 4, 1)])).toEqual([5, 3])
  expect(rows([ready(1, 4, 0), ready(1, 4, 1), ready(20, 0, 2)])).toEqual([1, 1, 20])
  expect(rows([ready(1, 4, 0)], { maxBatchTokens: 3 })).toEqual([3])
})
