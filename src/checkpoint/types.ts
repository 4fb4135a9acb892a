import type { LinearSpec, MatrixSpec, TensorRef, VectorSpec } from '../native/weights'

/** config.json as a plain object, both spellings (`torch_dtype`/`dtype`, `rope_scaling`/`rope_parameters`) still in it. */
export type RawConfig = Readonly<Record<string, unknown>>

/** A stored tensor of an element type that billfish does not compute with; an error only where it is asked for. */
export interface UnsupportedTensor extends Omit<TensorRef, 'dtype'> {
  /** As safetensors spells it: F64, BOOL, F8_E4M3, ... */
  readonly dtype: string
}

/** What a checkpoint's quantisation config says, whichever of the three places it stood in. */
export type QuantizationConfig =
  | { readonly method: 'none' }
  | {
      readonly method: 'gptq'
      readonly bits: 4 | 8
      /** -1: channelwise; undefined: not said, to be inferred from the tensors. */
      readonly groupSize: number | undefined
      readonly symmetric: boolean
      readonly actOrder: boolean
      /** 1 in checkpoint_format gptq (v1), whose stored zeros are one too small; 0 in gptq_v2. */
      readonly zeroOffset: 0 | 1
      /** GPTQModel's `dynamic`: pattern -> overrides or exclusion. */
      readonly dynamic: Readonly<Record<string, Readonly<Record<string, unknown>>>>
    }
  | {
      readonly method: 'awq'
      readonly bits: 4
      /** As for gptq. */
      readonly groupSize: number | undefined
      readonly zeroPoint: boolean
    }
  | {
      readonly method: 'compressed-tensors'
      readonly groups: readonly {
        readonly targets: readonly string[]
        readonly bits: 4 | 8
        /** -1: one scale a row (strategy channel). */
        readonly groupSize: number
        readonly symmetric: boolean
        readonly actOrder: boolean
      }[]
      readonly ignore: readonly string[]
    }

/** An opened checkpoint directory: everything known from its headers and small files, nothing of its weights read yet. */
export interface Checkpoint {
  readonly directory: string
  readonly config: RawConfig
  readonly generationConfig: RawConfig
  readonly quantization: QuantizationConfig
  /** Absolute paths; TensorRef.file is an index into it. */
  readonly files: readonly string[]
  readonly tensors: ReadonlyMap<string, TensorRef>
  /** What else is stored, of element types that billfish does not compute with. */
  readonly unsupportedTensors: ReadonlyMap<string, UnsupportedTensor>
  /** Sum of the sizes of `files`, bytes. */
  readonly bytes: number

  /**
   * The linear layer `module` of logical shape [outFeatures, inFeatures]: quantised iff its packed tensor exists. `bias`
   * says whether the architecture has one: 'required', 'optional', or 'none'. A bias that is stored although the
   * architecture has none is kept as the file says: old GPTQ writers left such biases behind, nearly always all zeros.
   * @throws BillfishError INVALID_CHECKPOINT naming file, tensor and numbers
   */
  linear(module: string, outFeatures: number, inFeatures: number, bias: 'required' | 'none' | 'optional'): LinearSpec
  /** A norm weight or other vector. */
  vector(tensor: string, length: number): VectorSpec
  /** A table [rows, width] (embedding). */
  table(tensor: string, rows: number, width: number): MatrixSpec
}
