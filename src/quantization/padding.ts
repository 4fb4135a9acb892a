/**
 * Computes the padded size of a dimension that tensor parallelism splits, and where the padding goes. Shared by the
 * loader, plans and `billfish pad`.
 *
 * One of n ranks gets size / n channels: whole quantization groups and whole kernel tiles. 29568 channels (Qwen2-72B)
 * are 231 groups of 128, so a rank of two would end inside a group; 29696 is the smallest size that 2, 4 and 8 ranks
 * can split.
 */
import { roundUp } from '../common/arithmetic'
import { BillfishError } from '../common/errors'
import { invalidOption } from '../options/printed'

/** Constraints on a padded size, for each of `parallelSizes`. */
export interface PaddingRule {
  /** Channels that share a scale in this dimension; 1 for 16-bit and channelwise weights. */
  readonly groupSize: number
  /** Channels per rank must be a multiple of this kernel tile; 1 for no constraint. */
  readonly tile: number
  /** Numbers of ranks that the same padding must support. */
  readonly parallelSizes: readonly number[]
  /** Name of the layer, for error messages. */
  readonly layer?: string | undefined
}

/**
 * Position of the zero channels. `tail`: after all others. `interleaved`: one after each of the first channels, as many
 * as needed, so that no quantization group is all zeros (the method that Qwen published for quantizers).
 */
export type PaddingPlacement = 'tail' | 'interleaved'

/** `count` consecutive channels of a padded dimension: source channels from `start` on, or zeros ({@link ZEROS}). */
export interface ChannelRun {
  readonly start: number
  readonly count: number
}

/** `start` of a run of zero channels. */
export const ZEROS = -1

const MAX_SIZE = 2 ** 31 - 1

function checkCount(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= MAX_SIZE) return
  throw invalidOption(name, value, `a whole number from 1 to ${MAX_SIZE}`)
}

export function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

/** Exact up to 2^53; beyond, inexact but still larger than any limit. */
function leastCommonMultiple(a: number, b: number): number {
  return (a / greatestCommonDivisor(a, b)) * b
}

function nameOf(layer: string | undefined): string {
  return layer === undefined ? '' : `${layer}: `
}

/**
 * The valid sizes are exactly the multiples of this number.
 *
 * @throws BillfishError INVALID_OPTION for numbers that are not positive integers, or without a common multiple below
 *   2^31
 */
export function paddingUnit({ groupSize, tile, parallelSizes, layer }: PaddingRule): number {
  checkCount('The group size', groupSize)
  checkCount('The tile', tile)
  if (parallelSizes.length === 0) throw new BillfishError('INVALID_OPTION', 'There is no parallel size to pad for.')
  let ranks = 1
  for (const size of parallelSizes) {
    checkCount('A parallel size', size)
    ranks = leastCommonMultiple(ranks, size)
    if (ranks > MAX_SIZE) break
  }
  const unit = leastCommonMultiple(groupSize, tile) * ranks
  if (unit <= MAX_SIZE) return unit
  throw new BillfishError(
    'INVALID_OPTION',
    `${nameOf(layer)}Groups of ${groupSize}, tiles of ${tile} and the parallel sizes ${parallelSizes.join(', ')} have no ` +
      `common multiple up to ${MAX_SIZE}; pad for fewer or smaller parallel sizes.`,
  )
}

/**
 * The smallest size >= `size` for which every parallel size gives each rank a multiple of group size and tile.
 *
 * @throws BillfishError INVALID_OPTION for numbers that are not positive integers, or if there is no such size below
 *   2^31
 */
export function paddedSize(size: number, rule: PaddingRule): number {
  checkCount('The size', size)
  const unit = paddingUnit(rule)
  const padded = roundUp(size, unit)
  if (padded <= MAX_SIZE) return padded
  throw new BillfishError(
    'INVALID_OPTION',
    `${nameOf(rule.layer)}${size} channels padded to a multiple of ${unit}, for parallel sizes ` +
      `${rule.parallelSizes.join(', ')}, exceed ${MAX_SIZE}; use fewer or smaller parallel sizes.`,
  )
}

/**
 * The runs of the padded dimension, in order. Runs are never empty, and adjacent runs are never mergeable.
 *
 * @throws BillfishError INVALID_OPTION if `padded` is less than `size`, or there are more interleaved zeros than
 *   channels
 */
export function paddingRuns(size: number, padded: number, placement: PaddingPlacement): ChannelRun[] {
  checkCount('The size', size)
  checkCount('The padded size', padded)
  const zeros = padded - size
  if (zeros < 0) {
    throw new BillfishError('INVALID_OPTION', `${size} channels cannot be padded to ${padded}, which is less.`)
  }
  if (zeros === 0) return [{ start: 0, count: size }]
  if (placement === 'tail') {
    return [
      { start: 0, count: size },
      { start: ZEROS, count: zeros },
    ]
  }
  if (zeros > size) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${zeros} zero channels cannot be interleaved with ${size} channels (${padded} in all): at most one zero fits after each ` +
        "channel; use placement 'tail'.",
    )
  }
  const runs: ChannelRun[] = []
  for (let channel = 0; channel < zeros; channel++) {
    runs.push({ start: channel, count: 1 }, { start: ZEROS, count: 1 })
  }
  if (zeros < size) runs.push({ start: zeros, count: size - zeros })
  return runs
}
