import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { BlockPool } from './block-pool'
import type { Sequence } from './sequence'

/** Valid values of `cacheSalt`. */
export const cacheSaltOption = z.string().min(1).max(1024).describe('a text of 1 to 1024 characters')

const HASH_BYTES = 32

/**
 * Lets sequences that begin alike share the KV blocks of their beginning, whether they run at the same time or one after
 * the other.
 *
 * What a full block holds follows from its tokens, the blocks before it, and the rotary bases of its rows where these
 * depend on the length. So its key is the hash of these and of the previous block's key; the first one's hashes
 * the salt. Sequences with different salts share nothing.
 *
 * A block gets its key when all of its sequence's tokens are in the cache and the logits of the last one, which depend
 * on all before it, were finite. From then on nobody writes to it.
 */
export class PrefixCache {
  /** Tokens of the prompts that began, and those of them that were found in the cache. */
  queries = 0
  hits = 0

  readonly #pool: BlockPool
  readonly #ropeBase: (promptLength: number, length: number) => number
  /** What is hashed: the previous key, the rotary bases and the tokens. */
  readonly #bytes: Buffer
  readonly #bases: Float64Array
  readonly #tokens: Int32Array

  constructor(pool: BlockPool, ropeBase: (promptLength: number, length: number) => number) {
    const { blockSize } = pool
    this.#pool = pool
    this.#ropeBase = ropeBase
    const bytes = new ArrayBuffer(HASH_BYTES + blockSize * 12)
    this.#bytes = Buffer.from(bytes)
    this.#bases = new Float64Array(bytes, HASH_BYTES, blockSize)
    this.#tokens = new Int32Array(bytes, HASH_BYTES + blockSize * 8, blockSize)
  }

  /**
   * Takes over the cached blocks that continue a sequence, in place of its own where it has some already. The last token
   * is always left to compute: its logits are wanted. No effect once it has computed tokens of its own.
   */
  reuse(sequence: Sequence): void {
    const { blockSize } = this.#pool
    if (!sequence.sharesBlocks || sequence.scheduled !== sequence.keyedBlocks * blockSize) return
    const most = Math.floor((sequence.tokens.length - 1) / blockSize)
    for (; sequence.keyedBlocks < most; sequence.keyedBlocks++) {
      const index = sequence.keyedBlocks
      const block = this.#pool.find(this.#keyOf(sequence, index))
      if (block === undefined) break
      this.#pool.hold(block)
      const own = sequence.blocks[index]
      if (own !== undefined) this.#pool.free([own])
      sequence.blocks[index] = block
    }
    sequence.computed = sequence.keyedBlocks * blockSize
    sequence.scheduled = sequence.computed
  }

  /** Counts a sequence whose first step begins. */
  begin(sequence: Sequence): void {
    if (!sequence.sharesBlocks) return
    sequence.cachedTokens = sequence.computed
    this.queries += sequence.promptLength
    this.hits += sequence.cachedTokens
  }

  /** Gives the full blocks of a sequence their keys. All of its tokens are in the cache, with finite logits. */
  register(sequence: Sequence): void {
    if (!sequence.sharesBlocks) return
    const full = Math.floor(sequence.computed / this.#pool.blockSize)
    for (; sequence.keyedBlocks < full; sequence.keyedBlocks++) {
      const index = sequence.keyedBlocks
      this.#pool.register(sequence.blocks[index] as number, this.#keyOf(sequence, index))
    }
  }

  /** Lets nobody else find the blocks of a sequence whose numbers are not finite. */
  withdraw(sequence: Sequence): void {
    this.#pool.forget(sequence.blocks)
    sequence.keyedBlocks = 0
  }

  /** Leaves shared blocks to the others: a sequence that is computed again writes to blocks of its own. */
  unshare(sequence: Sequence): void {
    const own = sequence.blocks.filter((block) => !this.#pool.isShared(block))
    this.#pool.free(sequence.blocks.filter((block) => this.#pool.isShared(block)))
    sequence.blocks = own
  }

  #keyOf(sequence: Sequence, index: number): string {
    const { blockKeys } = sequence
    while (blockKeys.length <= index) blockKeys.push(this.#nextKey(sequence))
    return blockKeys[index] as string
  }

  #nextKey({ blockKeys, tokens, promptLength, request }: Sequence): string {
    const first = blockKeys.length * this.#pool.blockSize
    this.#bytes.write(blockKeys.at(-1) ?? hash(`salt:${request.cacheSalt ?? ''}`), 'binary')
    for (let i = 0; i < this.#tokens.length; i++) {
      this.#bases[i] = this.#ropeBase(promptLength, first + i + 1)
      this.#tokens[i] = tokens[first + i] as number
    }
    return hash(this.#bytes)
  }
}

/** SHA-256, so that nobody can make two beginnings that share blocks by mistake. */
function hash(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('binary')
}
