import { writeFileSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel } from '../../src/index'
import { withConfig } from '../support/fixture-copies'
import {
  cut,
  difference,
  golden,
  greedyTokens,
  hybridModels,
  layerCount,
  modelDirectory,
  modulesOfFixture,
  textModels,
  VISION_MODELS,
} from '../support/fixtures'

/** fp32 compute: two to four times the largest distance between fp32 and fp64 (fixtures' README, Tolerances). */
const float32Tolerance = 1.5e-4
/** The same of hybrids, whose states carry an error on. */
const hybridTolerance = 5e-4
/** The fast types may be off by this many times what the same model in fp16 is off. */
const fp16Factor = 3

const cpus = ['cpu:0', 'cpu:1', 'cpu:2']
const splits: Record<string, (modules: readonly string[]) => Record<string, string> | string> = {
  'one device': () => 'cpu',
  'split in two': (modules) => cut(modules, [Math.floor((modules.length - 3) / 2)], cpus),
  'split in three': (modules) => cut(modules, [1, 2], cpus),
  'uneven split, head back on the first': (modules) => ({ ...cut(modules, [0], cpus), lm_head: 'cpu:0' }),
}

const table: string[] = []
afterAll(() => {
  const path = process.env.BILLFISH_GOLDEN_TABLE // where to write what docs/accuracy.md shows
  if (path) writeFileSync(path, `${table.join('\n')}\n`)
})

describe.each([...textModels, ...VISION_MODELS])('%s', (name) => {
  const expected = golden(name)
  const layers = layerCount(expected)
  const modules = modulesOfFixture(name, expected)
  const tolerance = hybridModels.includes(name) ? hybridTolerance : float32Tolerance

  const onOneDevice = new Map<string, Float32Array>()
  describe.each(Object.keys(splits))('%s', (split) => {
    test.each(['float32', 'auto'] as const)('dtype %s', async (dtype) => {
      const deviceMap = splits[split]?.(modules) as string
      await using model = await loadModel(modelDirectory(name), { dtype, deviceMap, maxModelLength: 64 })
      let worst = 0
      let worstHidden = 0
      for (const prompt of ['p7', 'p33']) {
        const wanted = expected.tensor(`${prompt}.logits`)
        const ids = expected.prompts[prompt] as number[]
        const { logits, hiddenStates } = await model.forward(ids, { hiddenStates: prompt === 'p33' })
        const off = difference(logits, wanted)
        const single = onOneDevice.get(`${dtype} ${prompt}`)
        if (single) expect(logits, 'a split gives bit for bit what one device gives').toEqual(single)
        else onOneDevice.set(`${dtype} ${prompt}`, logits)
        worst = Math.max(worst, off.max)
        const fp16 = expected.measured.fp16?.[prompt] as { logits_max_abs: number; logits_mean_abs: number }
        if (dtype === 'float32') {
          expect(off.max).toBeLessThanOrEqual(tolerance)
        } else {
          expect(off.max).toBeLessThanOrEqual(fp16Factor * fp16.logits_max_abs)
          expect(off.mean).toBeLessThanOrEqual(fp16Factor * fp16.logits_mean_abs)
        }
        for (const [i, state] of hiddenStates.entries()) {
          const hidden = difference(state, expected.tensor(i === 0 ? 'p33.embed' : `p33.layer.${i - 1}`))
          worstHidden = Math.max(worstHidden, hidden.max)
          const bound = dtype === 'float32' ? tolerance : fp16Factor * 0.15
          expect(hidden.max, `hidden state ${i}`).toBeLessThanOrEqual(bound)
        }
        if (prompt === 'p33') expect(hiddenStates).toHaveLength(layers + 1)

        expect(await greedyTokens(model, ids)).toEqual(expected.greedy[prompt])
      }
      table.push(
        `| ${name} | ${split} | ${dtype} | ${worst.toExponential(2)} | ${worstHidden.toExponential(2)} | equal |`,
      )
    })
  })
})

describe('effects of the config', () => {
  const logitsWith = async (
    name: string,
    change: (config: Record<string, unknown>) => unknown,
    options?: LoadOptions,
  ) => {
    await using model = await loadModel(withConfig(name, change), { dtype: 'float32', maxModelLength: 64, ...options })
    return (await model.forward(golden(name).prompts.p33 as number[])).logits
  }

  test('qwen v1: dynamic NTK and log-n attention act beyond seq_length', async () => {
    const expected = golden('qwen1-fp16')
    const both = await logitsWith('qwen1-fp16', (config) => ({ ...config, seq_length: 16 }))
    expect(difference(both, expected.tensor('p33.logits_seq16_ntk_logn')).max).toBeLessThanOrEqual(float32Tolerance)
    const ntk = await logitsWith('qwen1-fp16', (config) => ({ ...config, seq_length: 16, use_logn_attn: false }))
    expect(difference(ntk, expected.tensor('p33.logits_seq16_ntk')).max).toBeLessThanOrEqual(float32Tolerance)
  })

  test('mistral: the sliding window makes the difference', async () => {
    const expected = golden('mistral-fp16')
    const without = await logitsWith('mistral-fp16', (config) => ({ ...config, sliding_window: null }))
    expect(difference(without, expected.tensor('p33.logits_without_window')).max).toBeLessThanOrEqual(float32Tolerance)
    expect(difference(without, expected.tensor('p33.logits')).max).toBeGreaterThan(0.1)
  })

  test.each(['llama-bf16', 'qwen2-bf16'])('%s: the config as transformers 5 writes it', async (name) => {
    const { readFileSync } = await import('node:fs')
    const config = JSON.parse(readFileSync(`${modelDirectory(name)}/config.transformers5.json`, 'utf8'))
    const logits = await logitsWith(name, () => config)
    expect(difference(logits, golden(name).tensor('p33.logits')).max).toBeLessThanOrEqual(float32Tolerance)
  })

  test('an architecture that is not known is refused, naming those that are', async () => {
    const unknown = withConfig('qwen3-bf16', (config) => ({ ...config, model_type: 'qwen4_exp' }))
    await expect(loadModel(unknown)).rejects.toMatchObject({
      code: 'UNSUPPORTED_MODEL',
      message: expect.stringContaining(
        'qwen2, qwen3, qwen2_moe, qwen3_moe, qwen3_vl_moe_text, qwen3_next, qwen3_5_text, qwen3_5_moe_text, llama, mistral',
      ),
    })
  })
})
