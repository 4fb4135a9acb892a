/** Seeded random numbers, so that every case can be repeated. */
export class Random {
  constructor(seed: number)
  /** A whole number from 0 to 2^32 - 1. */
  word(): number
  /** A number in [0, 1). */
  next(): number
  /** A whole number in [0, count). */
  below(count: number): number
  /** A number in [-1, 1). */
  signed(): number
  chance(probability: number): boolean
  pick<Item>(items: readonly Item[]): Item
  /** 0 to count - 1 in random order. */
  order(count: number): number[]
}
