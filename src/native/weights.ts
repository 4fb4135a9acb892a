/**
 * Describes to the native side where a weight is in the mapped checkpoint files and how it is stored.
 * binding/checkpoint/weight_spec.h mirrors these structures and validates them again.
 */

/** Dtypes that billfish reads, as in the safetensors header. */
export type TensorType = 'F32' | 'F16' | 'BF16' | 'I32' | 'I64' | 'U8' | 'I8' | 'F8_E4M3' | 'F8_E8M0'

export const ELEMENT_BYTES: Readonly<Record<TensorType, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  I32: 4,
  I64: 8,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
}

/** The types in which a model computes. */
export interface NumberFormats {
  /** fp32 activations and accumulation throughout. */
  readonly exact: boolean
  /** Type of cached keys and values on CPU devices. */
  readonly cacheType: 'F32' | 'F16' | 'BF16'
  /** Type of activations, 16-bit weights and the KV cache on devices that compute in 16 bits. */
  readonly activationType: 'F16' | 'BF16'
}

/** A tensor of a checkpoint: `bytes` bytes at `offset` (from the start of the file) in file number `file`. */
export interface TensorRef {
  readonly name: string
  readonly file: number
  readonly dtype: TensorType
  readonly shape: readonly number[]
  readonly offset: number
  readonly bytes: number
}

/** Consecutive channels of a stored layer, or zeros (`start` -1). */
export interface ChannelRunSpec {
  readonly start: number
  readonly count: number
}

/**
 * The part of a stored layer that a weight has: the share of a rank under tensor parallelism, and padding. `out`, `in`
 * and `groupSize` of the weight are those of the part.
 */
export interface PartSpec {
  readonly storedOut: number
  readonly storedIn: number
  /** Only for quantized layers. */
  readonly storedGroupSize?: number | undefined
  /** In the order of the weight; undefined: all of them. */
  readonly outputs?: readonly ChannelRunSpec[] | undefined
  readonly inputs?: readonly ChannelRunSpec[] | undefined
  /**
   * With act-order: whether inputs are numbered, and arrive, in group order, because their producer `follows` this
   * layer. If false, a layer that really has act-order cannot be split along its inputs.
   */
  readonly inputsInGroupOrder: boolean
  /** Numbers the outputs in the group order of the consumer, which has this group index. */
  readonly follows?: TensorRef | undefined
  readonly followedGroupSize?: number | undefined
}

/** Weights in a floating-point dtype: unquantized linears, the embedding, the head. */
export interface MatrixSpec {
  readonly kind: 'matrix'
  readonly name: string
  readonly out: number
  readonly in: number
  readonly weight: TensorRef
  /** Of a weight that is stored input by input, [in, columns]: the column of the first output. */
  readonly column?: number | undefined
  readonly bias?: TensorRef | undefined
  readonly part?: PartSpec | undefined
}

/** A vector that is kept in fp32: norm weights, and other small tensors whatever their shape. */
export interface VectorSpec {
  readonly kind: 'vector'
  readonly name: string
  readonly length: number
  readonly weight: TensorRef
  /** Added to every element: norms may store what is to be added to 1. */
  readonly offset?: number | undefined
  /** The elements that a rank has, of the tensor's in order; undefined: all of them. */
  readonly elements?: readonly ChannelRunSpec[] | undefined
}

/** A quantized linear in one of the formats; the native side converts it to canonical form. */
export interface QuantizedSpec {
  readonly kind: 'quantized'
  readonly name: string
  readonly format: 'gptq' | 'awq' | 'awq-gemv' | 'compressed-tensors' | 'fp8' | 'fp4'
  readonly bits: 4 | 8
  readonly out: number
  readonly in: number
  /** Inputs that share a scale; equals `in` if channelwise. */
  readonly groupSize: number
  /** fp8, compressed-tensors: stored outputs that share scales; 1 where undefined. */
  readonly scaleRows?: number | undefined
  /** If true, the zero point is 2^(bits-1) (fp8, fp4: there is none) and stored zeros are ignored. */
  readonly symmetric: boolean
  /** Added to stored zeros (modulo 2^bits): 1 for GPTQ v1, else 0. */
  readonly zeroOffset: 0 | 1
  /**
   * gptq, awq and awq-gemv: qweight; compressed-tensors: weight_packed (I32), or weight (I8, one code a byte); fp8: weight
   * (F8_E4M3); fp4: weight_packed or weight (U8, two codes a byte).
   */
  readonly codes: TensorRef
  /** fp4: F8_E4M3 (NVFP4), or U8 or F8_E8M0, both of which are exponents (MXFP4). */
  readonly scales: TensorRef
  /** NVFP4: one number for the whole tensor, with which the scales are multiplied or, if it divides, divided. */
  readonly globalScale?: TensorRef | undefined
  readonly globalScaleDivides?: boolean | undefined
  readonly zeros?: TensorRef | undefined
  /** Group of every input, if stored; the native side checks whether it is natural order. */
  readonly groupIndex?: TensorRef | undefined
  /** Whether the quantization config allows a group index other than natural order. */
  readonly actOrder?: boolean | undefined
  /** weight_shape of compressed-tensors: [out, in] as stored values, which must match this spec. */
  readonly storedShape?: TensorRef | undefined
  readonly bias?: TensorRef | undefined
  readonly part?: PartSpec | undefined
}

export type LinearSpec = MatrixSpec | QuantizedSpec

/** One linear an expert, all of one shape and format, or the same part of each: a weight of the operator groupedLinear. */
export interface ExpertsSpec {
  readonly kind: 'experts'
  readonly name: string
  /** Of an expert's part. */
  readonly out: number
  readonly in: number
  /** As they are stored. */
  readonly experts: readonly LinearSpec[]
  /** The part of the first one; that of every other one is alike. */
  readonly first: LinearSpec
  /** What reads the outputs of every expert, which are numbered in its group order. */
  readonly consumers?: readonly LinearSpec[] | undefined
  /** Of some of them at least. */
  readonly hasZeroPoints: boolean
  /** Whether the inputs of some of them are, and arrive, in another order than that of their groups (act-order). */
  readonly hasOrder: boolean
}

export type WeightSpec = MatrixSpec | VectorSpec | QuantizedSpec | ExpertsSpec

/** Bytes of the tensors of a weight in the checkpoint. */
export function storedBytes(weight: WeightSpec): number {
  if (weight.kind === 'experts') {
    const { experts, first } = weight
    return experts.reduce((sum, one) => sum + storedBytes(one) - (first.bias ? 0 : (one.bias?.bytes ?? 0)), 0)
  }
  if (weight.kind === 'matrix' && weight.column !== undefined) {
    const { part, out, weight: tensor } = weight
    const columns = tensor.shape[1] as number
    return (tensor.bytes / columns) * (part?.storedOut ?? out) + (weight.bias?.bytes ?? 0)
  }
  const tensors =
    weight.kind === 'quantized'
      ? [weight.codes, weight.scales, weight.globalScale, weight.zeros, weight.groupIndex, weight.bias]
      : weight.kind === 'matrix'
        ? [weight.weight, weight.bias]
        : [weight.weight]
  return tensors.reduce((sum, tensor) => sum + (tensor?.bytes ?? 0), 0)
}
