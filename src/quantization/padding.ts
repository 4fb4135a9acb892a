/**
 * Which size a dimension is padded to so that it can be cut for tensor parallelism, and where the padding goes. One rule
 * for the loader, for plans and for `billfish pad`.
 *
 * A rank of n gets size / n channels: whole quantization groups, and whole tiles of the kernel. 29568 channels (Qwen2-72B)
 * are 231 groups of 128; a rank of two would end in the middle of one, and 29696 is the least size that 2, 4 and 8 divide.
 */
import { BillfishError } from '../errors'
import { invalidOption } from '../options/printed'

/** What a padded size has to satisfy for every one of `parallelSizes`. */
export interface PaddingRule {
  /** Channels that share a scale along this dimension; 1 for 16-bit and channelwise weights. */
  readonly groupSize: number
  /** A rank's channels are a multiple of this: what the kernel takes at a time. 1 where any number will do. */
  readonly tile: number
  /** Numbers of ranks that the dimension shall be cut for: all of them, with the same padding. */
  readonly parallelSizes: readonly number[]
  /** The layer that is padded, for messages. */
  readonly layer?: string | undefined
}

/**
 * Where the zero channels stand. `tail`: behind all others. `interleaved`: one behind each of the first channels, as many
 * as there are; so no quantization group is all zeros, which is what quantizers want (Qwen's published method).
 */
export type PaddingPlacement = 'tail' | 'interleaved'

/** `count` channels in a row of the padded dimension: those of the source from `start` on, or zeros ({@link ZEROS}). */
export interface ChannelRun {
  readonly start: number
  readonly count: number
}

/** The `start` of a run of zero channels. */
export const ZEROS = -1

const MAX_SIZE = 2 ** 31 - 1

function checkCount(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= MAX_SIZE) return
  throw invalidOption(name, value, `a whole number from 1 to ${MAX_SIZE}`)
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

/** The least number that both divide; beyond 2^53 inexact, but still beyond it. */
function leastCommonMultiple(a: number, b: number): number {
  return (a / greatestCommonDivisor(a, b)) * b
}

function nameOf(layer: string | undefined): string {
  return layer === undefined ? '' : `${layer}: `
}

/**
 * Every size that satisfies the rule is a multiple of this number, and every multiple of it satisfies the rule.
 *
 * @throws BillfishError INVALID_OPTION for numbers that are not whole and positive, or have no common multiple below 2^31
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
 * The least size, `size` or greater, of which every parallel size n gives every rank a whole multiple of group size and tile.
 *
 * @throws BillfishError INVALID_OPTION for numbers that are not whole and positive, or where no size below 2^31 will do
 */
export function paddedSize(size: number, rule: PaddingRule): number {
  checkCount('The size', size)
  const unit = paddingUnit(rule)
  const padded = Math.ceil(size / unit) * unit
  if (padded <= MAX_SIZE) return padded
  throw new BillfishError(
    'INVALID_OPTION',
    `${nameOf(rule.layer)}${size} channels padded to a multiple of ${unit}, as the parallel sizes ` +
      `${rule.parallelSizes.join(', ')} need, would be more than ${MAX_SIZE}; take fewer or smaller parallel sizes.`,
  )
}

/**
 * The padded dimension from its first to its last channel. Runs are never empty, and no two neighbors continue each other.
 *
 * @throws BillfishError INVALID_OPTION where `padded` is less than `size`, or interleaved zeros outnumber the channels
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
      `${zeros} zero channels cannot be interleaved with ${size} channels (${padded} in all): there is one behind each of ` +
        'the first channels, so they cannot be more; put them at the end.',
    )
  }
  const runs: ChannelRun[] = []
  for (let channel = 0; channel < zeros; channel++) {
    runs.push({ start: channel, count: 1 }, { start: ZEROS, count: 1 })
  }
  if (zeros < size) runs.push({ start: zeros, count: size - zeros })
  return runs
}
