/** The goldens through the CUDA sources, on emulated devices: each model on one, split over several, mixed with the CPU. */
import { writeFileSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { type GenerateOptions, loadModel } from '../../src/index'
import {
  cut,
  difference,
  golden,
  greedyTokens,
  layerCount,
  modelDirectory,
  modulesOfFixture,
  representativeModels,
  splitModels,
  typeOnGpus,
} from '../support/fixtures'

/** Errors may be so many times what the same model in the same type is off (fixtures' README, Tolerances). */
const factor = 3

const table: string[] = []
afterAll(() => {
  const path = process.env.BILLFISH_GOLDEN_TABLE // where to write what docs/accuracy.md shows
  if (path) writeFileSync(path, `${table.join('\n')}\n`)
})

const emulated = ['emulated:0', 'emulated:1', 'emulated:2']
const splits: Record<string, (modules: readonly string[]) => Record<string, string> | string> = {
  'one device': () => 'emulated:0',
  'split in two, head back on the first': (modules) => ({ ...cut(modules, [0], emulated), lm_head: 'emulated:0' }),
  'split in three': (modules) => cut(modules, [1, 2], emulated),
  'cpu between two': (modules) => cut(modules, [0, 2], ['emulated:0', 'cpu', 'emulated:1']),
}

describe.each(splitModels)('%s', (name) => {
  const expected = golden(name)
  const layers = layerCount(expected)
  const modules = modulesOfFixture(name, expected)
  const type = typeOnGpus(name)

  const onOneDevice = new Map<string, Float32Array>()
  // Where a split cuts has nothing to do with the format.
  const all = process.env.BILLFISH_GOLDEN_TABLE || representativeModels.includes(name)
  const own = all ? Object.keys(splits) : ['split in three']
  test.each(own)('%s', async (split) => {
    const deviceMap = splits[split]?.(modules) as string
    const dtype = type === 'fp16' ? 'float16' : 'bfloat16'
    await using model = await loadModel(modelDirectory(name), { deviceMap, dtype, maxModelLength: 64 })
    let worst = 0
    let worstHidden = 0
    for (const prompt of ['p7', 'p33']) {
      const ids = expected.prompts[prompt] as number[]
      const { logits, hiddenStates } = await model.forward(ids, { hiddenStates: prompt === 'p33' })
      const off = difference(logits, expected.tensor(`${prompt}.logits`))
      const measured = expected.measured[type]?.[prompt] as (typeof expected.measured)[string][string]
      worst = Math.max(worst, off.max)
      expect(off.max).toBeLessThanOrEqual(factor * measured.logits_max_abs)
      expect(off.mean).toBeLessThanOrEqual(factor * measured.logits_mean_abs)
      if (prompt === 'p33') expect(hiddenStates).toHaveLength(layers + 1)
      for (const [i, state] of hiddenStates.entries()) {
        const hidden = difference(state, expected.tensor(i === 0 ? 'p33.embed' : `p33.layer.${i - 1}`))
        worstHidden = Math.max(worstHidden, hidden.max)
        expect(hidden.max, `hidden state ${i}`).toBeLessThanOrEqual(factor * measured.last_layer_max_abs)
      }
      const single = onOneDevice.get(prompt)
      if (split === 'one device') onOneDevice.set(prompt, logits)
      else if (single && !JSON.stringify(deviceMap).includes('cpu')) {
        expect(logits, 'a split gives bit for bit what one device gives').toEqual(single)
      }
    }
    // Both at once: a batch takes the emulator as long as one sequence.
    const prompts = ['p7', 'p33']
    const continuations = await Promise.all(prompts.map((prompt) => greedyTokens(model, expected.prompts[prompt])))
    expect(continuations).toEqual(prompts.map((prompt) => expected.greedy[prompt]))
    table.push(`| ${name} | ${split} | ${type} | ${worst.toExponential(2)} | ${worstHidden.toExponential(2)} | equal |`)
  })
})

describe('types other than the checkpoint’s', () => {
  test.each([
    ['llama-bf16', 'float16', 'fp16'],
    ['qwen2-gptq-int4-g128', 'bfloat16', 'bf16'],
    ['qwen1-fp16', 'bfloat16', 'bf16'],
    ['qwen3-moe-ct-w4a16', 'bfloat16', 'bf16'],
  ] as const)('%s in %s', async (name, dtype, type) => {
    const expected = golden(name)
    await using model = await loadModel(modelDirectory(name), { dtype, deviceMap: 'emulated:0', maxModelLength: 64 })
    const off = difference(
      (await model.forward(expected.prompts.p33 as number[])).logits,
      expected.tensor('p33.logits'),
    )
    expect(off.max).toBeLessThanOrEqual(factor * (expected.measured[type]?.p33?.logits_max_abs as number))
  })

  test('refuses float32, naming the way out', async () => {
    const loading = loadModel(modelDirectory('qwen2-bf16'), { dtype: 'float32', deviceMap: 'emulated:0' })
    await expect(loading).rejects.toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining("'auto'") })
  })
})

describe('sampling on the device of the logits', () => {
  const name = 'qwen2-gptq-int8-g128'
  const expected = golden(name)
  const modules = modulesOfFixture(name, expected)
  const ids = expected.prompts.p33 as number[]
  const load = (split: string) =>
    loadModel(modelDirectory(name), { deviceMap: splits[split]?.(modules) as string, maxModelLength: 64 })
  const length = { maxNewTokens: 12, ignoreEos: true }
  const options: GenerateOptions[] = [
    { ...length, seed: 1, temperature: 0.9, logprobs: 3 },
    { ...length, seed: 2, temperature: 1.5, topK: 40, topP: 0.8 },
    { ...length, seed: 3, temperature: 1, minP: 0.05, repetitionPenalty: 1.2, logprobs: 600 },
    {
      ...length,
      seed: 4,
      temperature: 2,
      topP: 0.95,
      presencePenalty: 0.5,
      frequencyPenalty: 0.5,
      logitBias: { 5: 4 },
    },
  ]

  test('gives the same tokens with a seed wherever the stages are', async () => {
    await using one = await load('one device')
    await using split = await load('split in two, head back on the first')
    const tokens = new Set<string>()
    for (const chosen of options) {
      const { tokenIds, logprobs } = await one.generate(ids, chosen).result()
      expect(await split.generate(ids, chosen).result()).toMatchObject({ tokenIds, ...(logprobs && { logprobs }) })
      tokens.add(tokenIds.join())
    }
    expect(tokens.size).toBe(options.length)
  })

  test('matches the logits of forward()', async () => {
    await using model = await load('split in three')
    const { logits, vocabSize } = await model.forward(ids)
    const last = Array.from(logits.slice(-vocabSize))
    const highest = Math.max(...last)
    const logSum = highest + Math.log(last.reduce((sum, logit) => sum + Math.exp(logit - highest), 0))
    const ranked = last.map((logit, token) => ({ token, logit })).sort((a, b) => b.logit - a.logit || a.token - b.token)
    const first = { maxNewTokens: 1, ignoreEos: true, temperature: 0, logprobs: 20 }
    const { logprobs } = await model.generate(ids, first).result()
    expect(logprobs?.[0]?.alternatives.map(({ token }) => token)).toEqual(ranked.slice(0, 20).map(({ token }) => token))
    for (const [i, { logprob }] of (logprobs?.[0]?.alternatives ?? []).entries()) {
      expect(logprob).toBeCloseTo((ranked[i]?.logit as number) - logSum, 4)
    }
    const [, second] = ranked as [{ token: number; logit: number }, { token: number; logit: number }]
    const logitBias = { [second.token]: highest - second.logit + 0.01 }
    expect((await model.generate(ids, { ...first, logitBias }).result()).tokenIds).toEqual([second.token])
  })
})
