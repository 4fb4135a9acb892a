import type { ModelSpec, StageSpec } from '../native/addon'
import { computesOn } from '../native/device-kind'
import type { WeightSpec } from '../native/weights'
import { cpuMemory, cpuWeight } from './cpu-memory'
import { cudaMemory, cudaWeight } from './cuda-memory'

/** Bytes of one stage on its device, by use. Each is what the allocator counts once the model is loaded. */
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
 * Exact bytes of a stage on its device, from its traced program and the shapes of its weights alone.
 * @throws BillfishError INVALID_OPTION for a type that the device does not compute in
 */
export function stageMemory(stage: StageSpec, limits: MemoryLimits): StageMemory {
  return computesOn(stage.device) === 'gpu' ? cudaMemory(stage, limits) : cpuMemory(stage, limits)
}

/**
 * Bytes of weights that the stage reads to decode one token: all but those that only an embedding uses, of which a token
 * reads one row. What decoding takes on a device is in proportion to it.
 */
export function bytesRead({ device, program, weights }: StageSpec): number {
  const weightMemory = computesOn(device) === 'gpu' ? cudaWeight : cpuWeight
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
