import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { modulesOf, stagesOf, traceStage } from '../models/stages'
import { bytesRead, type MemoryLimits, stageMemory } from './stage-memory'

/** A device that a plan may use. */
export interface PlanDevice {
  readonly device: string
  /** Bytes; Infinity for no limit. */
  readonly memory: number
  /** How fast it reads weights, compared with the others; 1 by default. */
  readonly speed?: number | undefined
}

/** What one stage of a plan holds, in exact bytes. */
export interface PlannedStage {
  readonly device: string
  readonly modules: readonly string[]
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
  readonly total: number
  /** Bytes of weights that it reads to decode a token. */
  readonly read: number
}

/** Exact bytes of every stage of a module -> device map. */
export function planStages(
  model: Model,
  source: WeightSource,
  limits: MemoryLimits,
  deviceOf: (module: string) => string,
): PlannedStage[] {
  return stagesOf(modulesOf(model), deviceOf).map((stage) => {
    const traced = traceStage(model, source, stage)
    const memory = stageMemory(traced, limits)
    return { ...stage, ...memory, total: memory.weights + memory.kvCache + memory.buffers, read: bytesRead(traced) }
  })
}
