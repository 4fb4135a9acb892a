/**
 * What a model says of itself: where its parts are, the memory that they take, and what it is doing. Types alone: the
 * server's page, which is compiled for browsers, has them, too.
 */
import type { SpeculationCounts } from './pipeline/speculation-counts'

/** Consecutive modules that a loaded model computes together. */
export interface LoadedStage {
  /** As in `model.trace()` and `model.activity().busy`. */
  readonly name: string
  /** One, or the devices of its ranks. */
  readonly devices: readonly string[]
  readonly modules: readonly string[]
  /** Experts of its layers on other devices, by device: the stage waits while they are computed. */
  readonly experts: Readonly<Record<string, readonly string[]>>
}

/** Bytes by use. */
export interface MemoryUse {
  readonly weights: number
  readonly kvCache: number
  /** Recurrent states, a slot for each of maxSequences; 0 of models without layers that have them. */
  readonly states: number
  /** Activations, operators' scratch, rotary tables, sampling. */
  readonly buffers: number
}

/** Bytes that a device has allocated for a model, as counted by its allocator. */
export interface DeviceMemory extends MemoryUse {
  readonly device: string
  /** What the plan predicted before anything was loaded. */
  readonly planned: MemoryUse
  /** Bytes of kvCache that currently hold tokens of sequences; what is only kept to be found again does not count. */
  readonly kvCacheInUse: number
  /** Bytes of states that currently belong to sequences. */
  readonly statesInUse: number
}

/** What a model is doing right now. */
export interface Activity {
  /** Sequences waiting for their turn or for KV blocks, or whose long text is being tokenized. */
  readonly waiting: number
  /** Sequences being computed. */
  readonly running: number
  /** Generations paused because their chunks are not being read. */
  readonly paused: number
  /** Steps in flight in the pipeline. */
  readonly stepsInFlight: number
  /** Tokens that fit in the KV cache, and tokens of blocks in use: a block of several sequences counts once. */
  readonly cacheTokens: { readonly total: number; readonly inUse: number }
  /** Number of times a sequence lost its KV blocks and was recomputed. */
  readonly preemptions: number
  /** Milliseconds that each stage has been busy since the model was loaded, by the stage's name in `model.trace()`. */
  readonly busy: Readonly<Record<string, number>>
  /**
   * The prefix cache so far: `queries` tokens of the prompts that were begun, `hits` of them whose keys and values were
   * found, `blocks` of the KV cache that can be found now, in use or not. Undefined without one: `prefixCache` was
   * false, or layers of the model have recurrent states, or its tokens see later ones.
   */
  readonly prefixCache: { readonly queries: number; readonly hits: number; readonly blocks: number } | undefined
  /**
   * Speculative decoding so far: steps of sequences with a draft, the tokens of these drafts, and those of them that were
   * right. Undefined without it: `speculation` was not given, or layers of the model have recurrent states.
   */
  readonly speculation: SpeculationCounts | undefined
}
