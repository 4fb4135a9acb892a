/**
 * What stages need whose needs do not add up, from what short ones need. Values die within a layer or two, so what a stage
 * needs at one place depends on the layers around it alone: of layers of one shape that follow each other two count, and
 * a long stage needs the most that any few layers of it in a row need. The embedding counts wherever the stage has it,
 * since nothing comes in then, and so does the head: nothing is handed over.
 */

/** Layers in a row that may have a say in what is needed at one place. */
const WINDOW = 4

export type NeedOf = (groups: readonly number[]) => number

export class PeakBuffers {
  readonly #shapes: readonly number[]
  /** Groups without those that follow two of their shape. Every stage stands for a part of it. */
  readonly #kept: readonly number[]
  /** For each group, its place in `#kept`: as the first one of a stage with another of its shape, else as a single one. */
  readonly #first: readonly number[]
  readonly #single: readonly number[]

  /** @param shapes a number for each group, the embedding and the head among them; equal numbers are equal shapes */
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
   * @param need what a stage of few groups needs; asked once for those of equal shapes
   * @returns what groups [first, end) need
   */
  needs(need: NeedOf): (first: number, end: number) => number {
    const known = new Map<string, number>()
    const needOf: NeedOf = (groups) => {
      const key = groups.map((group) => this.#shapes[group]).join(' ')
      const value = known.get(key) ?? need(groups)
      known.set(key, value)
      return value
    }
    const windows = { open: new Windows(this.#kept, needOf, []), closed: new Windows(this.#kept, needOf, [this.#head]) }
    return (first, end) => {
      const [from, to] = this.#placesOf(first, end)
      const length = to - from + 1
      if (length <= WINDOW + 2) return needOf(this.#kept.slice(from, to + 1))
      return end === this.#shapes.length ? windows.closed.most(from, to - 1) : windows.open.most(from, to)
    }
  }

  get #head(): number {
    return this.#shapes.length - 1
  }

  /** The first and the last place in `#kept` that groups [first, end) stand for. */
  #placesOf(first: number, end: number): [number, number] {
    const last = end - 1
    const place = this.#first[first] as number
    const isOneRun = this.#first[last] === place
    const pairAtFirst = first < last && this.#shapes[first] === this.#shapes[first + 1]
    const pairAtLast = first < last && this.#shapes[last] === this.#shapes[last - 1]
    const from = pairAtFirst || isOneRun ? place : (this.#single[first] as number)
    return [from, pairAtLast ? (this.#single[last] as number) : (this.#first[last] as number)]
  }
}

/** The windows of stages that end in one way. */
class Windows {
  readonly #kept: readonly number[]
  readonly #need: NeedOf
  readonly #behind: readonly number[]
  /** By the place where a stage begins: what stages need that end so many places behind its first window. */
  readonly #mosts: number[][] = []

  /** @param behind groups at the end of every one of the stages */
  constructor(kept: readonly number[], need: NeedOf, behind: readonly number[]) {
    this.#kept = kept
    this.#need = need
    this.#behind = behind
  }

  /** Of a stage with places `from` to `to` in `kept`. */
  most(from: number, to: number): number {
    const [ahead, begin] = from === 0 ? [this.#kept.slice(0, 1), 1] : [[], from]
    const mosts = this.#mosts[from] ?? []
    this.#mosts[from] = mosts
    while (mosts.length <= to - begin - WINDOW + 1) {
      const at = begin + mosts.length
      const need = this.#need([...ahead, ...this.#kept.slice(at, at + WINDOW), ...this.#behind])
      mosts.push(Math.max(need, mosts.at(-1) ?? 0))
    }
    return mosts[to - begin - WINDOW + 1] as number
  }
}
