import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { modulesOf, stagesOf, traceStage } from '../models/stages'
import { type PartitionDevice, partition } from './partition'
import { bytesRead, type MemoryLimits, stageMemory, weightMemory } from './stage-memory'

/** A device that a plan may use. */
export interface PlanDevice {
  readonly device: string
  /** Bytes; Infinity for no limit. */
  readonly memory: number
  /** Speed relative to the other devices; 1 by default. */
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

/**
 * The placement that makes the slowest stage as fast as it can be within the devices' memory: contiguous stages, final
 * norm with the head. A stage's time is taken as the bytes that it reads a token: its layers' weights and the head's, not
 * the embedding's, of which a token reads one row.
 * @returns module -> device, or undefined if no split fits
 */
export function autoDeviceMap(
  model: Model,
  source: WeightSource,
  limits: MemoryLimits,
  devices: readonly PlanDevice[],
): Map<string, string> | undefined {
  const modules = modulesOf(model)
  const groups = [...modules.slice(0, -2).map((module) => [module]), modules.slice(-2)] // norm and head together
  const items = groups.map((group) => {
    const stage = traceStage(model, source, { device: '', modules: group })
    const { weights, kvCache } = stageMemory(stage, limits)
    return { memory: weights + kvCache, work: bytesRead(stage) }
  })
  const buffers = stageBuffers(model, source, limits)
  const tied = tiedBytes(model, source)
  const ends = partition(
    items,
    devices.map(({ memory, speed = 1 }): PartitionDevice => ({ memory, speed })),
    (first, end) => {
      const whole = first === 0 && end === groups.length
      return buffers(first === 0, end === groups.length, end - first) - (whole ? tied : 0)
    },
  )
  if (!ends) return undefined
  const map = new Map<string, string>()
  for (const [i, group] of groups.entries()) {
    const owner = devices[ends.findIndex((end) => i < end)] as PlanDevice
    for (const module of group) map.set(module, owner.device)
  }
  return map
}

/**
 * Bytes of a stage's buffers by what it holds. All layers are alike in shape, so a stage of many layers needs the arena
 * of one with two.
 */
function stageBuffers(model: Model, source: WeightSource, limits: MemoryLimits) {
  const known = new Map<string, number>()
  const { embedding, layers, norm, head } = model.names
  return (first: boolean, last: boolean, items: number): number => {
    const count = Math.min(items - (first ? 1 : 0) - (last ? 1 : 0), 2, model.shape.layers)
    const key = `${first} ${last} ${count}`
    let bytes = known.get(key)
    if (bytes === undefined) {
      const modules = [
        ...(first ? [embedding] : []),
        ...Array.from({ length: count }, (_, i) => `${layers}.${i}`),
        ...(last ? [norm, head] : []),
      ]
      bytes = stageMemory(traceStage(model, source, { device: '', modules }), limits).buffers
      known.set(key, bytes)
    }
    return bytes
  }
}

/** What a tied head costs less where it shares its stage with the embedding. */
function tiedBytes(model: Model, source: WeightSource): number {
  const { embedding, norm, head } = model.names
  const weights = (modules: string[]) =>
    traceStage(model, source, { device: '', modules }).weights.reduce((sum, weight) => sum + weightMemory(weight), 0)
  const layer = `${model.names.layers}.0`
  const together = weights([embedding, layer, norm, head])
  return weights([embedding]) + weights([layer]) + weights([norm, head]) - together
}
