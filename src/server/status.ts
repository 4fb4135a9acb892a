/**
 * What GET /status.json answers, for the page at / and other eyes. Counters only grow: the difference of two answers over
 * that of their `uptime` is a rate. Imports types alone, as the page is compiled for browsers.
 */
import type { DeviceMemory, LoadedStage } from '../model-state'

export interface Status {
  /** Seconds since the server started, by a clock that does not jump. */
  readonly uptime: number
  readonly devices: readonly DeviceStatus[]
  readonly models: readonly ModelStatus[]
}

/** A device that models of this server are on. */
export interface DeviceStatus {
  readonly device: string
  /** What it is: `NVIDIA H100 80GB HBM3`. */
  readonly name: string | null
  /** Bytes of its memory, other programs' included; null where that says nothing, as of the disk. */
  readonly totalBytes: number | null
}

/** A model. Members without a comment are those of `model.activity()`. */
export interface ModelStatus {
  /** Those that requests may give; the first one labels the metrics. */
  readonly names: readonly string[]
  /** As config.json has it: `Qwen2ForCausalLM`. */
  readonly architecture: string | null
  /** As config.json has it: `gptq`. */
  readonly quantization: { readonly method: string; readonly bits: number | null } | null
  readonly maxModelLength: number
  readonly maxSequences: number
  /** Whether it answers messages. */
  readonly chats: boolean
  readonly stages: readonly StageStatus[]
  /** As of `model.memory()`. */
  readonly memory: readonly DeviceMemory[]
  readonly waiting: number
  readonly running: number
  readonly paused: number
  readonly stepsInFlight: number
  readonly cacheTokens: { readonly total: number; readonly inUse: number }
  /** Counter. */
  readonly preemptions: number
  /** Counters: tokens of prompts looked up, and found; null without a prefix cache. */
  readonly prefixCache: { readonly queries: number; readonly hits: number } | null
  /** Counters: tokens of prompts, cached ones included, and of answers. */
  readonly tokens: { readonly prompt: number; readonly generated: number }
}

/** One of `model.stages`. */
export interface StageStatus extends LoadedStage {
  /** Counter: milliseconds for which it has computed. */
  readonly busy: number
}
