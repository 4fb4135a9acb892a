import type { LoadedStage, ModelSpec, StageSpec } from '../../native/addon'
import { deviceKind } from '../../native/devices'
import type { WeightSpec } from '../../native/weights'
import { cpuMemory, cpuWeight } from './cpu-memory'
import { cudaMemory, cudaWeight, inPages } from './cuda-memory'

/** Bytes of one stage on its device, by use. */
export interface StageMemory {
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
}

/** What the bytes of a stage depend on besides its device, program and weights. */
export type MemoryLimits = Pick<
  ModelSpec,
  'exact' | 'cacheType' | 'blockSize' | 'blockCount' | 'maxBatchTokens' | 'maxLogitRows'
>

/**
 * Exact bytes of a stage on its device, from its traced program and the shapes of its weights alone: what the allocator
 * counts once the model is loaded, and what the device has less of. On a GPU the buffers include the rest of the last page.
 * @throws BillfishError INVALID_OPTION for a type that the device does not compute in
 */
export function stageMemory(stage: StageSpec, limits: MemoryLimits): StageMemory {
  const contents = stageContents(stage, limits)
  const bytes = bytesOf(contents)
  return { ...contents, buffers: contents.buffers + takenOn(stage.device)(bytes) - bytes }
}

/** {@link stageMemory} without the rest of the last page: what the stage's allocations add up to. */
export function stageContents(stage: StageSpec, limits: MemoryLimits): StageMemory {
  return deviceKind(stage.device) === 'gpu' ? cudaMemory(stage, limits) : cpuMemory(stage, limits)
}

/** A stage as it is loaded: with what it takes of its device. */
export function loadedStage(stage: StageSpec, limits: MemoryLimits): LoadedStage {
  return { ...stage, bytes: bytesOf(stageContents(stage, limits)) }
}

export function bytesOf({ weights, kvCache, buffers }: StageMemory): number {
  return weights + kvCache + buffers
}

/** What a device gives for a stage whose allocations add up to so many bytes. */
export function takenOn(device: string): (bytes: number) => number {
  return deviceKind(device) === 'gpu' ? inPages : (bytes) => bytes
}

/**
 * Bytes of weights that the stage reads to decode one token: all but those that only an embedding uses, of which a token
 * reads one row. What decoding takes on a device is in proportion to it.
 */
export function bytesRead({ device, program, weights }: StageSpec): number {
  const weightMemory = deviceKind(device) === 'gpu' ? cudaWeight : cpuWeight
  const read = new Set<number>()
  for (const operator of program.operators) {
    if (operator.op === 'linear') for (const { weight } of operator.targets) read.add(weight)
    else if (operator.op === 'rmsNorm' || operator.op === 'addRmsNorm') read.add(operator.weight)
    else if (operator.op === 'layerNorm') {
      read.add(operator.weight)
      if (operator.bias !== undefined) read.add(operator.bias)
    }
  }
  return [...read].reduce((sum, index) => sum + weightMemory(weights[index] as WeightSpec), 0)
}
