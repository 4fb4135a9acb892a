/** A small seeded generator, so that every case can be made again from its numbers. */
export class Random {
  constructor(seed: number)
  /** A number in [0, 1). */
  next(): number
  /** A whole number in [0, count). */
  below(count: number): number
  chance(probability: number): boolean
  pick<Item>(items: readonly Item[]): Item
}
