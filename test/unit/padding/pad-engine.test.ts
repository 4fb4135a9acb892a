/** A model answers as before once its files are padded, in formats and schemes that few fixtures have. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel, padCheckpoint } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { difference } from '../../support/fixtures'
import { type Quantization, quantizationConfig, quantize } from '../../support/quantize'
import { Random } from '../../support/random.cjs'
import { randomTensors } from '../../support/random-checkpoint'
import { safetensors } from '../../support/tensors'

const ids = [3, 1, 4, 1, 5, 9, 2, 6]
const hidden = 64

const config = (width: number) => ({
  model_type: 'qwen2',
  torch_dtype: 'float16',
  hidden_size: hidden,
  intermediate_size: width,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 60,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 32,
})

/** A checkpoint all of whose linears but the head are quantized. */
function checkpoint(width: number, scheme: Quantization): string {
  const random = new Random(1)
  const tensors = randomTensors(config(width), random)
  const [inputScale] = Object.values(safetensorsOfScalar())
  for (const [tensor, { shape }] of Object.entries(tensors)) {
    const name = tensor.replace(/\.weight$/, '')
    if (!name.endsWith('_proj') || name === tensor) continue
    const [out = 0, inputs = 0] = shape
    const values = Float64Array.from({ length: out * inputs }, () => random.signed() / 8)
    delete tensors[tensor]
    Object.assign(tensors, quantize(name, { out, in: inputs, values }, scheme).tensors)
    if (scheme.format.startsWith('fp')) Object.assign(tensors, { [`${name}.input_scale`]: inputScale })
  }
  return directoryOf({
    'config.json': { ...config(width), quantization_config: quantizationConfig(scheme, false) },
    'model.safetensors': safetensors(tensors),
  })
}

/** As ModelOpt and static schemes have it for activations. */
const safetensorsOfScalar = () => ({
  scale: { dtype: 'F32', shape: [], data: Buffer.from(new Float32Array([0.5]).buffer) },
})

const integers = { format: 'compressed-tensors', bits: 8, groupSize: 32 } as const
const schemes: [string, Quantization, number][] = [
  ['FP8, ragged blocks', { format: 'fp8', bits: 8, groupSize: 128, symmetric: true }, 200],
  ['FP8, blocks of 32', { format: 'fp8', bits: 8, groupSize: 32, symmetric: true }, 80],
  ['FP8, blocks larger than the layer', { format: 'fp8', bits: 8, groupSize: 256, symmetric: true }, 80],
  ['NVFP4', { format: 'fp4', bits: 4, groupSize: 16, symmetric: true }, 80],
  ["ModelOpt's NVFP4", { format: 'fp4', bits: 4, groupSize: 16, symmetric: true, modelopt: true }, 80],
  ['MXFP4', { format: 'fp4', bits: 4, groupSize: 32, symmetric: true }, 96],
  ['bytes', { ...integers, symmetric: true, unpacked: true }, 80],
  ['bytes with zero points, the last group short', { ...integers, symmetric: false, unpacked: true }, 80],
  ['4 bits a byte', { ...integers, bits: 4, symmetric: true, unpacked: true }, 80],
  ['4 bits a byte with zero points', { ...integers, bits: 4, symmetric: false, unpacked: true }, 80],
  ['bytes with one scale', { ...integers, groupSize: Infinity, oneScale: true, symmetric: true, unpacked: true }, 80],
  [
    'bytes, one scale and zero point',
    { ...integers, groupSize: Infinity, oneScale: true, symmetric: false, unpacked: true },
    80,
  ],
  ['words with one scale', { ...integers, groupSize: Infinity, oneScale: true, symmetric: true }, 80],
  [
    'words, one scale and zero point',
    { ...integers, bits: 4, groupSize: Infinity, oneScale: true, symmetric: false },
    80,
  ],
]

test.each(schemes)('%s', async (_, scheme, width) => {
  const source = checkpoint(width, scheme)
  const output = join(directoryOf({}), 'out')
  const result = await padCheckpoint(source, output, { parallelSizes: [2, 4] })
  expect(result).toMatchObject({ written: true, verification: { layers: 2, maxDifference: 0 } })
  const options = { dtype: 'float32', maxModelLength: 32, deviceMap: 'cpu' } as const
  await using original = await loadModel(source, options)
  await using padded = await loadModel(output, options)
  await using ranks = await loadModel(output, { ...options, tensorParallelSize: 4 })
  const { logits } = await original.forward(ids)
  expect(Math.max(...logits)).toBeGreaterThan(0.1)
  expect(difference((await padded.forward(ids)).logits, logits).max).toBeLessThan(2e-5)
  expect(difference((await ranks.forward(ids)).logits, logits).max).toBeLessThan(2e-5)
})
