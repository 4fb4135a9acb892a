/**
 * Peak buffer bytes of long stages, derived from those of short ones.
 *
 * Buffer sizes do not add up across layers, but a value dies within a layer or two, so what is live at any point
 * depends only on the layers around it. Of consecutive layers with the same shape two are enough, and a long stage
 * needs the maximum over its windows of a few layers. The embedding is part of every window of a stage that has it,
 * since such a stage has no input. So are the last layer and the head: they compute only the rows whose logits are
 * wanted, whose buffers are beside those of all tokens.
 */

/** Consecutive layers that can affect what is live at one point. */
const WINDOW = 4

export type BytesOf = (groups: readonly number[]) => number

export class PeakBuffers {
  readonly #shapes: readonly number[]
  /** Groups, keeping at most two of each run of equal shapes. Every stage maps to a slice of this list. */
  readonly #kept: readonly number[]
  /** For each group, its index in `#kept`: as the first of a run with a successor, or as a single one. */
  readonly #first: readonly number[]
  readonly #single: readonly number[]

  /** @param shapes one number per group, embedding and head included; equal numbers mean equal shapes */
  constructor(shapes: readonly number[]) {
    const kept: number[] = []
    const first: number[] = []
    const single: number[] = []
    for (let begin = 0; begin < shapes.length; ) {
      let end = begin + 1
      while (end < shapes.length && shapes[end] === shapes[begin]) end++
      const place = kept.push(begin) - 1
      if (end - begin > 1) kept.push(begin + 1)
      for (let i = begin; i < end; i++) {
        first.push(place)
        single.push(kept.length - 1)
      }
      begin = end
    }
    this.#shapes = shapes
    this.#kept = kept
    this.#first = first
    this.#single = single
  }

  /**
   * @param need bytes of a stage of a few groups; called once per distinct sequence of shapes
   * @returns bytes of groups [first, end)
   */
  peak(need: BytesOf): (first: number, end: number) => number {
    const known = new Map<string, number>()
    const needOf: BytesOf = (groups) => {
      const key = groups.map((group) => this.#shapes[group]).join(' ')
      const value = known.get(key) ?? need(groups)
      known.set(key, value)
      return value
    }
    const lastLayer = this.#kept.length - 2
    const windows = [0, 1, 2].map((n) => new Windows(this.#kept, needOf, this.#kept.slice(lastLayer, lastLayer + n)))
    return (first, end) => {
      const [from, to] = this.#keptRange(first, end)
      const length = to - from + 1
      if (length <= WINDOW + 2) return needOf(this.#kept.slice(from, to + 1))
      const behind = Math.max(0, to - lastLayer + 1)
      return (windows[behind] as Windows).max(from, to - behind)
    }
  }

  /** Indices in `#kept` of the first and last group that [first, end) maps to. */
  #keptRange(first: number, end: number): [number, number] {
    const last = end - 1
    const place = this.#first[first] as number
    const isOneRun = this.#first[last] === place
    const pairAtFirst = first < last && this.#shapes[first] === this.#shapes[first + 1]
    const pairAtLast = first < last && this.#shapes[last] === this.#shapes[last - 1]
    const from = pairAtFirst || isOneRun ? place : (this.#single[first] as number)
    return [from, pairAtLast ? (this.#single[last] as number) : (this.#first[last] as number)]
  }
}

/** Windows of stages that share the same last groups. */
class Windows {
  readonly #kept: readonly number[]
  readonly #need: BytesOf
  readonly #behind: readonly number[]
  /** By first index in `#kept`, then by number of windows: the running maximum. */
  readonly #maxima: number[][] = []

  /** @param behind groups appended to every window */
  constructor(kept: readonly number[], need: BytesOf, behind: readonly number[]) {
    this.#kept = kept
    this.#need = need
    this.#behind = behind
  }

  /** Maximum over the windows of `#kept` from index `from` to `to`. */
  max(from: number, to: number): number {
    const [ahead, begin] = from === 0 ? [this.#kept.slice(0, 1), 1] : [[], from]
    const maxima = this.#maxima[from] ?? []
    this.#maxima[from] = maxima
    while (maxima.length <= to - begin - WINDOW + 1) {
      const at = begin + maxima.length
      const need = this.#need([...ahead, ...this.#kept.slice(at, at + WINDOW), ...this.#behind])
      maxima.push(Math.max(need, maxima.at(-1) ?? 0))
    }
    return maxima[to - begin - WINDOW + 1] as number
  }
}
