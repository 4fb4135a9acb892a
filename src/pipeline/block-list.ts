/** Block numbers in the order in which they were added, as a linked list: any of them can leave it at once. */
export class BlockList {
  /** The neighbors of each block; the last index is the list's own, before its first and behind its last block. */
  readonly #next: Int32Array
  readonly #previous: Int32Array
  readonly #own: number
  #length = 0

  /** @param blockCount block numbers are below this */
  constructor(blockCount: number) {
    this.#own = blockCount
    this.#next = new Int32Array(blockCount + 1)
    this.#previous = new Int32Array(blockCount + 1)
    this.#next[blockCount] = blockCount
    this.#previous[blockCount] = blockCount
  }

  get length(): number {
    return this.#length
  }

  /** Adds a block that is not in the list. */
  push(block: number): void {
    this.#link(this.#previous[this.#own] as number, block)
    this.#link(block, this.#own)
    this.#length++
  }

  /** Removes a block that is in the list. */
  remove(block: number): void {
    this.#link(this.#previous[block] as number, this.#next[block] as number)
    this.#length--
  }

  /** Removes the first block of a list that is not empty. */
  shift(): number {
    const block = this.#next[this.#own] as number
    this.remove(block)
    return block
  }

  #link(before: number, after: number): void {
    this.#next[before] = after
    this.#previous[after] = before
  }
}
