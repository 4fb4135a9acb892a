/**
 * Bytes of what the CPU backend's operators work in: the twin of binding/cpu/stage_scratch.cc. A stage has one scratch,
 * as large as the one operator needs that needs most; it depends neither on the instruction set nor on the number of
 * threads.
 */
import type { OperatorSpec, StageSpec } from '../../native/addon'
import type { WeightSpec } from '../../native/weights'
import type { MemoryLimits } from './stage-memory'

/** Pieces of a scratch, like allocations, begin at multiples of a cache line (binding/cpu/host_memory.h). */
export const wholeLines = (bytes: number) => Math.ceil(bytes / 64) * 64

export function cpuScratch({ program, weights }: Pick<StageSpec, 'program' | 'weights'>, limits: MemoryLimits): number {
  const ropes = program.ropes.map(({ inverseFrequency }) => wholeLines(inverseFrequency.length * 4))
  const operators = program.operators.map((operator) => {
    if (operator.op === 'attention') return attentionScratch(operator, program, limits)
    if (operator.op !== 'linear') return 0
    const rows = program.values[operator.x]?.rows === 'tokens' ? limits.maxBatchTokens : limits.maxLogitRows
    return Math.max(
      ...operator.targets.map(({ weight }) => activation(weights[weight] as WeightSpec, rows, limits.exact)),
    )
  })
  return Math.max(0, ...ropes, ...operators)
}

/** The input of a linear as linear_activation.h prepares it: 16-bit codes with a scale and a sum a segment, or floats. */
function activation(weight: WeightSpec, rows: number, exact: boolean): number {
  if (weight.kind === 'vector') return 0
  if (weight.kind === 'matrix' || exact) return wholeLines(rows * weight.in * 4)
  const codes = rows * Math.ceil(weight.in / 8) * 8 * 2
  return wholeLines(codes) + 2 * wholeLines(rows * segments(weight.in, weight.groupSize) * 4)
}

/** A segment is at most 128 inputs of one group; groups that whole segments fill, and a single group, are cut alike. */
function segments(inputs: number, groupSize: number): number {
  if (groupSize % 128 === 0 || groupSize >= inputs) return Math.ceil(inputs / 128)
  const wholeGroups = Math.floor(inputs / groupSize)
  return wholeGroups * Math.ceil(groupSize / 128) + Math.ceil((inputs % groupSize) / 128)
}

/** Row blocks, and the partial results of a sequence whose keys are split (binding/cpu/attention.cc). */
function attentionScratch(
  { heads, layer }: Extract<OperatorSpec, { op: 'attention' }>,
  { cacheLayers }: StageSpec['program'],
  { maxBatchTokens, blockSize, blockCount }: MemoryLimits,
): number {
  const { kvHeads, headDim } = cacheLayers[layer] as (typeof cacheLayers)[number]
  const rowBlocks = wholeLines(maxBatchTokens * 48)
  const splitTasks = 128
  if (2 * kvHeads > splitTasks || blockSize * blockCount < 2 * 256) return rowBlocks
  const group = heads / kvHeads
  const queries = Math.min(Math.max(1, Math.floor(48 / group)), maxBatchTokens) * group
  const partial = wholeLines(queries * (Math.ceil(headDim / 16) * 16 + 2) * 4)
  return rowBlocks + splitTasks * partial + (splitTasks / 2) * 64
}
