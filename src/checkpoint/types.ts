import type { LinearSpec, MatrixSpec, TensorRef, VectorSpec } from '../native/weights'

/**
 * config.json as a plain object, with both spellings of keys (`torch_dtype`/`dtype`, `rope_scaling`/`rope_parameters`).
 */
export type RawConfig = Readonly<Record<string, unknown>>

/** A stored tensor with a dtype billfish does not compute with; an error only if it is requested. */
export interface UnsupportedTensor extends Omit<TensorRef, 'dtype'> {
  /** As in the safetensors header: F64, BOOL, F8_E4M3, ... */
  readonly dtype: string
}

/** Fields of a quantization config that a rule overrides for some modules; undefined fields are inherited. */
export interface ModuleOverrides {
  readonly bits?: number | undefined
  readonly groupSize?: number | undefined
  readonly symmetric?: boolean | undefined
  readonly actOrder?: boolean | undefined
}

/** A rule for the modules that match `pattern`: `dynamic` of GPTQModel, `extra_config` of AutoRound. */
export interface ModuleRule {
  /** A Python regular expression; with match 'exact' a name. */
  readonly pattern: string
  /** 'start': re.match, 'anywhere': re.search, 'exact': equality. */
  readonly match: 'start' | 'anywhere' | 'exact'
  /** 'skip': these modules are not quantized. */
  readonly action: 'skip' | ModuleOverrides
  /** For error messages. */
  readonly where: string
}

/** FP8 weights that share a scale. */
export interface ScaleBlock {
  /** Outputs; Infinity: all of them. */
  readonly rows: number
  /** Inputs; -1: all of them. */
  readonly groupSize: number
}

/** 4-bit floats in groups of 16 or of 32: see src/quantization/fp4.ts. */
export type Fp4Kind = 'NVFP4' | 'MXFP4'

/** What ModelOpt stores a module as. */
export type ModelOptAlgorithm = 'NVFP4' | 'FP8'

/**
 * The quantization config of a checkpoint, wherever it was found. Tensors take precedence where they disagree: see the
 * table in docs/formats.md.
 */
export type QuantizationConfig =
  | { readonly method: 'none' }
  | {
      readonly method: 'gptq'
      /** Undefined if unspecified. */
      readonly bits: 4 | 8 | undefined
      /** -1: channelwise; undefined if unspecified. */
      readonly groupSize: number | undefined
      readonly symmetric: boolean
      /** Undefined if unspecified. */
      readonly actOrder: boolean | undefined
      /**
       * 1 for checkpoint_format gptq (v1), whose stored zeros are one too small; 0 for gptq_v2; undefined if unknown.
       */
      readonly zeroOffset: 0 | 1 | undefined
      /** Whether a g_idx is stored with every linear. */
      readonly groupIndex: boolean
      /** Whether the head is quantized. */
      readonly head: boolean
      /** In evaluation order. */
      readonly rules: readonly ModuleRule[]
    }
  | {
      readonly method: 'awq'
      readonly layout: 'gemm' | 'gemv'
      readonly bits: 4
      /** As for gptq. */
      readonly groupSize: number | undefined
      /** Undefined if unspecified. */
      readonly zeroPoint: boolean | undefined
      readonly rules: readonly ModuleRule[]
    }
  | {
      readonly method: 'compressed-tensors'
      readonly groups: readonly {
        readonly targets: readonly string[]
        readonly bits: 4 | 8
        /** -1: one scale per row (strategy channel), or for the whole weight. */
        readonly groupSize: number
        /** Of integers: whether there is one scale for the whole weight (strategy tensor). */
        readonly oneScale?: boolean | undefined
        readonly symmetric: boolean
        readonly actOrder: boolean
        /** Whether several codes share a word (pack-quantized), instead of one a byte. */
        readonly packed: boolean
        /** Of weights that are 8-bit floats instead of integers: what shares a scale. */
        readonly floats?: ScaleBlock | undefined
        /** Of weights that are 4-bit floats. */
        readonly fp4?: Fp4Kind | undefined
        /** Whether activations are to be quantized, too, which billfish does not do. */
        readonly quantizesActivations: boolean
      }[]
      readonly ignore: readonly string[]
    }
  | {
      readonly method: 'fp8'
      /** Undefined: one scale a tensor, unless the tensors say otherwise. */
      readonly block: ScaleBlock | undefined
      /** Modules that are not quantized. */
      readonly skipped: readonly string[]
      /** As for compressed-tensors. */
      readonly quantizesActivations: boolean
    }
  | {
      readonly method: 'modelopt'
      /** MIXED_PRECISION: `layers` are quantized; else all modules are that are not `excluded`. */
      readonly algorithm: ModelOptAlgorithm | 'MIXED_PRECISION'
      /** By the names of modules, and of what contains modules. */
      readonly layers: ReadonlyMap<string, ModelOptAlgorithm>
      /** Names with `*` for any text. */
      readonly excluded: readonly string[]
      /** As for compressed-tensors. */
      readonly quantizesActivations: boolean
    }
  | {
      /** A known format that billfish cannot run. */
      readonly method: 'unsupported'
      /** Its name: `FP8 in blocks of 128 x 128`. */
      readonly format: string
      /** Source of the config. */
      readonly where: string
      /** What the tensors look like instead: a sentence for error messages. */
      readonly tensorHint?: string
    }

/** An opened checkpoint: everything known from its headers and small files. Weights are not read yet. */
export interface Checkpoint {
  readonly directory: string
  readonly config: RawConfig
  /** Empty if generation_config.json is missing or invalid: see {@link generationConfigFault}. */
  readonly generationConfig: RawConfig
  readonly generationConfigFault: string | undefined
  /** Warnings about its files, for the user. */
  readonly notices: readonly string[]
  readonly quantization: QuantizationConfig
  /** Absolute paths; TensorRef.file is an index into it. */
  readonly files: readonly string[]
  readonly tensors: ReadonlyMap<string, TensorRef>
  /** Tensors with dtypes billfish does not compute with. */
  readonly unsupportedTensors: ReadonlyMap<string, UnsupportedTensor>
  /** Name of the unsupported format of some of the weights, and what says so. */
  readonly unsupportedFormat: string | undefined
  /** One entry per zero-point tensor (GPTQ, AWQ): the code that all of them equal, or undefined if they vary. */
  readonly storedZeros: readonly (number | undefined)[]
  /** Whether some linear has act-order. */
  readonly hasActOrder: boolean
  /** Total size of `files` in bytes. */
  readonly bytes: number

  /**
   * The linear layer `module`, [outFeatures, inFeatures]; quantized iff its packed tensor exists. `bias` says whether
   * the architecture has one: 'required', 'optional' or 'none'. A stored bias is used even if the architecture has
   * none: old GPTQ writers left such biases behind, almost always zeros.
   * @throws BillfishError INVALID_CHECKPOINT naming file, tensor and numbers
   */
  linear(module: string, outFeatures: number, inFeatures: number, bias: 'required' | 'none' | 'optional'): LinearSpec
  /** A norm weight, or another small tensor, whose elements the model has in fp32. */
  vector(tensor: string, shape: readonly number[]): VectorSpec
  /** The tensor of this name, if it is stored with a dtype billfish computes with. */
  find(tensor: string): TensorRef | undefined
  /** A table [rows, width] (embedding). */
  table(tensor: string, rows: number, width: number): MatrixSpec
}
