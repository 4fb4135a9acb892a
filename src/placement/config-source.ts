import type { QuantizationConfig, RawConfig } from '../checkpoint/types'
import type { WeightSource } from '../models/graph'
import { elementBytes, type LinearSpec, type QuantizedSpec, type TensorRef, type TensorType } from '../native/weights'

/**
 * The weights that a checkpoint of this config would have, for planning without its files: linears of the decoder layers
 * are quantised as the quantisation config says, embedding, norms and head are not (as all quantisers leave them). The
 * specs have the shapes, types and bytes that the format stores, but no place in a file.
 */
export function configSource(config: RawConfig, quantization: QuantizationConfig): WeightSource {
  const plain = floatType(config)
  return {
    vector: (name, length) => ({ kind: 'vector', name, length, weight: tensor(name, plain, [length]) }),
    table: (name, rows, width) => ({
      kind: 'matrix',
      name,
      out: rows,
      in: width,
      weight: tensor(name, plain, [rows, width]),
    }),
    linear: (module, out, inFeatures, biased): LinearSpec => {
      const bias = biased === 'required' ? tensor(`${module}.bias`, plain, [out]) : undefined
      const scheme = schemeOf(quantization, module, plain)
      if (!scheme) {
        const weight = tensor(`${module}.weight`, plain, [out, inFeatures])
        return { kind: 'matrix', name: `${module}.weight`, out, in: inFeatures, weight, bias }
      }
      return { ...quantizedLinear(scheme, module, out, inFeatures), bias }
    },
  }
}

/** torch_dtype (transformers 4) or dtype (transformers 5); fp16 where the config has neither. */
function floatType(config: RawConfig): TensorType {
  switch (config.torch_dtype ?? config.dtype) {
    case 'bfloat16':
      return 'BF16'
    case 'float32':
      return 'F32'
    default:
      return 'F16'
  }
}

type Scheme = Pick<QuantizedSpec, 'format' | 'bits' | 'groupSize' | 'symmetric'> & { scaleType: TensorType }

/** Quantisers' own default where a config is silent. */
const defaultGroupSize = 128

function schemeOf(quantization: QuantizationConfig, module: string, plain: TensorType): Scheme | undefined {
  if (!/\.\d+\./.test(module)) return undefined // not in a decoder layer
  switch (quantization.method) {
    case 'none':
      return undefined
    case 'gptq': {
      const { bits, groupSize = defaultGroupSize, symmetric } = quantization
      return { format: 'gptq', bits, groupSize, symmetric, scaleType: 'F16' }
    }
    case 'awq': {
      const { bits, groupSize = defaultGroupSize, zeroPoint } = quantization
      return { format: 'awq', bits, groupSize, symmetric: !zeroPoint, scaleType: 'F16' }
    }
    case 'compressed-tensors': {
      const group = quantization.groups[0]
      if (!group || quantization.ignore.includes(module)) return undefined
      const { bits, groupSize, symmetric } = group
      return { format: 'compressed-tensors', bits, groupSize, symmetric, scaleType: plain }
    }
  }
}

function quantizedLinear(scheme: Scheme, module: string, out: number, inFeatures: number): QuantizedSpec {
  const { format, bits, symmetric, scaleType } = scheme
  const groupSize = scheme.groupSize > 0 ? Math.min(scheme.groupSize, inFeatures) : inFeatures
  const groups = Math.ceil(inFeatures / groupSize)
  const packed = (codes: number) => Math.ceil((codes * bits) / 32) // words of 32 bits
  const spec = { kind: 'quantized', name: module, format, bits, out, in: inFeatures, groupSize, symmetric } as const
  switch (format) {
    case 'gptq':
      return {
        ...spec,
        zeroOffset: 0,
        codes: tensor(`${module}.qweight`, 'I32', [packed(inFeatures), out]),
        scales: tensor(`${module}.scales`, scaleType, [groups, out]),
        zeros: tensor(`${module}.qzeros`, 'I32', [groups, packed(out)]),
        groupIndex: tensor(`${module}.g_idx`, 'I32', [inFeatures]),
      }
    case 'awq':
      return {
        ...spec,
        zeroOffset: 0,
        codes: tensor(`${module}.qweight`, 'I32', [inFeatures, packed(out)]),
        scales: tensor(`${module}.scales`, scaleType, [groups, out]),
        zeros: tensor(`${module}.qzeros`, 'I32', [groups, packed(out)]),
      }
    case 'compressed-tensors':
      return {
        ...spec,
        zeroOffset: 0,
        codes: tensor(`${module}.weight_packed`, 'I32', [out, packed(inFeatures)]),
        scales: tensor(`${module}.weight_scale`, scaleType, [out, groups]),
        zeros: symmetric ? undefined : tensor(`${module}.weight_zero_point`, 'I32', [packed(out), groups]),
      }
  }
}

function tensor(name: string, dtype: TensorType, shape: readonly number[]): TensorRef {
  const bytes = shape.reduce((product, length) => product * length, elementBytes[dtype])
  return { name, dtype, shape, file: 0, offset: 0, bytes }
}
