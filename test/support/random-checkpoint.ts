/** Checkpoints with random weights for any config, stored in the tensors of its format. */
import type { RawConfig } from '../../src/checkpoint/types'
import { createModel } from '../../src/models/registry'
import { modulesOf, traceStage } from '../../src/models/stages'
import { ELEMENT_BYTES, type QuantizedSpec, type TensorRef, type WeightSpec } from '../../src/native/weights'
import { configWeights } from '../../src/placement/plan-model'
import { Random } from './random.cjs'
import { halves, type StoredTensor, safetensors } from './tensors'

/** The files of a checkpoint for this config. Every layer's outputs are about as large as its inputs. */
export function randomCheckpoint(config: RawConfig, seed: number): { [file: string]: Buffer | object } {
  const tensors = randomTensors(config, new Random(seed))
  return { 'config.json': config, 'model.safetensors': safetensors(tensors) }
}

export function randomTensors(config: RawConfig, random: Random): Record<string, StoredTensor> {
  const source = configWeights(config)
  const model = createModel(config, source)
  const { weights } = traceStage(model, source, { device: 'cpu', modules: modulesOf(model) })
  return Object.fromEntries(weights.flatMap((weight) => tensorsOf(weight, random)))
}

function tensorsOf(weight: WeightSpec, random: Random): [string, StoredTensor][] {
  switch (weight.kind) {
    case 'vector':
      return [floats(weight.weight, () => 1 + random.signed() / 4)]
    case 'matrix': {
      const size = Math.sqrt(3 / weight.in) // of uniform numbers with a variance of 1 / inputs
      return [floats(weight.weight, () => random.signed() * size), ...bias(weight.bias, random)]
    }
    case 'quantized':
      return quantized(weight, random)
    case 'experts':
      return weight.experts.flatMap((expert) => tensorsOf(expert, random))
  }
}

function quantized(weight: QuantizedSpec, random: Random): [string, StoredTensor][] {
  if (weight.format === 'fp4') return [...fp4(weight, random), ...bias(weight.bias, random)]
  const { codes, scales, zeros, groupIndex, bits, groupSize, symmetric, actOrder } = weight
  // Codes are uniform, and so are zero points where there are any.
  // Those of FP8 are below 2.
  const isFp8 = weight.format === 'fp8'
  const spread = isFp8 ? 0.6 : 2 ** bits / Math.sqrt(symmetric ? 12 : 6)
  const size = 1 / (spread * Math.sqrt(weight.in))
  const made = [
    words(codes, random, isFp8 ? 0xbfbfbfbf : 0xffffffff),
    floats(scales, () => size * (1 + random.signed() / 2)),
  ]
  if (zeros) made.push(words(zeros, random))
  if (groupIndex) {
    const group = actOrder
      ? random.order(weight.in).map((place) => Math.floor(place / groupSize))
      : Array.from({ length: weight.in }, (_, k) => Math.floor(k / groupSize))
    made.push([groupIndex.name, { ...stored(groupIndex), data: Buffer.from(Int32Array.from(group).buffer) }])
  }
  return [...made, ...bias(weight.bias, random)]
}

/** Codes are uniform, and so are scales: from 3/4 to 11/8 (NVFP4), or one of two powers of two (MXFP4). */
function fp4({ codes, scales, globalScale, globalScaleDivides, in: inputs }: QuantizedSpec, random: Random) {
  const size = 1 / (2.9 * Math.sqrt(inputs)) // e2m1 codes have a mean square of 2.9^2
  const [lowest, kinds] = globalScale ? [0x34, 8] : [127 + Math.floor(Math.log2(size)), 2]
  const exponents = Buffer.from(Array.from({ length: count(scales) }, () => lowest + random.below(kinds)))
  const made: [string, StoredTensor][] = [words(codes, random), [scales.name, { ...stored(scales), data: exponents }]]
  if (globalScale) made.push(floats(globalScale, () => (globalScaleDivides ? 1 / size : size)))
  return made
}

function bias(tensor: TensorRef | undefined, random: Random): [string, StoredTensor][] {
  return tensor ? [floats(tensor, () => random.signed() / 4)] : []
}

function stored({ dtype, shape }: TensorRef): Omit<StoredTensor, 'data'> {
  return { dtype, shape }
}

function count({ shape }: TensorRef): number {
  return shape.reduce((product, length) => product * length, 1)
}

function floats(tensor: TensorRef, value: () => number): [string, StoredTensor] {
  const values = Float32Array.from({ length: count(tensor) }, value)
  const data =
    tensor.dtype === 'F16'
      ? halves(values)
      : tensor.dtype === 'BF16'
        ? Buffer.from(new Uint16Array(values.buffer).filter((_, i) => i % 2 === 1).buffer)
        : Buffer.from(values.buffer)
  return [tensor.name, { ...stored(tensor), data }]
}

function words(tensor: TensorRef, random: Random, mask = 0xffffffff): [string, StoredTensor] {
  const values = Uint32Array.from(
    { length: (count(tensor) * ELEMENT_BYTES[tensor.dtype]) / 4 },
    () => random.word() & mask,
  )
  return [tensor.name, { ...stored(tensor), data: Buffer.from(values.buffer) }]
}
