import { ceilDiv } from '../common/arithmetic'
import { BillfishError } from '../common/errors'

/**
 * Allocates KV blocks. All stages number their blocks alike, so one pool serves them all: a block holds `blockSize`
 * positions of one sequence, in every layer.
 */
export class BlockPool {
  readonly #freeBlocks: number[]

  constructor(
    readonly blockSize: number,
    readonly blockCount: number,
  ) {
    // Low numbers first, so that a short sequence touches little memory.
    this.#freeBlocks = Array.from({ length: blockCount }, (_, i) => blockCount - 1 - i)
  }

  get available(): number {
    return this.#freeBlocks.length
  }

  /** Number of blocks for `positions` positions. */
  blocksFor(positions: number): number {
    return ceilDiv(positions, this.blockSize)
  }

  allocate(count: number): number[] {
    if (count > this.#freeBlocks.length) {
      throw new BillfishError(
        'INTERNAL',
        `${count} KV blocks were requested, but only ${this.#freeBlocks.length} are free.`,
      )
    }
    return this.#freeBlocks.splice(this.#freeBlocks.length - count).reverse()
  }

  free(blocks: readonly number[]): void {
    for (let i = blocks.length - 1; i >= 0; i--) this.#freeBlocks.push(blocks[i] as number)
  }
}
