/**
 * How TypeScript tells the native side where a weight lies in the mapped checkpoint files and how it is stored. The
 * native side (binding/checkpoint/weight_spec.h) has the same structures and checks every one of them again.
 */

/** Element types as safetensors spells them, as far as billfish reads them. */
export type TensorType = 'F32' | 'F16' | 'BF16' | 'I32' | 'I64' | 'U8' | 'I8'

export const ELEMENT_BYTES: Readonly<Record<TensorType, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  I32: 4,
  I64: 8,
  U8: 1,
  I8: 1,
}

/** One tensor of a checkpoint: `bytes` bytes at `offset` (from the start of the file) of file number `file`. */
export interface TensorRef {
  readonly name: string
  readonly file: number
  readonly dtype: TensorType
  readonly shape: readonly number[]
  readonly offset: number
  readonly bytes: number
}

/** Channels of a stored layer that follow one another, or zeros (`start` -1) between channels. */
export interface ChannelRunSpec {
  readonly start: number
  readonly count: number
}

/**
 * What a weight has of a stored layer: a rank's share under tensor parallelism, and padding. The weight's `out`, `in` and
 * `groupSize` are the part's.
 */
export interface PartSpec {
  readonly storedOut: number
  readonly storedIn: number
  /** Of quantized layers. */
  readonly storedGroupSize?: number | undefined
  /** In the order in which the weight has them; absent: all of them. */
  readonly outputs?: readonly ChannelRunSpec[] | undefined
  readonly inputs?: readonly ChannelRunSpec[] | undefined
  /**
   * With act-order, inputs are counted in the order of groups, and come in that order: what makes them `follows` it.
   * Without this, a layer that has act-order in truth is refused, if it is cut between inputs.
   */
  readonly inputsInGroupOrder: boolean
  /** The outputs are counted in the order of groups of the layer that reads them, which is this group index's. */
  readonly follows?: TensorRef | undefined
  readonly followedGroupSize?: number | undefined
}

/** Row-major weights in the checkpoint's own floating-point type: unquantized linears, the embedding, the head. */
export interface MatrixSpec {
  readonly kind: 'matrix'
  readonly name: string
  readonly out: number
  readonly in: number
  readonly weight: TensorRef
  readonly bias?: TensorRef | undefined
  readonly part?: PartSpec | undefined
}

/** A vector that is kept as fp32: norm weights. */
export interface VectorSpec {
  readonly kind: 'vector'
  readonly name: string
  readonly length: number
  readonly weight: TensorRef
}

/** A quantized linear in one of the formats; the native side turns it into the canonical form. */
export interface QuantizedSpec {
  readonly kind: 'quantized'
  readonly name: string
  readonly format: 'gptq' | 'awq' | 'compressed-tensors'
  readonly bits: 4 | 8
  readonly out: number
  readonly in: number
  /** Inputs that share a scale; equals `in` when channelwise. */
  readonly groupSize: number
  /** True: the zero point is 2^(bits-1) and stored zeros are ignored. */
  readonly symmetric: boolean
  /** Added to stored zeros (modulo 2^bits): 1 for GPTQ v1, else 0. */
  readonly zeroOffset: 0 | 1
  /** gptq: qweight; awq: qweight; compressed-tensors: weight_packed. */
  readonly codes: TensorRef
  readonly scales: TensorRef
  readonly zeros?: TensorRef | undefined
  /** Group of every input, where the checkpoint stores it; the native side sees whether it is the natural order. */
  readonly groupIndex?: TensorRef | undefined
  /** Whether the group index may be another than the natural one, by the quantization config. */
  readonly actOrder?: boolean | undefined
  /** compressed-tensors' weight_shape: [out, in] as numbers, which must be those of this spec. */
  readonly storedShape?: TensorRef | undefined
  readonly bias?: TensorRef | undefined
  readonly part?: PartSpec | undefined
}

export type LinearSpec = MatrixSpec | QuantizedSpec
export type WeightSpec = MatrixSpec | VectorSpec | QuantizedSpec

/** Whether backends keep a place for the order of the weight's inputs. A part between inputs has them sorted. */
export function mayHaveOrder({ groupIndex, part }: QuantizedSpec): boolean {
  return groupIndex !== undefined && part?.inputs === undefined
}

/** Bytes of a weight's tensors in the checkpoint. */
export function storedBytes(weight: WeightSpec): number {
  const tensors =
    weight.kind === 'quantized'
      ? [weight.codes, weight.scales, weight.zeros, weight.groupIndex, weight.bias]
      : weight.kind === 'matrix'
        ? [weight.weight, weight.bias]
        : [weight.weight]
  return tensors.reduce((sum, tensor) => sum + (tensor?.bytes ?? 0), 0)
}
