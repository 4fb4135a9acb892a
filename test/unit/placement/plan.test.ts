import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { QuantizationConfig } from '../../../src/checkpoint/types'
import { runSync } from '../../../src/common/event-loop'
import { createModel, storedWeights } from '../../../src/models/registry'
import { modulesOf, traceStage } from '../../../src/models/stages'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { configSource } from '../../../src/placement/config-source'
import { type PlanDevice, planStages as planningStages } from '../../../src/placement/plan'
import { autoSplit, type SplitLimits, splitMap } from '../../../src/placement/planner/auto-map'
import { costsOf } from '../../../src/placement/planner/stage-costs'
import { countedStage, wholePages } from '../../../src/placement/planner/stage-memory'
import { modelDirectory, QWEN2_72B, textModels } from '../../support/fixtures'

const limits = {
  maxSequences: 4,
  exact: false,
  cacheType: 'F16',
  blockSize: 32,
  blockCount: 64,
  maxBatchTokens: 512,
  maxLogitRows: 16,
  tensorParallelSize: 1,
} satisfies SplitLimits & { tensorParallelSize: number }
const GiB = 2 ** 30
const planStages = (...args: Parameters<typeof planningStages>) => runSync(planningStages(...args))

const int4: QuantizationConfig = {
  method: 'gptq',
  bits: 4,
  groupSize: 128,
  symmetric: true,
  actOrder: false,
  zeroOffset: 1,
  groupIndex: true,
  head: false,
  rules: [],
}
const qwen2Of72B = { ...QWEN2_72B, torch_dtype: 'float16' }

function autoDeviceMap(
  { model, source }: ReturnType<typeof fromConfig>,
  devices: PlanDevice[],
): Map<string, string> | undefined {
  const costs = runSync(costsOf(model, source, 1))
  const ends = runSync(autoSplit(costs, limits, devices))
  return ends && splitMap(costs, devices, ends)
}

/** A model from its config alone, with its weights as the quantization config says. */
function fromConfig(config: Record<string, unknown>, quantization: QuantizationConfig) {
  const source = configSource(config, quantization)
  return { source, model: createModel(config, source) }
}

// Old AutoGPTQ files also hold biases of zeros, of which config.json says nothing.
const withSpuriousBiases = [
  'qwen1-gptq-int8',
  'qwen2-gptq-int4-channelwise',
  'qwen2-gptq-int4-g128',
  'qwen2-gptq-int8-g128',
]

/** Its config says that zero points are symmetric, and most of them are not. */
const contradicted = 'qwen2-gptq-sym-odd-zeros'

/** Its scales are fp32; its config says nothing of them, and those of Qwen's releases are in the model's type. */
const withWideScales = 'qwen3-fp8-block'

const unlikeConfig = [...withSpuriousBiases, contradicted, withWideScales]
const planned = textModels.filter((name) => !unlikeConfig.includes(name))
describe.each(planned)('%s from its config alone', (name) => {
  test.each([1, 2, 4])('needs the bytes of its headers over %i devices', async (count) => {
    const checkpoint = await openCheckpoint(modelDirectory(name))
    const weights = storedWeights(checkpoint)
    const real = createModel(checkpoint.config, weights)
    const config = JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
    const { source, model } = fromConfig(config, checkpoint.quantization)
    const modules = modulesOf(model)
    const devices = new Map(modules.map((module, i) => [module, `cpu:${Math.floor((i * count) / modules.length)}`]))
    const deviceOf = (module: string) => devices.get(module)
    expect(planStages(model, source, limits, deviceOf)).toEqual(planStages(real, weights, limits, deviceOf))
  })
})

describe('auto', () => {
  const qwen = fromConfig(qwen2Of72B, int4)
  const { source, model } = qwen
  const layersOn = (map: Map<string, string>, device: string) =>
    [...map].filter(([module, owner]) => owner === device && module.includes('.layers.')).length
  const devices = (...memory: number[]) => memory.map((bytes, i) => ({ device: `cpu:${i}`, memory: bytes }))

  test('72B in int4 over four devices of 24 GiB: the head counts as work, the embedding does not', () => {
    const budgets = devices(24 * GiB, 24 * GiB, 24 * GiB, 24 * GiB)
    const map = autoDeviceMap(qwen, budgets) as Map<string, string>
    const stages = planStages(model, source, limits, (module) => map.get(module) as string)
    expect(stages).toHaveLength(4)
    for (const { total } of stages) expect(total).toBeLessThanOrEqual(24 * GiB)
    expect(layersOn(map, 'cpu:3')).toBeLessThan(layersOn(map, 'cpu:1')) // the head is worth five layers
    expect(map.get('model.norm')).toBe(map.get('lm_head'))
  })

  test('a plan that fits does fit, to the byte', () => {
    // The least even budget for three devices, found by bisection: with one byte less nothing fits.
    let low = 0
    let high = 40 * GiB
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (autoDeviceMap(qwen, devices(middle, middle, middle))) high = middle
      else low = middle
    }
    const map = autoDeviceMap(qwen, devices(high, high, high)) as Map<string, string>
    const totals = planStages(model, source, limits, (module) => map.get(module) as string).map(({ total }) => total)
    expect(Math.max(...totals)).toBe(high)
  })

  test('unequal memory and unequal speed', () => {
    const uneven = autoDeviceMap(qwen, devices(10 * GiB, 80 * GiB)) as Map<string, string>
    const [small] = planStages(model, source, limits, (module) => uneven.get(module) as string)
    expect(small?.total).toBeLessThanOrEqual(10 * GiB)
    expect(layersOn(uneven, 'cpu:0')).toBeGreaterThan(10)
    const fast = autoDeviceMap(qwen, [
      { device: 'cpu:0', memory: 80 * GiB },
      { device: 'cpu:1', memory: 80 * GiB, speed: 3 },
    ]) as Map<string, string>
    expect(layersOn(fast, 'cpu:1') / layersOn(fast, 'cpu:0')).toBeGreaterThan(2)
  })

  test('a model that does not fit has no map', () => {
    expect(autoDeviceMap(qwen, devices(10 * GiB, 10 * GiB))).toBeUndefined()
    expect(autoDeviceMap(qwen, [])).toBeUndefined()
  })

  test('a tied head shares its table where embedding and head are on one device', () => {
    const tied = fromConfig({ ...qwen2Of72B, num_hidden_layers: 2, tie_word_embeddings: true }, int4)
    const [stage] = planStages(tied.model, tied.source, limits, () => 'cpu')
    const need = stage?.total as number
    expect(autoDeviceMap(tied, devices(need))).toBeDefined()
    expect(autoDeviceMap(tied, devices(need - 1))).toBeUndefined()
  })
})

describe('what a possible stage needs, without tracing it whole', () => {
  const layout = { packed: true, quantizesActivations: false }
  const group = { targets: ['Linear'], bits: 4, groupSize: 128, symmetric: true, actOrder: false, ...layout } as const
  const mixed: QuantizationConfig = {
    method: 'compressed-tensors',
    groups: [group],
    ignore: ['re:.*layers\\.[34]\\.mlp', 're:.*layers\\.6\\.self_attn'],
  }
  const ordered: QuantizationConfig = {
    method: 'compressed-tensors',
    groups: [{ ...group, targets: ['re:.*layers\\.[34]\\.'], actOrder: true }, group],
    ignore: [],
  }
  const tied = { ...qwen2Of72B, tie_word_embeddings: true }
  test.each([
    ['layers all alike', qwen2Of72B, int4],
    ['some linears of some layers left out', qwen2Of72B, mixed],
    ['some layers in act-order', qwen2Of72B, ordered],
    ['a tied head', tied, int4],
  ])('%s: as much as all of it traced', (_what, config, quantization) => {
    const { source, model } = fromConfig({ ...config, num_hidden_layers: 9 }, quantization)
    const costs = runSync(costsOf(model, source, 1))
    const needs = costs.needs(limits)
    for (let first = 0; first < costs.groups.length; first++) {
      for (let end = first + 1; end <= costs.groups.length; end++) {
        const modules = costs.groups.slice(first, end).flat()
        for (const device of ['cpu', 'cuda:0']) {
          const stage = traceStage(model, source, { device, modules })
          const planned = runSync(countedStage(stage))(device, limits)
          const { weights, kvCache, buffers } = wholePages(planned)
          const whole = { memory: weights + kvCache + buffers, read: planned.read }
          expect({ first, end, ...needs(device).all(first, end) }).toMatchObject({ first, end, ...whole })
        }
      }
    }
  })
})
