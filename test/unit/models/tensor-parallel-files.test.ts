/** Files of which tensor parallelism must not pad something: what is padded already, and what only has an MLP's names. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { RawConfig } from '../../../src/checkpoint/types'
import { runSync } from '../../../src/common/event-loop'
import { type LoadOptions, loadModel, padCheckpoint, planModel } from '../../../src/index'
import { createModel } from '../../../src/models/registry'
import { modulesOf, traceRanks } from '../../../src/models/stages'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { ZEROS } from '../../../src/quantization/padding'
import { directoryOf } from '../../support/directories'
import { difference } from '../../support/fixtures'
import { quantizationConfig, quantize } from '../../support/quantize'
import { Random } from '../../support/random.cjs'
import { randomCheckpoint, randomTensors } from '../../support/random-checkpoint'
import { halves, type StoredTensor, safetensors } from '../../support/tensors'

const model = {
  model_type: 'qwen2',
  torch_dtype: 'float16',
  hidden_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  intermediate_size: 384,
  vocab_size: 128,
  max_position_embeddings: 64,
}

async function logitsOf(directory: string, options: LoadOptions): Promise<Float32Array> {
  await using loaded = await loadModel(directory, { dtype: 'float32', maxModelLength: 32, ...options })
  return (await loaded.forward([5, 1, 99, 7, 7, 60])).logits
}

/** Layers of which a rank has zeros. */
async function paddedLayers(directory: string, ranks: number): Promise<string[]> {
  const checkpoint = await openCheckpoint(directory)
  const definition = createModel(checkpoint.config, checkpoint)
  const stage = { device: 'cpu', modules: modulesOf(definition) }
  const weights = runSync(traceRanks(definition, checkpoint, stage, ranks)).flatMap((rank) => rank.weights)
  const padded = weights.filter(
    (weight) =>
      weight.kind !== 'vector' &&
      weight.kind !== 'experts' &&
      [...(weight.part?.outputs ?? []), ...(weight.part?.inputs ?? [])].some(({ start }) => start === ZEROS),
  )
  return [...new Set(padded.map(({ name }) => name))]
}

describe('files that are already padded', () => {
  test.each(['interleaved', 'tail'] as const)(
    '%s zeros stay where they are, and no more are added',
    async (placement) => {
      const quantizable = { ...model, intermediate_size: 320 }
      const directory = directoryOf(randomCheckpoint(quantizable, 1))
      const padded = join(directoryOf({}), 'padded')
      await padCheckpoint(directory, padded, { parallelSizes: [2, 4], placement, verify: false })
      expect(JSON.parse(readFileSync(join(padded, 'config.json'), 'utf8')).intermediate_size).toBe(512)
      const expected = await logitsOf(directory, {})
      for (const tensorParallelSize of [1, 2, 4]) {
        expect(await paddedLayers(padded, tensorParallelSize)).toEqual([])
        const logits = await logitsOf(padded, { tensorParallelSize })
        expect(difference(logits, expected).max).toBeLessThan(1e-5)
      }
    },
  )

  test.each([2, 4, 8])('29696 channels on %i ranks take no zeros', async (tensorParallelSize) => {
    for (const name of ['Qwen2-72B-Instruct-AWQ', 'Qwen2-72B-Instruct-GPTQ-Int4', 'Qwen2-72B-Instruct-GPTQ-Int8']) {
      const { explanation } = await planModel(name, { tensorParallelSize, deviceMap: 'cpu' })
      expect(explanation.join(' ')).toMatch(/devices compute every stage together, each with a share of the heads/)
      expect(explanation.join(' ')).not.toContain('Padded')
    }
  })
})

test.each([
  ['GPTQ', { format: 'gptq', bits: 4, groupSize: 32, symmetric: true }],
  ['GPTQ with act-order', { format: 'gptq', bits: 4, groupSize: 32, symmetric: false }],
  ['AWQ', { format: 'awq', bits: 4, groupSize: 64, symmetric: false }],
  ['AWQ GEMV', { format: 'awq-gemv', bits: 4, groupSize: 32, symmetric: false }],
  ['FP8', { format: 'fp8', bits: 8, groupSize: 128, symmetric: true }],
  ['NVFP4', { format: 'fp4', bits: 4, groupSize: 16, symmetric: true }],
  ['MXFP4', { format: 'fp4', bits: 4, groupSize: 32, symmetric: true }],
] as const)('a head in %s, too, is cut along the vocabulary', async (name, format) => {
  const random = new Random(5)
  const actOrder = name.endsWith('act-order')
  const groupIndex = random.order(model.hidden_size).map((place) => Math.floor(place / format.groupSize))
  const config = { ...model, vocab_size: 136, quantization_config: quantizationConfig(format, actOrder) }
  const values = Float64Array.from({ length: 136 * model.hidden_size }, () => random.signed() / 8)
  const weights = { out: 136, in: model.hidden_size, values }
  const { tensors: head } = quantize('lm_head', weights, actOrder ? { ...format, groupIndex } : format)
  const { 'lm_head.weight': _, ...others } = randomTensors(config, random)
  const files = { 'config.json': config, 'model.safetensors': safetensors({ ...others, ...head }) }
  const directory = directoryOf(files)
  const alone = await logitsOf(directory, {})
  for (const tensorParallelSize of [2, 3, 5]) {
    expect(difference(await logitsOf(directory, { tensorParallelSize }), alone).max).toBeLessThan(1e-5)
  }
})

describe('a vision tower', () => {
  /** Modules as Qwen2.5-VL's visual blocks have them: MLPs with the names of the language model's. */
  function tower(width: number): Record<string, StoredTensor> {
    const random = new Random(3)
    const matrix = (...shape: number[]): StoredTensor => {
      const count = shape.reduce((product, length) => product * length, 1)
      return { dtype: 'F16', shape, data: halves(Float32Array.from({ length: count }, () => random.signed())) }
    }
    const modules = ['visual.blocks.0.mlp', 'visual.blocks.1.mlp', 'model.visual.blocks.0.mlp', 'visual.merger.mlp']
    return Object.fromEntries(
      modules.flatMap((module) => [
        [`${module}.gate_proj.weight`, matrix(width, 64)],
        [`${module}.gate_proj.bias`, matrix(width)],
        [`${module}.up_proj.weight`, matrix(width, 64)],
        [`${module}.down_proj.weight`, matrix(64, width)],
      ]),
    )
  }

  const gptq = { quant_method: 'gptq', bits: 4, group_size: 128, sym: true, desc_act: false }
  const quantized: RawConfig = { ...model, quantization_config: gptq }

  test.each([2, 4])('in the same files is neither padded nor loaded on %i ranks', async (tensorParallelSize) => {
    const tensors = randomTensors(quantized, new Random(1))
    const plain = directoryOf({ 'config.json': quantized, 'model.safetensors': safetensors(tensors) })
    const all = safetensors({ ...tower(344), ...tensors }) // 344 channels are no whole groups
    const vision = directoryOf({ 'config.json': quantized, 'model.safetensors': all })
    const layers = [0, 1].flatMap((layer) =>
      ['gate_proj', 'up_proj', 'down_proj'].map((part) => `model.layers.${layer}.mlp.${part}`),
    )
    expect(await paddedLayers(vision, tensorParallelSize)).toEqual(layers)
    const [alone, beside] = [
      await planModel(plain, { tensorParallelSize, deviceMap: 'cpu', maxMemory: { cpu: '1GB' } }),
      await planModel(vision, { tensorParallelSize, deviceMap: 'cpu', maxMemory: { cpu: '1GB' } }),
    ]
    expect(beside.stages).toEqual(alone.stages)
    expect(await logitsOf(vision, { tensorParallelSize })).toEqual(await logitsOf(plain, { tensorParallelSize }))
  })

  test.each(['qwen2_5_vl', 'qwen2_vl'])('in a %s model is left out, whatever its sizes', async (type) => {
    const stated = { ...quantized, rms_norm_eps: 1e-6, rope_theta: 1e6 } // the types differ in what is usual
    const config = { ...stated, model_type: type, vision_config: { depth: 2, intermediate_size: 344 } }
    const tensors = randomTensors(quantized, new Random(1))
    const plain = directoryOf({ 'config.json': stated, 'model.safetensors': safetensors(tensors) })
    const all = safetensors({ ...tower(344), ...tensors })
    const vision = directoryOf({ 'config.json': config, 'model.safetensors': all })
    expect(await logitsOf(vision, { tensorParallelSize: 2 })).toEqual(await logitsOf(plain, { tensorParallelSize: 2 }))
  })
})
