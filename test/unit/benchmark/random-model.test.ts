import { expect, it } from 'vitest'
import { measureModel } from '../../../src/benchmark/model'
import { randomModel } from '../../../src/benchmark/random-model'
import { loadFrom, type ModelSource } from '../../../src/load'
import { configWeights } from '../../../src/placement/plan-model'

/** A small model in the form that --random takes: the presets are too large for a test. */
function small(quantization: object | undefined, other: object = {}): ModelSource {
  const config = {
    model_type: 'qwen2',
    hidden_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    intermediate_size: 192,
    vocab_size: 96,
    max_position_embeddings: 256,
    torch_dtype: 'float16',
    quantization_config: quantization,
    ...other,
  }
  const { source } = randomModel('qwen2-7b-int4')
  return { ...source, config, weights: configWeights(config) }
}

const awq = { quant_method: 'awq', bits: 4, group_size: 64, zero_point: true, version: 'gemm' }
const gptq = { quant_method: 'gptq', bits: 8, group_size: 64, sym: true, desc_act: false }

it.each([
  ['cpu', awq],
  ['cpu', undefined],
  ['emulated:0', gptq],
])('random weights on %s give finite numbers, the same every time', async (deviceMap, quantization) => {
  const logits = []
  for (let round = 0; round < 2; round++) {
    await using model = await loadFrom(small(quantization), { deviceMap, maxModelLength: 64 })
    logits.push((await model.forward([1, 2, 3])).logits)
    for (const device of model.memory()) expect(device.weights).toBe(device.planned.weights)
    expect(() => model.generate('text')).toThrow(/requires a tokenizer, but a random model has none/)
  }
  expect(logits[0]).toEqual(logits[1])
  expect(logits[0]?.every(Number.isFinite)).toBe(true)
  expect(new Set(logits[0]).size).toBeGreaterThan(250) // of 288: they do not collapse
})

it('fills the shards of ranks', async () => {
  const sizes = { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: 2, maxModelLength: 64 }
  const config = { num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 128, intermediate_size: 256 }
  await using model = await loadFrom(small(gptq, config), sizes)
  const { logits } = await model.forward([1, 2, 3])
  expect(logits.every(Number.isFinite)).toBe(true)
  expect(new Set(logits).size).toBeGreaterThan(130) // of 288: ranks of one shape have the same numbers
})

it('measures a random model on an emulated device', async () => {
  await using model = await loadFrom(small(gptq), { deviceMap: 'emulated:0', maxModelLength: 96, maxSequences: 2 })
  const run = await measureModel(model, { batchSize: 2, context: 8 }, 2, 0, undefined)
  expect(run.prefillTokensPerSecond).toBeGreaterThan(0)
  expect(run.decodeTokensPerSecond).toBeGreaterThan(0)
  expect(model.activity()).toMatchObject({ running: 0, waiting: 0 })
  await expect(measureModel(model, { batchSize: 1, context: 8 }, 2, 0, AbortSignal.abort())).rejects.toMatchObject({
    name: 'AbortError',
  })
  await expect(measureModel(model, { batchSize: 1, context: 95 }, 2, 0, undefined)).rejects.toThrow(/too short/)
})

it('cuts a preset to fewer layers', () => {
  const { name, layers, allLayers, source } = randomModel('qwen2-72b-int4', 3)
  expect({ name, layers, allLayers }).toEqual({ name: 'Qwen2-72B-Instruct-GPTQ-Int4', layers: 3, allLayers: 80 })
  expect(source.config.num_hidden_layers).toBe(3)
})
