import { type ChannelRun, paddedSize, paddingRuns, ZEROS } from '../quantization/padding'

/** The channels of a layer's outputs or inputs that a rank has, in order. */
export type Share = readonly ChannelRun[]

/**
 * One of the devices that compute a stage together (tensor parallelism), and what each dimension's share of it is. Shares
 * are equal: a dimension is padded with zeros at its end to the least size of which every rank gets whole units.
 */
export class Rank {
  /** A stage on one device. */
  static readonly only = new Rank(0, 1)

  constructor(
    readonly index: number,
    readonly count: number,
  ) {}

  /** Whether it is this rank that adds biases, hands on hidden states and has the logits. */
  get isFirst(): boolean {
    return this.index === 0
  }

  /** This rank's share of `size` channels of a layer, cut at multiples of `groupSize` and of `tile`. */
  share(size: number, groupSize = 1, tile = 1, layer?: string): Share {
    const padded = paddedSize(size, { groupSize, tile, parallelSizes: [this.count], layer })
    const own = padded / this.count
    return cut(paddingRuns(size, padded, 'tail'), this.index * own, own)
  }

  /**
   * This rank's query heads and the key-value heads that they share, heads / kvHeads to one. With fewer key-value heads than
   * ranks, several ranks have the same one, and its query heads are dealt out among them.
   */
  heads(heads: number, kvHeads: number): { readonly queries: Share; readonly keys: Share } {
    const ratio = heads / kvHeads
    if (kvHeads >= this.count) {
      const keys = this.share(kvHeads)
      return { queries: scaleRuns(keys, ratio), keys }
    }
    const firstWith = (key: number) => Math.ceil((key * this.count) / kvHeads)
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

/** `count` channels of the runs from the `first` on. */
export function cut(runs: Share, first: number, count: number): ChannelRun[] {
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

/** Runs of things that are `width` channels wide each, such as heads, as runs of channels. */
export function scaleRuns(runs: Share, width: number): ChannelRun[] {
  return runs.map(({ start, count }) => ({ start: start === ZEROS ? ZEROS : start * width, count: count * width }))
}

/** The runs further on by `by` channels, where a layer has several such dimensions behind each other. */
export function offsetRuns(runs: Share, by: number): ChannelRun[] {
  return runs.map(({ start, count }) => ({ start: start === ZEROS ? ZEROS : start + by, count }))
}

export function channelCount(runs: Share): number {
  return runs.reduce((size, { count }) => size + count, 0)
}
