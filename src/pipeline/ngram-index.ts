/** The end of an n-gram that is in no slot. */
const NONE = 0

/** Slots for each n-gram: with half of them empty, few n-grams displace another one. */
const SLOTS_PER_NGRAM = 2

const FIRST_CAPACITY = 1024

/**
 * Finds what followed the last tokens of a sequence where they occurred before: the prompt look-up of speculative
 * decoding. It follows a sequence that grows, in a time a token that does not depend on the sequence's length.
 *
 * A table has the end of the last occurrence of every n-gram, at the slot of its hash. n-grams with the same slot displace
 * each other, and tokens are compared before they are trusted, so that a collision costs a proposal at most.
 */
export class NgramIndex {
  readonly #tokens: readonly number[]
  readonly #minMatch: number
  readonly #maxMatch: number
  #ends = new Int32Array(0)
  /** Tokens that the table has room for. */
  #capacity = 0
  /** The n-grams that end at or before this position are in the table. */
  #indexed = 0

  /**
   * @param tokens read at every call; tokens may be added to it, but not change
   * @param minMatch tokens that must match at least
   * @param maxMatch tokens that are compared at most: longer matches go before shorter ones
   */
  constructor(tokens: readonly number[], { minMatch, maxMatch }: { minMatch: number; maxMatch: number }) {
    this.#tokens = tokens
    this.#minMatch = minMatch
    this.#maxMatch = maxMatch
  }

  /** `count` tokens that may come next, or none. */
  propose(count: number): number[] {
    this.#catchUp()
    const { length } = this.#tokens
    const hashes = this.#hashes(length)
    for (let size = hashes.length; size >= this.#minMatch; size--) {
      const end = this.#ends[this.#slot(hashes[size - 1] as number)] as number
      if (end !== NONE && this.#matches(end, length, size)) return this.#following(end, count)
    }
    return []
  }

  /** Tokens from `start` on, and where they run out the proposed ones: what repeats is expected to go on. */
  #following(start: number, count: number): number[] {
    const { length } = this.#tokens
    const proposed: number[] = []
    for (let at = start; proposed.length < count; at++) {
      proposed.push((at < length ? this.#tokens[at] : proposed[at - length]) as number)
    }
    return proposed
  }

  /** Adds the n-grams that a token follows. */
  #catchUp(): void {
    const followed = this.#tokens.length - 1
    if (followed > this.#capacity) this.#grow(followed)
    while (this.#indexed < followed) {
      this.#indexed++
      const hashes = this.#hashes(this.#indexed)
      for (let size = this.#minMatch; size <= hashes.length; size++) {
        this.#ends[this.#slot(hashes[size - 1] as number)] = this.#indexed
      }
    }
  }

  #grow(tokens: number): void {
    const sizes = this.#maxMatch - this.#minMatch + 1
    this.#capacity = Math.max(FIRST_CAPACITY, 2 * tokens)
    this.#ends = new Int32Array(2 ** Math.ceil(Math.log2(SLOTS_PER_NGRAM * sizes * this.#capacity)))
    this.#indexed = 0
  }

  /** Hashes of the 1 to maxMatch tokens before `end`. */
  #hashes(end: number): number[] {
    const hashes: number[] = []
    let hash = 0
    for (let size = 1; size <= Math.min(this.#maxMatch, end); size++) {
      hash = Math.imul(hash ^ (this.#tokens[end - size] as number), 0x9e3779b1) + size
      hashes.push(hash)
    }
    return hashes
  }

  #slot(hash: number): number {
    return (Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 7) & (this.#ends.length - 1)
  }

  #matches(end: number, other: number, size: number): boolean {
    for (let i = 1; i <= size; i++) if (this.#tokens[end - i] !== this.#tokens[other - i]) return false
    return true
  }
}
