/** Seeded random numbers (mulberry32): every case can be repeated. CommonJS, since GPU bundles run it without vitest. */
class Random {
  /** @param {number} seed */
  constructor(seed) {
    this.state = seed >>> 0
  }

  /** A whole number from 0 to 2^32 - 1. */
  word() {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }

  /** A number in [0, 1). */
  next() {
    return this.word() / 2 ** 32
  }

  /** A number in [-1, 1). */
  signed() {
    return this.word() / 2 ** 31 - 1
  }

  /** A whole number in [0, count). @param {number} count */
  below(count) {
    return Math.floor(this.next() * count)
  }

  /** @param {number} probability */
  chance(probability) {
    return this.next() < probability
  }

  /**
   * @template Item
   * @param {readonly Item[]} items not empty
   * @returns {Item}
   */
  pick(items) {
    return items[this.below(items.length)]
  }

  /** 0 to count - 1 in random order. @param {number} count */
  order(count) {
    const all = Array.from({ length: count }, (_, i) => i)
    for (let i = count - 1; i > 0; i--) {
      const j = this.below(i + 1)
      ;[all[i], all[j]] = [all[j], all[i]]
    }
    return all
  }
}

module.exports = { Random }
