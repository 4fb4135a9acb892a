import { type InspectOptions, inspect } from 'node:util'
import { abortError } from '../errors'
import { guardMethods } from '../options/method-guard'
import type { GenerationRun } from './generation-run'
import type { FinishReason, GenerationChunk, GenerationResult, GenerationUsage, TokenLogprob } from './results'

/** Cancels generations that nobody holds any more: one that is paused would wait for its reader for ever. */
const dropped = new FinalizationRegistry<GenerationRun>((run) => {
  run.cancel(abortError('The generation was cancelled, since nobody held it any more.'))
})

/**
 * A generation under way. Iterate it for chunks as they come, await `result()` for the whole, or both; `await generation`
 * by itself waits for nothing. An abort, a cancellation or a failure rejects either.
 *
 * It begins at once. While nobody awaits the result, it never is more than {@link MAX_WAITING_CHUNKS} chunks ahead of its
 * reader: then it pauses, gives its part of the KV cache to others that need it, and goes on when it is read. Asking for
 * the result, through `result()` or a property such as `text`, lets it run to its end; what a reader has not read by then
 * comes in fewer and longer chunks. One that is neither read nor awaited, and that nobody holds any more, is cancelled.
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
   * The whole generation, once it has ended.
   * @throws BillfishError DISPOSED, NON_FINITE, INTERNAL; INVALID_OPTION if a long prompt turns out to leave no room; the
   *   signal's or cancel()'s reason, or an AbortError if its reader left the loop early
   */
  result(): Promise<GenerationResult> {
    dropped.unregister(this)
    this.#run.chunks.unbound()
    return this.#run.outcome
  }

  /** The members of the result, each as a promise: `await generation.text`. */
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
   * Ends the generation early: reader and result are rejected with `reason`, by default an AbortError. Without effect
   * once it has ended.
   */
  cancel(reason?: unknown): void {
    this.#run.cancel(reason === undefined ? abortError('The generation was cancelled.') : reason)
  }

  /**
   * The chunks from the beginning, for one reader. Leaving the loop early cancels the generation.
   * @throws BillfishError INVALID_STATE for a second reader, also once the first one is through
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<GenerationChunk> {
    const { chunks } = this.#run
    chunks.take()
    const leave = (reason: unknown) => {
      chunks.leave()
      this.#run.cancel(reason) // `this`: as long as it is being read, the generation is held
    }
    return {
      next: () => chunks.next(),
      return: async (value) => {
        leave(abortError('The generation was cancelled, since its reader left early.'))
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
    return '[Generation: await generation.result() for what it came to]'
  }

  /** What console.log() shows. @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `Generation ${inspect(this.#run.summary, options)}`
  }

  #member<Name extends keyof GenerationResult>(name: Name): Promise<GenerationResult[Name]> {
    const member = this.result().then((result) => result[name])
    member.catch(() => {}) // one that was only looked at must not end the process
    return member
  }
}
