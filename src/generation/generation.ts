import { type InspectOptions, inspect } from 'node:util'
import { abortError } from '../common/errors'
import { guardMethods } from '../options/method-guard'
import type { GenerationRun } from './generation-run'
import type { FinishReason, GenerationChunk, GenerationResult, GenerationUsage, TokenLogprob } from './results'

/** Cancels abandoned generations: a paused one would wait for its reader forever. */
const dropped = new FinalizationRegistry<GenerationRun>((run) => {
  run.cancel(abortError('The generation was cancelled because it was garbage-collected unread.'))
})

/**
 * A generation in progress. Iterate it for chunks as they arrive, await `result()` for the whole, or both. `await
 * generation` by itself waits for nothing: a generation is not thenable. An abort, a cancellation or a failure rejects
 * both.
 *
 * It starts at once. Unless someone awaits the result, it is never more than 256 chunks ahead of its reader: then it
 * pauses, its KV blocks may go to others that need them, and it resumes when it is read. Asking for the result, through
 * `result()` or a property such as `text`, lets it run to its end; unread text then arrives in fewer and longer chunks. A
 * generation that is neither read nor awaited is cancelled once it is garbage collected.
 */
export class Generation implements AsyncIterable<GenerationChunk> {
  readonly #run: GenerationRun

  static {
    guardMethods(Generation, (value) => #run in value, 'generation')
  }

  /** @internal */
  constructor(run: GenerationRun) {
    this.#run = run
    dropped.register(this, run, this)
  }

  /**
   * The complete result.
   * @throws BillfishError DISPOSED, NON_FINITE, INTERNAL; INVALID_OPTION if a long prompt turns out to leave no room;
   *   the reason of the signal or of cancel(), or an AbortError if the reader left the loop early
   */
  result(): Promise<GenerationResult> {
    dropped.unregister(this)
    this.#run.chunks.unbound()
    return this.#run.outcome
  }

  /** The generated text: `(await result()).text`, as are the other members of the result below. */
  get text(): Promise<string> {
    return this.#member('text')
  }
  get tokenIds(): Promise<readonly number[]> {
    return this.#member('tokenIds')
  }
  get finishReason(): Promise<FinishReason> {
    return this.#member('finishReason')
  }
  get stoppedBy(): Promise<string | number | undefined> {
    return this.#member('stoppedBy')
  }
  get logprobs(): Promise<readonly TokenLogprob[] | undefined> {
    return this.#member('logprobs')
  }
  get seed(): Promise<string> {
    return this.#member('seed')
  }
  get usage(): Promise<GenerationUsage> {
    return this.#member('usage')
  }
  get timings(): Promise<GenerationResult['timings']> {
    return this.#member('timings')
  }

  /**
   * Cancels the generation: reader and result are rejected with `reason`, by default an AbortError. No effect once it
   * has ended.
   */
  cancel(reason?: unknown): void {
    this.#run.cancel(reason === undefined ? abortError('The generation was cancelled.') : reason)
  }

  /**
   * Iterates over the chunks from the start. Only one reader is allowed; leaving the loop early cancels the generation.
   * @throws BillfishError INVALID_STATE for a second reader, even after the first has finished
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<GenerationChunk> {
    const { chunks } = this.#run
    chunks.claim()
    const leave = (reason: unknown) => {
      chunks.leave()
      this.#run.cancel(reason) // referencing `this` keeps the generation alive while it is read
    }
    return {
      next: () => chunks.next(),
      return: async (value) => {
        leave(abortError('The generation was cancelled because its reader left the loop early.'))
        return { value: await value, done: true }
      },
      throw: async (error) => {
        leave(error === undefined ? abortError('The generation was cancelled by its reader.') : error)
        throw error
      },
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }

  toString(): string {
    return '[Generation: await generation.text for its text]'
  }

  toJSON(): string {
    return '[Generation: await generation.result() for its result]'
  }

  /** For console.log(). @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `Generation ${inspect(this.#run.summary, options)}`
  }

  #member<Name extends keyof GenerationResult>(name: Name): Promise<GenerationResult[Name]> {
    const member = this.result().then((result) => result[name])
    member.catch(() => {}) // an unobserved property must not crash the process
    return member
  }
}
