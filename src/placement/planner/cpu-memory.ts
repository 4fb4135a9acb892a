/** Exact bytes of what a stage holds on a CPU device. Its twin is binding/cpu. */
import type { StageSpec, ValueSpec } from '../../native/addon'
import { ELEMENT_BYTES, mayHaveOrder, type QuantizedSpec, type WeightSpec } from '../../native/weights'
import { cpuScratch, wholeLines } from './cpu-scratch'
import type { MemoryLimits, StageMemory } from './stage-memory'

const roundUp = (bytes: number, multiple: number) => Math.ceil(bytes / multiple) * multiple
/** CPU allocations are multiples of a cache line (binding/cpu/host_memory.h). */
const allocated = wholeLines

export function cpuMemory(stage: Pick<StageSpec, 'program' | 'weights' | 'rank'>, limits: MemoryLimits): StageMemory {
  const { program, weights } = stage
  const positions = limits.blockCount * limits.blockSize
  const kvCache = program.cacheLayers.reduce(
    (sum, { kvHeads, headDim }) => sum + 2 * allocated(positions * kvHeads * headDim * ELEMENT_BYTES[limits.cacheType]),
    0,
  )
  const buffers = ownBuffers(stage, limits) + cpuScratch(stage, limits)
  return { weights: weights.reduce((sum, weight) => sum + cpuWeight(weight), 0), kvCache, buffers }
}

/** A stage's buffers besides its scratch: arenas, rotary tables, hidden states on their way, and what sampling takes. */
function ownBuffers(
  { program, rank }: Pick<StageSpec, 'program' | 'rank'>,
  { maxBatchTokens, maxLogitRows }: MemoryLimits,
): number {
  const { values, output, input, ropes, tokenBytes, logitBytes } = program
  const arenas = allocated(tokenBytes * maxBatchTokens) + allocated(logitBytes * maxLogitRows)
  const tables = ropes.reduce((sum, rope) => sum + allocated(maxBatchTokens * 2 * rope.inverseFrequency.length * 4), 0)
  const { width, rows } = values[output] as ValueSpec
  const hidden = rows === 'tokens' ? width : input === undefined ? 0 : (values[input] as ValueSpec).width
  const handOver = rank === 0 ? allocated(maxBatchTokens * hidden * 4) : 0 // the first rank's, for all of them
  return arenas + tables + handOver + (rows === 'logits' ? allocated(samplingScratch(width)) : 0)
}

/** SamplingScratch::bytes of binding/engine/sampling.cc: a weight, a count and a candidate a token; sums of 1024 each. */
function samplingScratch(vocabulary: number): number {
  return vocabulary * (4 + 4 + 8) + Math.ceil(vocabulary / 1024) * 8
}

/** A weight in the layout of the CPU backend. */
export function cpuWeight(weight: WeightSpec): number {
  switch (weight.kind) {
    case 'vector':
      return allocated(weight.length * 4) // kept as fp32
    case 'matrix':
      return (
        allocated(weight.out * weight.in * ELEMENT_BYTES[weight.weight.dtype]) +
        (weight.bias ? allocated(weight.out * 4) : 0)
      )
    case 'quantized':
      return packedMemory(weight)
  }
}

/**
 * The packed layout of binding/cpu/quantized_linear.h: codes, scales, zero points, bias and order, each beginning at a
 * multiple of 64 bytes; outputs are padded to tiles of 16, inputs to 8.
 */
function packedMemory(weight: QuantizedSpec): number {
  const { bits, out, in: inputs, groupSize, symmetric, scales, bias } = weight
  const tiles = Math.ceil(out / 16)
  const groups = Math.ceil(inputs / groupSize)
  const codes = (tiles * 16 * roundUp(inputs, 8) * bits) / 8
  const scaleBytes = tiles * groups * 16 * ELEMENT_BYTES[scales.dtype]
  const zeroBytes = symmetric ? 0 : tiles * groups * 16
  const biasBytes = bias ? tiles * 16 * 4 : 0
  const orderBytes = mayHaveOrder(weight) ? inputs * 4 : 0
  return [codes, scaleBytes, zeroBytes, biasBytes, orderBytes].reduce((sum, bytes) => sum + allocated(bytes), 0)
}
