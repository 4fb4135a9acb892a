import { ceilDiv } from '../common/arithmetic'
import { type ChannelRun, paddedSize, paddingRuns, ZEROS } from '../quantization/padding'

/** The channels of a dimension that a rank has, in order. */
export type RankChannels = readonly ChannelRun[]

/**
 * One rank of a tensor-parallel stage, and its share of every dimension. Shares are equal: a dimension is zero-padded
 * at its end to the smallest size that gives every rank whole units.
 */
export class Rank {
  /** The single rank of a stage without tensor parallelism. */
  static readonly only = new Rank(0, 1)

  constructor(
    readonly index: number,
    readonly count: number,
  ) {}

  /** Whether this rank adds biases, hands over hidden states and holds the logits. */
  get isFirst(): boolean {
    return this.index === 0
  }

  /** This rank's share of `size` channels, split at multiples of `groupSize` and `tile`. */
  share(size: number, groupSize = 1, tile = 1, layer?: string): RankChannels {
    const padded = paddedSize(size, { groupSize, tile, parallelSizes: [this.count], layer })
    const own = padded / this.count
    return sliceRuns(paddingRuns(size, padded, 'tail'), this.index * own, own)
  }

  /**
   * This rank's query heads and the key-value heads they use, heads / kvHeads query heads per key-value head. With
   * fewer key-value heads than ranks, several ranks replicate one and split its query heads among themselves.
   */
  heads(heads: number, kvHeads: number): { readonly queries: RankChannels; readonly keys: RankChannels } {
    const ratio = heads / kvHeads
    if (kvHeads >= this.count) {
      const keys = this.share(kvHeads)
      return { queries: scaleRuns(keys, ratio), keys }
    }
    const firstWith = (key: number) => ceilDiv(key * this.count, kvHeads)
    const key = Math.floor((this.index * kvHeads) / this.count)
    const first = firstWith(key)
    const sharing = new Rank(this.index - first, firstWith(key + 1) - first)
    const queries = sharing.share(ratio).map(({ start, count }) => ({
      start: start === ZEROS ? ZEROS : start + key * ratio,
      count,
    }))
    return { queries, keys: [{ start: key, count: 1 }] }
  }
}

/** `count` channels of the runs, starting at channel `first`. */
export function sliceRuns(runs: RankChannels, first: number, count: number): ChannelRun[] {
  const taken: ChannelRun[] = []
  let at = 0
  for (const run of runs) {
    const from = Math.max(first, at)
    const until = Math.min(first + count, at + run.count)
    if (from < until) {
      taken.push({ start: run.start === ZEROS ? ZEROS : run.start + from - at, count: until - from })
    }
    at += run.count
  }
  return taken
}

/** Converts runs of units of `width` channels each, such as heads, to runs of channels. */
export function scaleRuns(runs: RankChannels, width: number): ChannelRun[] {
  return runs.map(({ start, count }) => ({ start: start === ZEROS ? ZEROS : start * width, count: count * width }))
}

/** Offsets the runs by `by` channels, for a layer that concatenates several such dimensions. */
export function offsetRuns(runs: RankChannels, by: number): ChannelRun[] {
  return runs.map(({ start, count }) => ({ start: start === ZEROS ? ZEROS : start + by, count }))
}

export function channelCount(runs: RankChannels): number {
  return runs.reduce((size, { count }) => size + count, 0)
}
