import type { QuantizationConfig, RawConfig } from '../checkpoint/types'
import type { WeightSource } from '../models/graph'
import type { LinearSpec, QuantizedSpec, TensorRef, TensorType } from '../native/weights'

/**
 * The weights that a checkpoint of this config would have, for planning without its files: linears of the decoder layers
 * are quantised as the quantisation config says, embedding, norms and head are not (as all quantisers leave them). The
 * specs have shapes and types, but no place in a file.
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
      return {
        kind: 'quantized',
        name: module,
        format: scheme.format,
        bits: scheme.bits,
        out,
        in: inFeatures,
        groupSize: scheme.groupSize > 0 ? Math.min(scheme.groupSize, inFeatures) : inFeatures,
        symmetric: scheme.symmetric,
        zeroOffset: 0,
        codes: tensor(`${module}.codes`, 'I32', []),
        scales: tensor(`${module}.scales`, scheme.scaleType, []),
        bias,
      }
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

function tensor(name: string, dtype: TensorType, shape: readonly number[]): TensorRef {
  return { name, dtype, shape, file: 0, offset: 0, bytes: 0 }
}
