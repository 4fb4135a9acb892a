import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { modulesOf, stagesOf, traceStage } from '../models/stages'
import { bytesRead, type MemoryLimits, stageMemory } from './stage-memory'

/** A device that a plan may use. */
export interface PlanDevice {
  readonly device: string
  /** Bytes; Infinity for no limit. */
  readonly memory: number
  /** Bytes of it that the device's runtime takes; 0 by default. */
  readonly overhead?: number | undefined
  /** How fast it reads weights, compared with the others; 1 by default. */
  readonly speed?: number | undefined
}

/** Bytes that stages may take on a device. */
export function roomOn({ memory, overhead = 0 }: PlanDevice): number {
  return memory - overhead
}

/** What one stage of a plan holds: exact bytes, but for the overhead. */
export interface PlannedStage {
  readonly device: string
  readonly modules: readonly string[]
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
  /** What the device's runtime takes, an estimate, with the first stage of each device; see {@link DeviceOptions}. */
  readonly overhead: number
  readonly total: number
  /** Bytes of weights that it reads to decode a token. */
  readonly read: number
}

/**
 * The bytes of every stage of a module -> device map.
 * @param overheadOn what a device's runtime takes
 */
export function planStages(
  model: Model,
  source: WeightSource,
  limits: MemoryLimits,
  deviceOf: (module: string) => string,
  overheadOn: (device: string) => number = () => 0,
): PlannedStage[] {
  const begun = new Set<string>()
  return stagesOf(modulesOf(model), deviceOf).map((stage) => {
    const { device } = stage
    const traced = traceStage(model, source, stage)
    const memory = stageMemory(traced, limits)
    const overhead = begun.has(device) ? 0 : overheadOn(device)
    begun.add(device)
    const total = memory.weights + memory.kvCache + memory.buffers + overhead
    return { ...stage, ...memory, overhead, total, read: bytesRead(traced) }
  })
}
