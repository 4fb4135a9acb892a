import { ceilDiv } from '../common/arithmetic'
import { BillfishError } from '../common/errors'
import { BlockList } from './block-list'

/**
 * Hands out KV blocks. All stages number their blocks alike, so one pool serves them all: a block holds `blockSize`
 * positions, in every layer.
 *
 * A block whose content is known has a key. Sequences that need the same content hold the block together, and once
 * nobody holds it, it can still be found until it is handed out for something else. Blocks without a key are handed out
 * first, then the one that has been free for the longest time.
 */
export class BlockPool {
  /** Free blocks without a key; the last one is handed out next. */
  readonly #blank: number[]
  /** Free blocks with a key, in the order in which they became free. */
  readonly #cached: BlockList
  /** Number of sequences that hold each block. */
  readonly #holders: Int32Array
  readonly #keys: (string | undefined)[]
  readonly #byKey = new Map<string, number>()

  constructor(
    readonly blockSize: number,
    readonly blockCount: number,
  ) {
    // Low numbers first, so that a short sequence touches little memory.
    this.#blank = Array.from({ length: blockCount }, (_, i) => blockCount - 1 - i)
    this.#cached = new BlockList(blockCount)
    this.#holders = new Int32Array(blockCount)
    this.#keys = Array.from({ length: blockCount })
  }

  /** Blocks that nobody holds, those with a key included. */
  get available(): number {
    return this.#blank.length + this.#cached.length
  }

  /** Blocks with a key, held or not. */
  get keyed(): number {
    return this.#byKey.size
  }

  /** Number of blocks for `positions` positions. */
  blocksFor(positions: number): number {
    return ceilDiv(positions, this.blockSize)
  }

  /** Blocks for a single holder, without keys. */
  allocate(count: number): number[] {
    if (count > this.available) {
      throw new BillfishError('INTERNAL', `${count} KV blocks were requested, but only ${this.available} are free.`)
    }
    return Array.from({ length: count }, () => {
      const block = this.#blank.pop() ?? this.#cached.shift()
      this.#removeKey(block)
      this.#holders[block] = 1
      return block
    })
  }

  /** The block with this key. It may be free, and taken by the next {@link allocate} unless it is held. */
  find(key: string): number | undefined {
    return this.#byKey.get(key)
  }

  /** Adds a holder to a block with a key. */
  hold(block: number): void {
    if (this.#holders[block] === 0) this.#cached.remove(block)
    this.#holders[block] = (this.#holders[block] as number) + 1
  }

  /**
   * Removes a holder of each block.
   * @param blocks in the order of their positions: the last ones, which are of use only behind those before them, are
   *   handed out first
   */
  free(blocks: readonly number[]): void {
    for (let i = blocks.length - 1; i >= 0; i--) {
      const block = blocks[i] as number
      const holders = (this.#holders[block] as number) - 1
      this.#holders[block] = holders
      if (holders > 0) continue
      if (this.#keys[block] === undefined) this.#blank.push(block)
      else this.#cached.push(block)
    }
  }

  /** Number of blocks that would become available if all of these tables were freed. */
  freedBy(tables: readonly (readonly number[])[]): number {
    const times = new Map<number, number>()
    for (const block of tables.flat()) times.set(block, (times.get(block) ?? 0) + 1)
    return [...times].filter(([block, count]) => count === this.#holders[block]).length
  }

  /** Whether several sequences hold a block. */
  isShared(block: number): boolean {
    return (this.#holders[block] as number) > 1
  }

  /** Gives a held block its key. No effect if another block has it: that one stays the block to be found. */
  register(block: number, key: string): void {
    if (this.#byKey.has(key)) return
    this.#byKey.set(key, block)
    this.#keys[block] = key
  }

  /** Takes the keys of held blocks away. */
  forget(blocks: readonly number[]): void {
    for (const block of blocks) this.#removeKey(block)
  }

  #removeKey(block: number): void {
    const key = this.#keys[block]
    if (key === undefined) return
    this.#byKey.delete(key)
    this.#keys[block] = undefined
  }
}
