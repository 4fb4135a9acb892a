import { invalidCheckpoint, unsupportedFormat } from '../checkpoint/invalid'
import type { Fp4Kind, QuantizationConfig, RawConfig, ScaleBlock } from '../checkpoint/types'
import { ceilDiv, elementCount } from '../common/arithmetic'
import type { WeightSource } from '../models/graph'
import { ELEMENT_BYTES, type LinearSpec, type QuantizedSpec, type TensorRef, type TensorType } from '../native/weights'
import { zeroWords } from '../quantization/awq-gemv'
import { schemeByName } from '../quantization/compressed-tensors'
import { checkFp4Inputs, FP4_GROUPS, type Fp4Writer, fp4Names } from '../quantization/fp4'
import { isLeftOut } from '../quantization/fp8'
import { algorithmByName } from '../quantization/modelopt'
import { configForModule, isSkipped } from '../quantization/rules'
import { unsupportedConfig } from '../quantization/unsupported'
import { floatType } from './limits'

/**
 * Weights that a checkpoint with this config would have, for planning without its files. Linears of the decoder layers
 * are quantized as the quantization config says; embedding, norms and head are not, as with all quantizers. Specs have
 * the shapes, dtypes and sizes of the format, but no file offsets.
 */
export function configSource(config: RawConfig, quantization: QuantizationConfig): WeightSource {
  const plain = floatType(config)
  return {
    find: () => undefined,
    vector: (name, shape) => ({
      kind: 'vector',
      name,
      length: elementCount(shape),
      weight: tensor(name, plain, shape),
    }),
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

interface Scheme extends Pick<QuantizedSpec, 'format' | 'bits' | 'groupSize' | 'symmetric' | 'scaleRows'> {
  readonly scaleType: TensorType
  /** Whether the checkpoint stores g_idx. */
  readonly groupIndex: boolean
  readonly actOrder: boolean
  /** Whether codes and zero points are packed into words. */
  readonly packed?: boolean
  /** fp4: who names the tensors. */
  readonly writer?: Fp4Writer
}

/** The quantizers' default when the config does not say. */
const DEFAULT_GROUP_SIZE = 128

/** What chooses among experts, and the gates of recurrent states: quantizers leave them alone. */
const LEFT_ALONE = /\.(mlp\.(gate|shared_expert_gate)|linear_attn\.in_proj_(a|b|ba))$/

/** @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL */
function schemeOf(quantization: QuantizationConfig, module: string, plain: TensorType): Scheme | undefined {
  if (quantization.method === 'unsupported') throw unsupportedConfig(quantization)
  const inLayer = /\.\d+\./.test(module)
  if (LEFT_ALONE.test(module)) return undefined
  if (!inLayer && !quantizesHead(quantization)) return undefined
  switch (quantization.method) {
    case 'none':
      return undefined
    case 'gptq':
    case 'awq': {
      if (isSkipped(quantization, module)) return undefined
      const own = configForModule(quantization, module)
      const { groupSize = DEFAULT_GROUP_SIZE } = own
      const bits = checkedBits(own.bits, quantization.method.toUpperCase(), module)
      const scaleType = 'F16'
      if (own.method === 'awq') {
        const symmetric = !own.zeroPoint
        const format = own.layout === 'gemv' ? 'awq-gemv' : 'awq'
        return { format, bits, groupSize, symmetric, scaleType, groupIndex: false, actOrder: false }
      }
      const { symmetric, groupIndex, actOrder } = own // AutoGPTQ and GPTQModel always store g_idx
      return {
        format: 'gptq',
        bits,
        groupSize,
        symmetric,
        scaleType,
        groupIndex,
        actOrder: groupIndex && actOrder !== false,
      }
    }
    case 'fp8':
      return isLeftOut(quantization, module) ? undefined : fp8Scheme(quantization.block, plain)
    case 'compressed-tensors': {
      const scheme = schemeByName(quantization, module)
      if (!scheme) return undefined
      if (scheme.floats) return fp8Scheme(scheme.floats, plain)
      if (scheme.fp4) return fp4Scheme(scheme.fp4, 'compressed-tensors')
      const { bits, groupSize, oneScale, symmetric, actOrder, packed } = scheme
      return {
        format: 'compressed-tensors',
        bits,
        groupSize,
        scaleRows: oneScale ? Number.POSITIVE_INFINITY : 1,
        symmetric,
        scaleType: plain,
        groupIndex: actOrder,
        actOrder,
        packed,
      }
    }
    case 'modelopt': {
      const algorithm = algorithmByName(quantization, module)
      if (algorithm === 'FP8') return fp8Scheme(undefined, 'F32')
      return algorithm && fp4Scheme(algorithm, 'modelopt')
    }
  }
}

/** Whether the head may be quantized: ModelOpt excludes it by name if it is not. */
function quantizesHead(quantization: QuantizationConfig): boolean {
  return quantization.method === 'gptq' ? quantization.head : quantization.method === 'modelopt'
}

function fp4Scheme(kind: Fp4Kind, writer: Fp4Writer): Scheme {
  const scaleType = kind === 'NVFP4' ? 'F8_E4M3' : 'U8'
  const rest = { bits: 4, symmetric: true, groupIndex: false, actOrder: false } as const
  return { format: 'fp4', groupSize: FP4_GROUPS[kind], scaleType, writer, ...rest }
}

function fp8Scheme(block: ScaleBlock | undefined, plain: TensorType): Scheme {
  const { rows, groupSize } = block ?? { rows: Number.POSITIVE_INFINITY, groupSize: -1 }
  const rest = { bits: 8, symmetric: true, scaleType: plain, groupIndex: false, actOrder: false } as const
  return { format: 'fp8', scaleRows: rows, groupSize, ...rest }
}

function checkedBits(bits: number | undefined, method: string, module: string): 4 | 8 {
  if (bits === 4 || bits === 8) return bits
  if (bits !== undefined) throw unsupportedFormat(`config.json: ${module} is quantized`, `${method} with ${bits} bits`)
  throw invalidCheckpoint(
    'config.json: quantization_config does not set bits, and without tensors they cannot be inferred',
  )
}

function quantizedLinear(scheme: Scheme, module: string, out: number, inFeatures: number): QuantizedSpec {
  const { format, bits, symmetric, actOrder } = scheme
  const scaleRows = scheme.scaleRows === undefined ? undefined : Math.min(scheme.scaleRows, out)
  const groupSize = scheme.groupSize > 0 ? Math.min(scheme.groupSize, inFeatures) : inFeatures
  const spec = {
    kind: 'quantized',
    name: module,
    format,
    bits,
    out,
    in: inFeatures,
    groupSize,
    scaleRows,
    symmetric,
  } as const
  return {
    ...spec,
    zeroOffset: 0,
    actOrder,
    ...storedTensors({ ...scheme, groupSize, scaleRows }, module, out, inFeatures, ceilDiv(inFeatures, groupSize)),
  }
}

/** The tensors of a format, named and laid out as the files in src/quantization describe. */
function storedTensors(
  { format, bits, groupSize, scaleRows = 1, symmetric, scaleType, groupIndex, packed = true, writer }: Scheme,
  module: string,
  out: number,
  inFeatures: number,
  groups: number,
): Pick<QuantizedSpec, 'codes' | 'scales' | 'globalScale' | 'globalScaleDivides' | 'zeros' | 'groupIndex'> {
  const words = (codes: number) => ceilDiv(codes * bits, 32)
  const order = (name: string) => (groupIndex ? tensor(name, 'I32', [inFeatures]) : undefined)
  switch (format) {
    case 'gptq':
      return {
        codes: tensor(`${module}.qweight`, 'I32', [words(inFeatures), out]),
        scales: tensor(`${module}.scales`, scaleType, [groups, out]),
        zeros: tensor(`${module}.qzeros`, 'I32', [groups, words(out)]),
        groupIndex: order(`${module}.g_idx`),
      }
    case 'awq':
      return {
        codes: tensor(`${module}.qweight`, 'I32', [inFeatures, words(out)]),
        scales: tensor(`${module}.scales`, scaleType, [groups, out]),
        zeros: tensor(`${module}.qzeros`, 'I32', [groups, words(out)]),
      }
    case 'awq-gemv': {
      const width = zeroWords(inFeatures, groupSize)
      return {
        codes: tensor(`${module}.qweight`, 'I32', [out, words(inFeatures)]),
        scales: tensor(`${module}.scales`, scaleType, [out, 8 * width]),
        zeros: tensor(`${module}.qzeros`, 'I32', [out, width]),
      }
    }
    case 'fp8':
      return {
        codes: tensor(`${module}.weight`, 'F8_E4M3', [out, inFeatures]),
        scales: tensor(`${module}.weight_scale_inv`, scaleType, [ceilDiv(out, scaleRows), groups]),
      }
    case 'fp4': {
      const isNv = scaleType === 'F8_E4M3'
      checkFp4Inputs(isNv ? 'NVFP4' : 'MXFP4', module, inFeatures)
      const names = fp4Names(module, writer ?? 'compressed-tensors')
      return {
        codes: tensor(names.codes, 'U8', [out, inFeatures / 2]),
        scales: tensor(names.scales, scaleType, [out, groups]),
        ...(isNv && {
          globalScale: tensor(names.globalScale, 'F32', writer === 'modelopt' ? [] : [1]),
          globalScaleDivides: writer !== 'modelopt',
        }),
      }
    }
    case 'compressed-tensors': {
      const rows = ceilDiv(out, scaleRows)
      return {
        codes: packed
          ? tensor(`${module}.weight_packed`, 'I32', [out, words(inFeatures)])
          : tensor(`${module}.weight`, 'I8', [out, inFeatures]),
        scales: tensor(`${module}.weight_scale`, scaleType, [rows, groups]),
        zeros: symmetric
          ? undefined
          : packed
            ? tensor(`${module}.weight_zero_point`, 'I32', [words(rows), groups])
            : tensor(`${module}.weight_zero_point`, 'I8', [rows, groups]),
        groupIndex: order(`${module}.weight_g_idx`),
      }
    }
  }
}

function tensor(name: string, dtype: TensorType, shape: readonly number[]): TensorRef {
  const bytes = elementCount(shape) * ELEMENT_BYTES[dtype]
  return { name, dtype, shape, file: 0, offset: 0, bytes }
}
