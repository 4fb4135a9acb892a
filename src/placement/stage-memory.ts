import type { ModelSpec, StageSpec } from '../native/addon'
import { elementBytes, type QuantizedSpec, type WeightSpec } from '../native/weights'

/** Bytes of one stage on its device, by use. Each is what the allocator counts once the model is loaded. */
export interface StageMemory {
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
}

/** What the bytes of a stage depend on besides its program and weights. */
export type MemoryLimits = Pick<ModelSpec, 'cacheType' | 'blockSize' | 'blockCount' | 'maxBatchTokens' | 'maxLogitRows'>

/** CPU allocations are multiples of a cache line (binding/cpu/host_memory.h). */
const roundUp = (bytes: number, multiple: number) => Math.ceil(bytes / multiple) * multiple
const allocated = (bytes: number) => roundUp(bytes, 64)

/** Exact bytes of a stage on a CPU device, from its traced program and the shapes of its weights alone. */
export function stageMemory(stage: Pick<StageSpec, 'program' | 'weights'>, limits: MemoryLimits): StageMemory {
  const { program, weights } = stage
  const positions = limits.blockCount * limits.blockSize
  const kvCache = program.cacheLayers.reduce(
    (sum, { kvHeads, headDim }) => sum + 2 * allocated(positions * kvHeads * headDim * elementBytes[limits.cacheType]),
    0,
  )
  const buffers =
    allocated(program.tokenElements * limits.maxBatchTokens * 4) +
    allocated(program.logitElements * limits.maxLogitRows * 4)
  return { weights: weights.reduce((sum, weight) => sum + weightMemory(weight), 0), kvCache, buffers }
}

/**
 * Bytes of weights that the stage reads to decode one token: all but those that only an embedding uses, of which a token
 * reads one row. What decoding takes on a device is in proportion to it.
 */
export function bytesRead({ program, weights }: Pick<StageSpec, 'program' | 'weights'>): number {
  const read = new Set<number>()
  for (const operator of program.operators) {
    if (operator.op === 'linear') for (const { weight } of operator.targets) read.add(weight)
    else if (operator.op === 'rmsNorm' || operator.op === 'addRmsNorm') read.add(operator.weight)
  }
  return [...read].reduce((sum, index) => sum + weightMemory(weights[index] as WeightSpec), 0)
}

/** Exact bytes of a weight in the layout of the CPU backend. */
export function weightMemory(weight: WeightSpec): number {
  switch (weight.kind) {
    case 'vector':
      return allocated(weight.length * 4) // kept as fp32
    case 'matrix':
      return (
        allocated(weight.out * weight.in * elementBytes[weight.weight.dtype]) +
        (weight.bias ? allocated(weight.out * 4) : 0)
      )
    case 'quantized':
      return packedMemory(weight)
  }
}

/**
 * The packed layout of binding/cpu/quantized_linear.h: codes, scales, zero points and bias, each beginning at a multiple
 * of 64 bytes; outputs are padded to tiles of 16, inputs to 8.
 */
function packedMemory({ bits, out, in: inputs, groupSize, symmetric, scales, bias }: QuantizedSpec): number {
  const tiles = Math.ceil(out / 16)
  const groups = Math.ceil(inputs / groupSize)
  const codes = (tiles * 16 * roundUp(inputs, 8) * bits) / 8
  const scaleBytes = tiles * groups * 16 * elementBytes[scales.dtype]
  const zeroBytes = symmetric ? 0 : tiles * groups * 16
  const biasBytes = bias ? tiles * 16 * 4 : 0
  return allocated(codes) + allocated(scaleBytes) + allocated(zeroBytes) + allocated(biasBytes)
}
