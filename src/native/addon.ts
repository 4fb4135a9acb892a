/**
 * The typed boundary to the native addon: every type here has its twin under binding/napi. Nothing else in the project
 * knows what the addon exports.
 */
import { loadAddon } from './loader'
import type { WeightSpec } from './weights'

export type ValueId = number

export interface ValueSpec {
  readonly width: number
  /** One row a token of the batch, or one a row whose logits are wanted. */
  readonly rows: 'tokens' | 'logits'
  /** The residual stream may be kept wider than other values. */
  readonly class: 'activation' | 'residual' | 'logits'
  /** Columns [start, start + width) of another value. */
  readonly view?: { readonly of: ValueId; readonly start: number } | undefined
}

/** The operators of binding/engine/program.h. Where `out` is missing, the operator works in place on its first operand. */
export type OperatorSpec =
  /** Tokens from `first` on have a row in the table; others give zeros. */
  | { op: 'embedding'; table: number; first: number; out: ValueId }
  | { op: 'rmsNorm'; x: ValueId; weight: number; width: number; eps: number; out: ValueId }
  | { op: 'addRmsNorm'; x: ValueId; y: ValueId; weight: number; eps: number; out: ValueId }
  | { op: 'layerNorm'; x: ValueId; weight: number; bias?: number | undefined; eps: number; out: ValueId }
  | { op: 'linear'; x: ValueId; targets: readonly { readonly weight: number; readonly out: ValueId }[] }
  | { op: 'rope'; x: ValueId; heads: number; headDim: number; rope: number }
  | { op: 'logNScale'; x: ValueId; length: number }
  | {
      op: 'attention'
      q: ValueId
      k: ValueId
      v: ValueId
      out: ValueId
      layer: number
      heads: number
      scale: number
      /** 0: no sliding window. */
      window: number
    }
  | { op: 'siluMul'; gate: ValueId; up: ValueId }
  | { op: 'add'; x: ValueId; y: ValueId }
  | { op: 'gather'; x: ValueId; out: ValueId }
  /** out = the sum of x over all ranks. */
  | { op: 'allReduce'; x: ValueId; out: ValueId }
  /** Columns of all ranks' x beside each other. A rank without `out` gives only. */
  | { op: 'allGather'; x: ValueId; out?: ValueId; pieces: readonly GatheredPiece[] }
  | { op: 'tap'; x: ValueId; index: number }

/** Columns [from, from + count) of a rank's value, which become those from `to` on. */
export interface GatheredPiece {
  readonly rank: number
  readonly from: number
  readonly to: number
  readonly count: number
}

/** A value's place in its arena: its rows begin at offset * rows of the arena, and are `stride` apart, both in bytes. */
export interface PlaceSpec {
  readonly offset: number
  readonly stride: number
}

export interface RopeSpec {
  readonly inverseFrequency: Float32Array
  /** Factor of cos and sin (yarn's attention factor), else 1. */
  readonly scale: number
}

export interface ProgramSpec {
  readonly values: readonly ValueSpec[]
  /** One a value. */
  readonly places: readonly PlaceSpec[]
  /** Bytes of the token arena a row, and of the logit arena a row. */
  readonly tokenBytes: number
  readonly logitBytes: number
  readonly ropes: readonly RopeSpec[]
  readonly cacheLayers: readonly { readonly kvHeads: number; readonly headDim: number }[]
  readonly operators: readonly OperatorSpec[]
  /** Hidden states from the stage before; absent in the first stage. */
  readonly input?: ValueId | undefined
  /** Hidden states for the next stage, or the logits. */
  readonly output: ValueId
}

/** A stage on one device, or one rank's share of it. */
export interface StageSpec {
  readonly device: string
  /** Which of the stage's ranks; the first one leads, and is the only one without tensor parallelism. */
  readonly rank: number
  readonly program: ProgramSpec
  readonly weights: readonly WeightSpec[]
}

export interface ModelSpec {
  /** Absolute paths of the safetensors files; TensorRef.file is an index into it. */
  readonly files: readonly string[]
  /** Random numbers instead of what the files hold, for benchmarks: then there are no files. */
  readonly randomWeights?: boolean | undefined
  /** All ranks of the first stage, then those of the second, ... */
  readonly stages: readonly StageSpec[]
  /** Ranks a stage. */
  readonly tensorParallelSize: number
  /** fp32 activations and accumulation throughout. */
  readonly exact: boolean
  /** Type of the cached keys and values on CPU devices. */
  readonly cacheType: 'F32' | 'F16' | 'BF16'
  /** Type of activations, 16-bit weights and the KV cache on devices that compute in 16 bits. */
  readonly activationType: 'F16' | 'BF16'
  /** Where device `'disk'` keeps its weights; needed if a stage is there. */
  readonly offloadDirectory?: string | undefined
  /** Tokens a KV block. */
  readonly blockSize: number
  /** KV blocks a layer. */
  readonly blockCount: number
  readonly maxBatchTokens: number
  /** Rows whose logits are computed at a time. */
  readonly maxLogitRows: number
  readonly vocabulary: number
}

/** How one logit row becomes a token; see binding/engine/sampling.h for the order in which the options act. */
export interface SamplingSpec {
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly repetitionPenalty: number
  readonly presencePenalty: number
  readonly frequencyPenalty: number
  /** The seed's 64 bits as two 32-bit halves, low first. */
  readonly seed: readonly [number, number]
  /** Which token of the sequence this is; a sample depends on seed and step alone. */
  readonly step: number
  /** Alternatives whose log-probabilities are wanted, besides the token's own. */
  readonly logprobs: number
  readonly biasTokens?: Int32Array | undefined
  readonly biasValues?: Float32Array | undefined
  /** Given only where a penalty needs them. */
  readonly promptTokens?: Int32Array | undefined
  readonly generatedTokens?: Int32Array | undefined
  /** Tokens that must not be chosen. */
  readonly bannedTokens?: Int32Array | undefined
}

export interface StepRequest {
  readonly tokens: Int32Array
  readonly positions: Int32Array
  /** Five numbers a sequence: first row, rows, tokens already cached, first entry and number of entries in blockTables. */
  readonly sequences: Int32Array
  readonly blockTables: Int32Array
  /** Base of the rotary embedding a sequence; 0: the program's own frequencies. */
  readonly ropeBases: Float64Array
  readonly logitRows: Int32Array
  /** One a logit row; null where only the logits are wanted. */
  readonly sampling: readonly (SamplingSpec | null)[]
  readonly wantLogits: boolean
  readonly wantHiddenStates: boolean
}

export interface SampledToken {
  readonly token: number
  /** Natural log of the token's probability under the unmodified logits. */
  readonly logprob: number
  readonly alternatives: readonly { readonly token: number; readonly logprob: number }[]
}

export interface StepOutput {
  /** One for every sampling that was not null. */
  readonly samples: readonly SampledToken[]
  /** [logit rows * vocabulary], if wanted. */
  readonly logits?: Float32Array
  /** By tap index; entries are [rows * hidden]. */
  readonly hiddenStates?: readonly Float32Array[]
  /** Two numbers a stage: when it began and ended, milliseconds on the steady clock. */
  readonly stages: Float64Array
  /** What is not as it was asked for from this step on, and why; for the user to read. */
  readonly notices: readonly string[]
}

export interface NativeMemory {
  readonly device: string
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
}

export interface NativeModel {
  load(onProgress: (bytesDone: number) => void): Promise<void>
  abortLoad(): void
  step(request: StepRequest): Promise<StepOutput>
  memory(): NativeMemory[]
  /** Once only; a second call rejects. */
  close(): Promise<void>
}

/** What a benchmark runs on, and in which types; see {@link ModelSpec}. */
interface BenchmarkTarget extends Pick<ModelSpec, 'exact' | 'cacheType' | 'activationType'> {
  readonly device: string
}

export interface GemmBenchmarkSpec extends BenchmarkTarget {
  readonly kind: 'gemm'
  /** Weights on one input that run in one call: rows of each, and inputs. */
  readonly cases: readonly { readonly outs: readonly number[]; readonly in: number }[]
  /** Rows of the input, each measured. */
  readonly rows: readonly number[]
  readonly bits: readonly number[]
  /** Of quantised weights; 0: one scale a row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
}

export interface AttentionBenchmarkSpec extends BenchmarkTarget {
  readonly kind: 'attention'
  readonly cases: readonly {
    readonly heads: number
    readonly kvHeads: number
    readonly headDim: number
    /** 0: none. */
    readonly window: number
    /** Each with `past` positions in the cache and `rows` new ones. */
    readonly sequences: number
    readonly past: number
    readonly rows: number
  }[]
}

interface BenchmarkTiming {
  /** Of the spec's cases. */
  readonly index: number
  /** Seconds of one call. */
  readonly median: number
  readonly fastest: number
  readonly slowest: number
  /** Bytes a second that plain reading or copying reached just before. */
  readonly memoryRate: number
}

export interface GemmBenchmarkResult extends BenchmarkTiming {
  readonly bits: number
  readonly rows: number
  /** As the device keeps them. */
  readonly weightBytes: number
  /** And the input and output. */
  readonly movedBytes: number
  /** The same in 16 bits with the vendor's library; 0 without one. */
  readonly vendorSeconds: number
}

export interface AttentionBenchmarkResult extends BenchmarkTiming {
  /** Of the keys and values that are read. */
  readonly cacheBytes: number
  readonly multiplications: number
}

export interface BenchmarkMachine {
  readonly name: string
  /** What memoryRate counts. */
  readonly memoryTraffic: 'reading' | 'copying'
  /** False in the emulator. */
  readonly timesMeanSomething: boolean
}

export interface GemmBenchmarkMachine extends BenchmarkMachine {
  /** 'cuBLAS', or empty. */
  readonly vendor: string
  /** The most multiplications and additions a second that its library reached; 0 without one. */
  readonly vendorFlops: number
}

export interface NativeBenchmark<Result, Machine> {
  /** Once only. */
  run(onResult: (result: Result) => void): Promise<Machine>
  abort(): void
}

interface NativeBenchmarkConstructor {
  new (spec: GemmBenchmarkSpec): NativeBenchmark<GemmBenchmarkResult, GemmBenchmarkMachine>
  new (spec: AttentionBenchmarkSpec): NativeBenchmark<AttentionBenchmarkResult, BenchmarkMachine>
}

/** A linear to measure: one weight. `groupSize` 0: one scale a row; it counts for 4 and 8 bits. */
export interface TuneShape {
  readonly bits: number
  readonly out: number
  readonly in: number
  readonly groupSize: number
  readonly zeroPoints: boolean
}

export interface TuneSpec {
  readonly device: string
  readonly bfloat16: boolean
  /** Runs of which the median counts, and calls that follow each other in each. */
  readonly runs: number
  readonly launches: number
  /** Ascending. */
  readonly rows: readonly number[]
  readonly shapes: readonly TuneShape[]
  /** What the file of tunings has, or nothing; and how errors call it. */
  readonly table: string
  readonly source: string
}

export interface TuneMeasurement {
  readonly bits: number
  readonly out: number
  readonly in: number
  readonly rows: number
  /** By the fastest tile of the kernel that converts codes as it goes. */
  readonly fusedMicroseconds: number
  /** By weights made into 16 bits first (of 16 bits: by cuBLAS); null where that is not done. */
  readonly panelMicroseconds: number | null
}

export interface TuneResult {
  /** The device's own name, which the tuning is for. */
  readonly machine: string
  /** The file of tunings with this one in it. */
  readonly table: string
  readonly measurements: readonly TuneMeasurement[]
}

export interface NativeDevices {
  readonly devices: readonly {
    readonly device: string
    readonly name: string
    readonly computeCapability: string
    readonly totalBytes: number
    readonly freeBytes: number
    readonly multiprocessors: number
    readonly l2Bytes: number
    readonly pciBusId: string
  }[]
  readonly cuda: {
    readonly compiled: boolean
    readonly available: boolean
    /** Why there is no CUDA device; null when there is one. */
    readonly reason: string | null
    readonly driverVersion: string | null
    readonly runtimeVersion: string | null
    /** NVIDIA's library of matrix products, which makes long prompts faster; `reason`: why it is not used. */
    readonly cublas: {
      readonly library: string | null
      readonly version: string | null
      readonly reason: string | null
    }
  }
  readonly cpu: { readonly cores: number; readonly instructionSet: string }
}

export interface NativeEmulatedDevice {
  readonly device: string
  readonly computeCapability: string
  readonly totalBytes: number
  readonly freeBytes: number
  readonly multiprocessors: number
}

/** Scales and zero points: a weight is scale * (code - zero point). */
interface CodeGrid {
  /** [outputs, groups] for multiplyRows, [groups, outputs] for addColumns; `zeros` too. */
  readonly scales: Float32Array
  readonly zeros: Uint8Array
  /** The group of every input. */
  readonly groupOf: Int32Array
}

/** y = rows of stored numbers times x, in fp64: binding/padding/products.h says in which order they are added. */
export interface FloatProduct {
  readonly values: Uint8Array
  readonly type: 'F32' | 'F16' | 'BF16'
  readonly x: Float64Array
  readonly leading: number
  readonly y: Float64Array
}

/** The same for codes as compressed-tensors packs them. */
export interface RowProduct extends CodeGrid {
  readonly codes: Int32Array
  readonly bits: 4 | 8
  readonly x: Float64Array
  readonly leading: number
  readonly y: Float64Array
}

/** y += the inputs that are here, for codes as GPTQ or AWQ packs them. */
export interface ColumnProduct extends CodeGrid {
  readonly codes: Int32Array
  readonly order: 'gptq' | 'awq'
  readonly bits: 4 | 8
  readonly x: Float64Array
  /** For AWQ, outputs (of scales and zero points, too) are in the order [8 places in a word, words of a row]. */
  readonly y: Float64Array
}

export interface Addon {
  readonly NativeModel: new (spec: ModelSpec) => NativeModel
  readonly NativeBenchmark: NativeBenchmarkConstructor
  devices(): NativeDevices
  emulatedDevices(): NativeEmulatedDevice[]
  testCudaDevice(index: number): void
  /** Measures for minutes, on a thread of Node.js's pool. */
  tuneGemm(spec: TuneSpec): Promise<TuneResult>
  /** The file that tunings are read from; '' where BILLFISH_CUDA_TUNING is 'off'. */
  tuningPath(): string
  multiplyFloats(product: FloatProduct): void
  multiplyRows(product: RowProduct): void
  addColumns(product: ColumnProduct): void
}

/** The addon, loaded on first use. @throws BillfishError ADDON_NOT_FOUND */
export function addon(): Addon {
  return loadAddon<Addon>()
}
