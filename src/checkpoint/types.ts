import type { LinearSpec, MatrixSpec, TensorRef, VectorSpec } from '../native/weights'

/** config.json as a plain object, both spellings (`torch_dtype`/`dtype`, `rope_scaling`/`rope_parameters`) still in it. */
export type RawConfig = Readonly<Record<string, unknown>>

/** A stored tensor of an element type that billfish does not compute with; an error only where it is asked for. */
export interface UnsupportedTensor extends Omit<TensorRef, 'dtype'> {
  /** As safetensors spells it: F64, BOOL, F8_E4M3, ... */
  readonly dtype: string
}

/** Fields of a quantization config that a rule changes for some modules; absent: as the config says. */
export interface ModuleOverrides {
  readonly bits?: number | undefined
  readonly groupSize?: number | undefined
  readonly symmetric?: boolean | undefined
  readonly actOrder?: boolean | undefined
}

/** What a config says of the modules that `pattern` names: GPTQModel's `dynamic`, AutoRound's `extra_config`. */
export interface ModuleRule {
  /** A regular expression of Python's; with match 'exact' a name. */
  readonly pattern: string
  /** Whether the pattern must match the beginning of the module's name, any part of it, or is the name. */
  readonly match: 'start' | 'anywhere' | 'exact'
  /** 'leaveOut': these modules are not quantized. */
  readonly action: 'leaveOut' | ModuleOverrides
  /** For messages. */
  readonly where: string
}

/**
 * What a checkpoint's quantization config says, whichever of its places it stood in. Where tensors say otherwise, they
 * count: docs/formats.md has a table.
 */
export type QuantizationConfig =
  | { readonly method: 'none' }
  | {
      readonly method: 'gptq'
      /** Undefined: not said. */
      readonly bits: 4 | 8 | undefined
      /** -1: channelwise; undefined: not said. */
      readonly groupSize: number | undefined
      readonly symmetric: boolean
      /** Undefined: not said. */
      readonly actOrder: boolean | undefined
      /** 1 in checkpoint_format gptq (v1), whose stored zeros are one too small; 0 in gptq_v2; undefined: not known. */
      readonly zeroOffset: 0 | 1 | undefined
      /** Whether a g_idx is stored with every linear. */
      readonly groupIndex: boolean
      /** Whether the head is quantized, too. */
      readonly head: boolean
      /** In the order in which they are tried. */
      readonly rules: readonly ModuleRule[]
    }
  | {
      readonly method: 'awq'
      readonly bits: 4
      /** As for gptq. */
      readonly groupSize: number | undefined
      /** Undefined: not said. */
      readonly zeroPoint: boolean | undefined
      readonly rules: readonly ModuleRule[]
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
  | {
      /** A known format that billfish cannot run. */
      readonly method: 'unsupported'
      /** Its name: `FP8 in blocks of 128 x 128`. */
      readonly format: string
      /** Which file says so. */
      readonly where: string
      /** What the tensors look like nevertheless: a sentence's end, for messages. */
      readonly nevertheless?: string
    }

/** An opened checkpoint directory: everything known from its headers and small files, nothing of its weights read yet. */
export interface Checkpoint {
  readonly directory: string
  readonly config: RawConfig
  /** Empty where there is no generation_config.json, or one that holds no object: {@link generationConfigFault}. */
  readonly generationConfig: RawConfig
  readonly generationConfigFault: string | undefined
  /** What is odd about its files, and what becomes of that; for the user to read. */
  readonly notices: readonly string[]
  readonly quantization: QuantizationConfig
  /** Absolute paths; TensorRef.file is an index into it. */
  readonly files: readonly string[]
  readonly tensors: ReadonlyMap<string, TensorRef>
  /** What else is stored, of element types that billfish does not compute with. */
  readonly unsupportedTensors: ReadonlyMap<string, UnsupportedTensor>
  /** The name of the format that some of the weights are stored in, where billfish cannot run it, and who says so. */
  readonly unsupportedFormat: string | undefined
  /** One for every tensor of zero points (GPTQ, AWQ): the code that all of them are, or undefined where they differ. */
  readonly storedZeros: readonly (number | undefined)[]
  /** Whether a linear's inputs are in another order than their groups'. */
  readonly hasActOrder: boolean
  /** Sum of the sizes of `files`, bytes. */
  readonly bytes: number

  /**
   * The linear layer `module` of logical shape [outFeatures, inFeatures]: quantized iff its packed tensor exists. `bias`
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
