/**
 * Typed boundary to the native addon: every type here mirrors one under binding/napi. Nothing else in the project knows
 * what the addon exports.
 */
import type { NativeDevices, NativeEmulatedDevice } from './devices'
import type { GrammarClasses, NativeMatcher } from './grammar'
import { loadAddon } from './loader'
import type { NativeTaskConstructor } from './task'
import type { ExpertsSpec, LinearSpec, NumberFormats, WeightSpec } from './weights'

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

/**
 * The operators of binding/engine/operators.h, whose fields the addon checks. Where `out` is missing, the operator works
 * in place on its first operand.
 */
export type OperatorSpec =
  /** Tokens from `first` on have a row in the table; others give zeros. */
  | { op: 'embedding'; table: number; first: number; out: ValueId }
  | { op: 'rmsNorm'; x: ValueId; weight: number; width: number; eps: number; out: ValueId }
  | { op: 'addRmsNorm'; x: ValueId; y: ValueId; weight: number; eps: number; out: ValueId }
  | { op: 'layerNorm'; x: ValueId; weight: number; bias?: number | undefined; eps: number; out: ValueId }
  | { op: 'linear'; x: ValueId; targets: readonly LinearTarget[] }
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
      /** 1: positions see later ones, too; then a sequence is computed in one step. */
      bidirectional: 0 | 1
    }
  /** silu of a causal convolution of every column by itself; `state`: an index into stateLayers. */
  | { op: 'causalConv'; x: ValueId; weight: number; out: ValueId; state: number; taps: number }
  /** `heads` value heads, which share key heads in order; a and b have a column a value head. */
  | {
      op: 'gatedDeltaRule'
      q: ValueId
      k: ValueId
      v: ValueId
      a: ValueId
      b: ValueId
      bias: number
      logDecay: number
      out: ValueId
      state: number
      heads: number
      keyHeads: number
    }
  | { op: 'siluMul'; gate: ValueId; up: ValueId }
  /** x * sigmoid(gate); a gate of one column is that of its whole row. */
  | { op: 'sigmoidMul'; x: ValueId; gate: ValueId }
  /** [experts | their weights] of every token, by descending probability. */
  | { op: 'route'; x: ValueId; out: ValueId; topK: number; normalize: 0 | 1 }
  /** Rows of the experts that the tokens are routed to, beside each other; the weights' first one is number `first`. */
  | { op: 'groupedLinear'; x: ValueId; routing: ValueId; targets: readonly LinearTarget[]; first: number }
  | { op: 'combine'; x: ValueId; routing: ValueId; out: ValueId }
  | { op: 'add'; x: ValueId; y: ValueId }
  | { op: 'gather'; x: ValueId; out: ValueId }
  /** out = the sum of x over all ranks. */
  | { op: 'allReduce'; x: ValueId; out: ValueId }
  /** Columns of all ranks' x beside each other. A rank without `out` gives only. */
  | { op: 'allGather'; x: ValueId; out?: ValueId; pieces: readonly GatheredPiece[] }
  | { op: 'tap'; x: ValueId; index: number }
  /** To the other end of a link, in whose buffer the columns of the value begin at `at`: a branch has one link, 0. */
  | { op: 'send'; x: ValueId; link: number; at: number }
  | { op: 'receive'; out: ValueId; link: number; at: number }

export interface LinearTarget {
  readonly weight: number
  readonly out: ValueId
}

/** Columns [from, from + count) of a rank's value, which become those from `to` on. */
export interface GatheredPiece {
  readonly rank: number
  readonly from: number
  readonly to: number
  readonly count: number
}

export interface RopeSpec {
  readonly inverseFrequency: Float32Array
  /** Factor of cos and sin (yarn's attention factor), else 1. */
  readonly scale: number
}

export interface ProgramSpec {
  readonly values: readonly ValueSpec[]
  readonly ropes: readonly RopeSpec[]
  readonly cacheLayers: readonly { readonly kvHeads: number; readonly headDim: number }[]
  /** Recurrent states: so many fp32 numbers a sequence. */
  readonly stateLayers: readonly { readonly width: number }[]
  readonly operators: readonly OperatorSpec[]
  /** Hidden states from the stage before; absent in the first stage. */
  readonly input?: ValueId | undefined
  /** Hidden states for the next stage, or the logits; absent in a branch. */
  readonly output?: ValueId | undefined
  /** Whether the output is for a next stage. */
  readonly handsOver: boolean
}

/** A stage on one device, one rank's share of it, or one of its branches: experts of its layers on another device. */
export interface StageSpec {
  readonly device: string
  /**
   * Which of the stage's ranks; the first one leads, and is the only one without tensor parallelism. From the number of
   * ranks on, branches: the first is at the other end of link 0 of the first rank, and so on.
   */
  readonly rank: number
  readonly program: ProgramSpec
  readonly weights: readonly WeightSpec[]
}

export interface ModelSpec extends NumberFormats {
  /** Absolute paths of the safetensors files; TensorRef.file is an index into it. */
  readonly files: readonly string[]
  /** Random numbers instead of what the files hold, for benchmarks: then there are no files. */
  readonly randomWeights?: boolean | undefined
  /** All ranks and branches of the first stage, then those of the second, ... */
  readonly stages: readonly StageSpec[]
  /** Ranks a stage. */
  readonly tensorParallelSize: number
  /** Where device `'disk'` keeps its weights; needed if a stage is there. */
  readonly offloadDirectory?: string | undefined
  /** Tokens a KV block. */
  readonly blockSize: number
  /** KV blocks a layer. */
  readonly blockCount: number
  /** Slots of every state layer. */
  readonly maxSequences: number
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
  /** Says which tokens may be chosen, while the step is computed. */
  readonly matcher?: NativeMatcher | undefined
}

export interface StepRequest {
  readonly tokens: Int32Array
  readonly positions: Int32Array
  /**
   * Six numbers a sequence: first row, rows, tokens already computed, first entry and number of entries in blockTables, and
   * its slot of the states, which no other sequence of the batch has.
   */
  readonly sequences: Int32Array
  readonly blockTables: Int32Array
  /** Base of the rotary embedding a sequence; 0: the program's own frequencies. */
  readonly ropeBases: Float64Array
  readonly logitRows: Int32Array
  /** One a logit row; null where only the logits are wanted. */
  readonly sampling: readonly (SamplingSpec | null)[]
  readonly wantLogits: boolean
  readonly wantHiddenStates: boolean
  /**
   * Looks at what every operator computes, and fails with NON_FINITE, naming the module, at the first number that is not
   * finite. Several times as slow.
   */
  readonly search: boolean
}

/** The token where a matcher allows none. */
export const NONE_ALLOWED = -2

/** A token id with its log-probability and the likeliest alternatives. */
export interface SampledToken {
  readonly token: number
  /** Natural log of the token's probability under the unmodified logits. */
  readonly logprob: number
  /** As many of the likeliest tokens as `logprobs` asks for, likeliest first. */
  readonly alternatives: readonly { readonly token: number; readonly logprob: number }[]
}

export interface StepOutput {
  /** One for every sampling that was not null; those of rows that are not finite mean nothing. */
  readonly samples: readonly SampledToken[]
  /** Logit rows that have a NaN or an infinity; of those not sampled, only where logits are wanted. */
  readonly nonFiniteRows: readonly number[]
  /** [logit rows * vocabulary], if wanted. */
  readonly logits?: Float32Array
  /** By tap index; entries are [rows * hidden]. Rows that were left out, as their logits are not wanted, are zeros. */
  readonly hiddenStates?: readonly Float32Array[]
  /** Two numbers a stage: when it began and ended, milliseconds on the steady clock. */
  readonly stages: Float64Array
  /** What is not as it was asked for from this step on, and why; for the user to read. */
  readonly notices: readonly string[]
}

/** What the bytes of a stage depend on besides its device, program and weights. */
export type MemoryLimits = Pick<
  ModelSpec,
  'exact' | 'cacheType' | 'blockSize' | 'blockCount' | 'maxSequences' | 'maxBatchTokens' | 'maxLogitRows'
>

/** Bytes that a stage would hold on a device. */
export interface PlannedMemory {
  readonly weights: number
  readonly kvCache: number
  readonly states: number
  readonly buffers: number
  /** For the sum of these the device gives whole pages of so many bytes. */
  readonly page: number
  /**
   * Of weights that it reads to decode one token: all but those that only an embedding uses, of which a token reads a row,
   * and of experts those that a token goes to.
   */
  readonly read: number
}

/** A stage's program and weights, converted once, whose bytes are counted by what the backends allocate by. */
export interface NativeStagePlan {
  /** Appends a slice of the lists of a program, and of its weights. */
  add(program: ProgramSpec, weights: readonly WeightSpec[]): void
  /**
   * For any kind of device, whether or not this machine or the addon has it.
   * @throws INVALID_OPTION for a type that the device does not compute in, UNSUPPORTED_MODEL for more than 2^53 bytes
   */
  memory(device: string, limits: MemoryLimits): PlannedMemory
}

export interface NativeMemory {
  readonly device: string
  readonly weights: number
  readonly kvCache: number
  readonly states: number
  readonly buffers: number
}

/** A weight whose experts have been handed over by themselves, as the lists of these numbers. */
export type HandedWeight =
  | Exclude<WeightSpec, ExpertsSpec>
  | (Omit<ExpertsSpec, 'experts' | 'consumers'> & { readonly experts: number; readonly consumers?: number | undefined })

export interface NativeModel {
  /** Appends experts to a list; the first of the next number begins it. Before load(), as add(). */
  addExperts(list: number, experts: readonly LinearSpec[]): void
  /** Appends a slice of the lists of a stage's program, and of its weights. */
  add(stage: number, program: ProgramSpec, weights: readonly HandedWeight[]): void
  load(onProgress: (bytesDone: number) => void): Promise<void>
  abortLoad(): void
  step(request: StepRequest): Promise<StepOutput>
  memory(): NativeMemory[]
  /** Once only; a second call rejects. */
  close(): Promise<void>
}

export interface Addon extends GrammarClasses {
  /** Of the stages, devices and ranks; the rest is added. */
  readonly NativeModel: new (
    spec: Omit<ModelSpec, 'stages'> & { readonly stages: readonly Pick<StageSpec, 'device' | 'rank'>[] },
  ) => NativeModel
  readonly StagePlan: new (rank: number) => NativeStagePlan
  readonly NativeTask: NativeTaskConstructor
  devices(): NativeDevices
  /** The same, asked on a thread of Node.js's pool. */
  discoverDevices(): Promise<NativeDevices>
  emulatedDevices(): NativeEmulatedDevice[]
  /** Why there are no emulated devices; null where there are. */
  readonly noEmulator: string | null
  testCudaDevice(index: number): void
  /** The file that tunings are read from; '' where BILLFISH_CUDA_TUNING is 'off'. */
  tuningPath(): string
  /** Takes flock(2)'s exclusive lock of an open file; false if another open file has it. */
  tryLockFile(descriptor: number): boolean
}

/** The addon, loaded on first use. @throws BillfishError ADDON_NOT_FOUND */
export function addon(): Addon {
  return loadAddon().addon as Addon
}
