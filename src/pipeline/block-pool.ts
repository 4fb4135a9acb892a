import { BillfishError } from '../errors'

/**
 * The KV cache's blocks. All stages number their blocks alike, so one pool of numbers serves them all: a block is
 * `blockSize` positions of one sequence, in every layer.
 */
export class BlockPool {
  readonly #free: number[]

  constructor(
    readonly blockSize: number,
    readonly blockCount: number,
  ) {
    // Low numbers first, so that a short sequence touches little memory.
    this.#free = Array.from({ length: blockCount }, (_, i) => blockCount - 1 - i)
  }

  get available(): number {
    return this.#free.length
  }

  /** Blocks that hold `positions` positions. */
  blocksFor(positions: number): number {
    return Math.ceil(positions / this.blockSize)
  }

  take(count: number): number[] {
    if (count > this.#free.length) {
      throw new BillfishError('INTERNAL', `${count} KV blocks were taken where ${this.#free.length} are free.`)
    }
    return this.#free.splice(this.#free.length - count).reverse()
  }

  give(blocks: readonly number[]): void {
    for (let i = blocks.length - 1; i >= 0; i--) this.#free.push(blocks[i] as number)
  }
}
