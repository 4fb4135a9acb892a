/** Quantized models whose zero channels stand between the others: their answers are those of the unpadded model. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadModel, padCheckpoint } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { difference, golden, greedyTokens, modelDirectory } from '../../support/fixtures'
import { readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

const actOrder = 'qwen2-gptq-int4-g32-desc_act'

function transposed({ dtype, shape, data }: StoredTensor, bytes: number): StoredTensor {
  const [rows = 0, columns = 0] = shape
  const result = Buffer.alloc(data.length)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++)
      data.copy(result, (c * rows + r) * bytes, (r * columns + c) * bytes, (r * columns + c + 1) * bytes)
  }
  return { dtype, shape: [columns, rows], data: result }
}

/** A symmetric GPTQ model with act-order as compressed-tensors: words have 8 inputs there, too, but stand in rows. */
function asCompressedTensors(directory: string): string {
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'))
  const { bits, group_size, sym } = config.quantization_config
  expect({ bits, sym }).toEqual({ bits: 4, sym: true })
  const weights = { num_bits: bits, group_size, symmetric: true, strategy: 'group', type: 'int', actorder: 'group' }
  const tensors = [...readSafetensors(join(directory, 'model.safetensors'))].flatMap(
    ([name, tensor]): [string, StoredTensor][] => {
      const module = name.slice(0, name.lastIndexOf('.'))
      if (name.endsWith('.qweight')) return [[`${module}.weight_packed`, transposed(tensor, 4)]]
      if (name.endsWith('.scales')) return [[`${module}.weight_scale`, transposed(tensor, 2)]]
      if (name.endsWith('.g_idx')) return [[`${module}.weight_g_idx`, tensor]]
      return name.endsWith('.qzeros') ? [] : [[name, tensor]]
    },
  )
  return directoryOf({
    'config.json': {
      ...config,
      quantization_config: {
        quant_method: 'compressed-tensors',
        format: 'pack-quantized',
        config_groups: { group_0: { targets: ['Linear'], weights } },
      },
    },
    'model.safetensors': safetensors(Object.fromEntries(tensors)),
  })
}

describe.each([
  ['GPTQ with act-order', actOrder, modelDirectory],
  ['compressed-tensors with act-order', actOrder, (name: string) => asCompressedTensors(modelDirectory(name))],
  ['channelwise GPTQ', 'qwen2-gptq-int4-channelwise', modelDirectory],
] as const)('%s', (_, name, directory) => {
  it('answers as before, on one device and on two ranks', async () => {
    const output = join(directoryOf({}), 'out')
    const result = await padCheckpoint(directory(name), output, { parallelSizes: [2, 4], placement: 'interleaved' })
    expect(result).toMatchObject({ written: true, size: 384, paddedSize: 512, placement: 'interleaved' })
    expect(result.verification).toMatchObject({ layers: result.layerCount, maxDifference: 0 })
    const { prompts, greedy } = golden(name)
    const prompt = prompts.p33 as number[]
    await using original = await loadModel(modelDirectory(name), { dtype: 'float32', maxModelLength: 64 })
    const unpadded = await original.forward(prompt)
    for (const tensorParallelSize of [1, 2]) {
      await using model = await loadModel(output, { dtype: 'float32', maxModelLength: 64, tensorParallelSize })
      expect(await greedyTokens(model, prompt)).toEqual(greedy.p33)
      expect(difference((await model.forward(prompt)).logits, unpadded.logits).max).toBeLessThan(2e-5)
    }
  })
})

it('inputs keep their groups, and zeros between them get new ones', async () => {
  const output = join(directoryOf({}), 'out')
  await padCheckpoint(modelDirectory(actOrder), output, { parallelSizes: [2, 4], placement: 'interleaved' })
  const [before, after] = [modelDirectory(actOrder), output].map((directory) => {
    const tensor = readSafetensors(join(directory, 'model.safetensors')).get('model.layers.0.mlp.down_proj.g_idx')
    return Array.from({ length: (tensor?.data.length ?? 0) / 4 }, (_, k) => tensor?.data.readInt32LE(4 * k) ?? -1)
  }) as [number[], number[]]
  const expected = before.flatMap((group, k) => (k < 128 ? [group, 12 + Math.floor(k / 32)] : [group]))
  expect(after).toEqual(expected)
  expect(new Set(before).size).toBe(12)
})
