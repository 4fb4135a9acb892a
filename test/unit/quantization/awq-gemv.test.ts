/** Linears that AutoAWQ packed in its GEMV layout, as the head of a model. */
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { difference } from '../../support/fixtures'
import { Random } from '../../support/random.cjs'
import { randomTensors } from '../../support/random-checkpoint'
import { readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

const config = {
  model_type: 'qwen2',
  torch_dtype: 'float16',
  hidden_size: 256,
  intermediate_size: 128,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  vocab_size: 16,
  max_position_embeddings: 32,
}

async function logitsWithHead(head: Record<string, StoredTensor>, quantization_config?: object): Promise<Float32Array> {
  const { 'lm_head.weight': _, ...others } = randomTensors(config, new Random(1))
  const tensors = Object.entries(head).map(([name, tensor]) => [`lm_head.${name}`, tensor] as const)
  const directory = directoryOf({
    'config.json': { ...config, quantization_config },
    'model.safetensors': safetensors({ ...others, ...Object.fromEntries(tensors) }),
  })
  await using model = await loadModel(directory, { dtype: 'float32', deviceMap: 'cpu' })
  return (await model.forward([3, 1, 4, 15, 9, 2])).logits
}

test.each([32, 64, 128])('in groups of %i gives the logits of the weight that it stands for', async (group_size) => {
  const stored = readSafetensors(join(resolve(__dirname, '../../fixtures/awq-gemv'), `g${group_size}.safetensors`))
  const { weight, ...packed } = Object.fromEntries(stored) as Record<string, StoredTensor> & { weight: StoredTensor }
  const awq = { quant_method: 'awq', bits: 4, group_size, zero_point: true, version: 'gemv' }
  expect(Object.keys(packed).sort()).toEqual(['qweight', 'qzeros', 'scales'])
  expect(difference(await logitsWithHead(packed, awq), await logitsWithHead({ weight })).max).toBeLessThan(2e-5)
})
