/** The pipeline at work on real models: many requests at once, in pieces, short of memory, aborted at any moment. */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, type Model } from '../../../src/index'
import { withConfig } from '../../support/fixture-copies'
import { difference, golden, modelDirectory } from '../../support/fixtures'
import { Random } from '../../support/random.cjs'

const name = 'qwen2-gptq-int4-g128'
const expected = golden(name)
const split = { '': 'cpu:2', 'model.embed_tokens': 'cpu:0', 'model.layers.0': 'cpu:0', 'model.layers.1': 'cpu:1' }
const prompts = Object.keys(expected.greedy)
/** So many tokens make every sequence grow by several KV blocks (of 32). */
const length = 80

function generate(model: Model, prompt: string, options: { maxNewTokens?: number; signal?: AbortSignal } = {}) {
  const { maxNewTokens = length, signal } = options
  return model
    .generate(expected.prompts[prompt] as number[], { maxNewTokens, temperature: 0, ignoreEos: true, signal })
    .result()
}

/** What each prompt gives alone; its beginning is the golden's. */
const alone = loadModel(modelDirectory(name), { dtype: 'float32', maxModelLength: 128 }).then(async (model) => {
  const answers: Record<string, readonly number[]> = {}
  for (const prompt of prompts) {
    answers[prompt] = (await generate(model, prompt)).tokenIds
    expect(answers[prompt].slice(0, 24)).toEqual(expected.greedy[prompt])
  }
  await model.dispose()
  return answers
})

const expectIdle = (model: Model) => {
  const { waiting, running, stepsInFlight, cacheTokens } = model.activity()
  expect({ waiting, running, stepsInFlight, inUse: cacheTokens.inUse }).toEqual({
    waiting: 0,
    running: 0,
    stepsInFlight: 0,
    inUse: 0,
  })
}

describe.each<{ what: string; options: LoadOptions }>([
  { what: 'one stage', options: { deviceMap: 'cpu' } },
  { what: 'three stages, one step at a time', options: { deviceMap: split } },
  { what: 'three stages, three steps at a time', options: { deviceMap: split, microBatches: 3 } },
  { what: 'pieces of 5 tokens', options: { deviceMap: split, microBatches: 3, maxBatchTokens: 5 } },
  { what: 'a tiny KV cache', options: { deviceMap: split, microBatches: 2, maxCacheTokens: 160 } },
  { what: 'a tiny KV cache and pieces', options: { deviceMap: split, maxCacheTokens: 160, maxBatchTokens: 7 } },
])('with $what', ({ options }) => {
  test('eight concurrent requests give what each gives alone', async () => {
    await using model = await loadModel(modelDirectory(name), {
      dtype: 'float32',
      maxModelLength: 128,
      maxSequences: 8,
      ...options,
    })
    const requests = Array.from({ length: 8 }, (_, i) => prompts[i % prompts.length] as string)
    const results = await Promise.all(requests.map((prompt) => generate(model, prompt)))
    for (const [i, prompt] of requests.entries()) expect(results[i]?.tokenIds).toEqual((await alone)[prompt])
    if (options.maxCacheTokens) expect(model.activity().preemptions).toBeGreaterThan(0)
    else expect(model.activity().preemptions).toBe(0)
    expectIdle(model)
  })
})

test('1000 requests, aborted at random moments, leave no KV block behind and change no answer', async () => {
  const numbers = new Random(7)
  const random = (below: number) => numbers.below(below)
  await using model = await loadModel(modelDirectory(name), {
    dtype: 'float32',
    maxModelLength: 128,
    maxSequences: 8,
    maxCacheTokens: 160,
    maxBatchTokens: 24,
    microBatches: 2,
    deviceMap: split,
  })
  const outcomes = { whole: 0, aborted: 0 }
  const one = async (index: number) => {
    const prompt = prompts[random(prompts.length)] as string
    const maxNewTokens = 1 + random(length)
    const controller = new AbortController()
    const aborts = random(2) === 0
    if (aborts) setTimeout(() => controller.abort(), random(30))
    try {
      const { tokenIds } = await generate(model, prompt, { maxNewTokens, signal: controller.signal })
      expect(tokenIds, `request ${index}`).toEqual((await alone)[prompt]?.slice(0, maxNewTokens))
      outcomes.whole++
    } catch (error) {
      expect(error).toBe(controller.signal.reason)
      outcomes.aborted++
    }
  }
  const forwards: Promise<unknown>[] = []
  for (let done = 0; done < 1000; done += 20) {
    forwards.push(model.forward(expected.prompts.p7 as number[]))
    await Promise.all(Array.from({ length: 20 }, (_, i) => one(done + i)))
  }
  await Promise.all(forwards)
  expect(outcomes.whole).toBeGreaterThan(300)
  expect(outcomes.aborted).toBeGreaterThan(100)
  expect(model.activity().preemptions).toBeGreaterThan(0)
  expectIdle(model)
  const { tokenIds } = await generate(model, 'p33')
  expect(tokenIds).toEqual((await alone).p33)
})

test('logits of a prompt that flows through the stages in pieces are those of the whole', async () => {
  await using model = await loadModel(modelDirectory(name), {
    dtype: 'float32',
    maxModelLength: 64,
    maxBatchTokens: 4,
    microBatches: 3,
    deviceMap: split,
  })
  // 33 tokens by 4: pieces of one prompt are at different stages at the same time, if their threads get to run.
  const overlaps = () => {
    const { steps } = model.trace()
    return steps.filter((step, i) => {
      const next = steps[i + 1]?.stages[0]
      return next !== undefined && next.begin < (step.stages[2]?.begin as number)
    })
  }
  for (let tries = 0; tries < 20 && overlaps().length <= 5; tries++) {
    const passes = await Promise.all(Array.from({ length: 3 }, () => model.forward(expected.prompts.p33 as number[])))
    for (const { logits } of passes) expect(difference(logits, expected.tensor('p33.logits')).max).toBeLessThan(1.5e-4)
  }
  expect(overlaps().length).toBeGreaterThan(5)
})

test('a rotary base that grows while decoding (dynamic NTK) survives recomputation', async () => {
  const rope_scaling = { type: 'dynamic', factor: 4, original_max_position_embeddings: 20 }
  const directory = withConfig(name, (config) => ({ ...config, rope_scaling }))
  const answers = async (maxCacheTokens: number | undefined) => {
    await using model = await loadModel(directory, { dtype: 'float32', maxModelLength: 128, maxCacheTokens })
    const results = await Promise.all(['p33', 'p7', 'p33'].map((prompt) => generate(model, prompt)))
    return { tokens: results.map(({ tokenIds }) => tokenIds), preemptions: model.activity().preemptions }
  }
  const roomy = await answers(undefined)
  const tight = await answers(160)
  expect(roomy.tokens[0]).not.toEqual((await alone).p33) // the base does grow
  expect(tight.preemptions).toBeGreaterThan(0)
  expect(tight.tokens).toEqual(roomy.tokens)
})

test('sampling with a seed gives the same tokens after recomputation', async () => {
  const options = { dtype: 'float32', maxModelLength: 128, maxSequences: 4 } as const
  const answers = async (maxCacheTokens: number | undefined) => {
    await using model = await loadModel(modelDirectory(name), { ...options, maxCacheTokens })
    const results = await Promise.all(
      [1, 2, 3, 4].map((seed) =>
        model
          .generate(expected.prompts.p33 as number[], { maxNewTokens: length, temperature: 1, seed, ignoreEos: true })
          .result(),
      ),
    )
    return { tokens: results.map(({ tokenIds }) => tokenIds), preemptions: model.activity().preemptions }
  }
  const roomy = await answers(undefined)
  const tight = await answers(160)
  expect(roomy.preemptions).toBe(0)
  expect(tight.preemptions).toBeGreaterThan(0)
  expect(tight.tokens).toEqual(roomy.tokens)
})

describe('what a model reports', () => {
  test('memory: planned, allocated and in use', async () => {
    await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, deviceMap: split })
    for (const { planned, weights, kvCache, states, buffers } of model.memory()) {
      expect({ weights, kvCache, states, buffers }).toEqual(planned)
    }
    const inUse = () => model.memory().map(({ kvCacheInUse }) => kvCacheInUse)
    expect(inUse()).toEqual([0, 0, 0])
    const generation = model.generate(expected.prompts.p33 as number[], { maxNewTokens: 24, ignoreEos: true })
    let first = true
    for await (const { tokenIds } of generation) {
      if (tokenIds.length === 0 || !first) continue
      first = false
      // Two of the eight blocks (four sequences of 64 tokens) hold 34 tokens.
      expect(inUse()).toEqual(model.memory().map(({ kvCache }) => kvCache / 4))
      expect(model.activity()).toMatchObject({ running: 1, cacheTokens: { total: 256, inUse: 64 } })
    }
    expectIdle(model)
  })

  test('activity: what runs and what waits', async () => {
    await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, maxSequences: 1 })
    const all = ['p7', 'p7', 'p7'].map((prompt) => generate(model, prompt, { maxNewTokens: 24 }))
    await new Promise((resolve) => queueMicrotask(() => resolve(undefined)))
    expect(model.activity()).toMatchObject({ waiting: 2, running: 1 })
    await Promise.all(all)
    expectIdle(model)
  })

  test('trace: every step, with its tokens, at every stage in order', async () => {
    await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, deviceMap: split })
    expect(model.trace().utilization()).toEqual([])
    await generate(model, 'p33', { maxNewTokens: 5 })
    const trace = model.trace()
    expect(trace.stages).toEqual(['cpu:0', 'cpu:1', 'cpu:2'])
    expect(trace.steps.map(({ tokens }) => tokens)).toEqual([33, 1, 1, 1, 1])
    for (const { stages } of trace.steps) {
      const times = stages.flatMap(({ begin, end }) => [begin, end])
      expect(times).toEqual([...times].sort((a, b) => a - b))
    }
    const now = Number(process.hrtime.bigint()) / 1e6
    const last = trace.steps.at(-1)?.stages.at(-1)?.end as number
    expect(last).toBeLessThanOrEqual(now)
    expect(last).toBeGreaterThan(now - 5000)
    expect(trace.slice(1, 3).steps).toEqual(trace.steps.slice(1, 3))
    expect(trace.slice(3).steps).toEqual(trace.steps.slice(3))
    const parts = trace.utilization()
    for (const part of parts) expect(part).toBeGreaterThan(0)
    expect(parts.reduce((sum, part) => sum + part, 0)).toBeLessThanOrEqual(1) // one step at a time
  })

  test('a device with several stages has a track for each in the trace', async () => {
    const map = { '': 'cpu:0', 'model.layers.1': 'cpu:1' }
    await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, deviceMap: map })
    expect(model.trace().stages).toEqual(['stage 0 (cpu:0)', 'cpu:1', 'stage 2 (cpu:0)'])
  })

  test('the trace follows the Trace Event Format', async () => {
    await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, deviceMap: split })
    await generate(model, 'p7', { maxNewTokens: 3 })
    const { traceEvents } = JSON.parse(JSON.stringify(model.trace().toChromeTrace()))
    const slices = traceEvents.filter(({ ph }: { ph: string }) => ph === 'X')
    expect(slices).toHaveLength(3 * 3)
    for (const { name, cat, pid, tid, ts, dur } of slices) {
      expect([typeof name, typeof cat]).toEqual(['string', 'string'])
      for (const number of [pid, tid, ts, dur]) expect(Number.isFinite(number)).toBe(true)
      expect(dur).toBeGreaterThan(0)
    }
    const threads = traceEvents.filter(({ name }: { name: string }) => name === 'thread_name')
    expect(threads.map(({ args }: { args: { name: string } }) => args.name)).toEqual(['cpu:0', 'cpu:1', 'cpu:2'])
  })
})

test.each([0, 1.5, 63, -1, 2 ** 40])('maxCacheTokens %d is refused with its limits', async (maxCacheTokens) => {
  await expect(loadModel(modelDirectory(name), { maxModelLength: 64, maxCacheTokens })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining(String(maxCacheTokens)),
  })
})
