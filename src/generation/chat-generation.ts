import { type InspectOptions, inspect } from 'node:util'
import type { Answer, AnswerEvent } from '../chat/answer-events'
import { guardMethods } from '../options/method-guard'
import type { ChatFinishReason, ChatReader } from './chat-reader'
import type { Generation } from './generation'
import type { GenerationResult, GenerationUsage, TokenLogprob } from './results'

/** A part of an answer, as it is generated. */
export type ChatEvent =
  | AnswerEvent
  /** One entry per token, in front of the parts that these tokens make certain; if `logprobs` was asked for. */
  | { readonly type: 'logprobs'; readonly logprobs: readonly TokenLogprob[] }

/** Token counts of an answer. */
export interface ChatUsage extends GenerationUsage {
  /** Those of the completion's tokens that are reasoning. */
  readonly reasoningTokens: number
}

/** A whole answer. Plain data that survives JSON.stringify() and JSON.parse() unchanged. */
export interface ChatResult extends Answer, Omit<GenerationResult, 'finishReason' | 'usage'> {
  /** All of the answer as the model wrote it, tags included. */
  readonly text: string
  /** `tool_calls` if the model waits for the results of its calls; `length` and a stop string win over it. */
  readonly finishReason: ChatFinishReason
  readonly usage: ChatUsage
}

/**
 * An answer in progress. Iterate it for its parts as they arrive, await `result()` for the whole, or both. Like a
 * {@link Generation}, it starts at once, pauses while it is not read, unless someone awaits its result, and is cancelled
 * by leaving the loop.
 */
export class ChatGeneration implements AsyncIterable<ChatEvent> {
  readonly #generation: Pick<Generation, 'result' | 'cancel' | typeof Symbol.asyncIterator>
  readonly #reader: Pick<ChatReader, 'answer' | 'reasoningTokens' | 'finishReason'>

  static {
    guardMethods(ChatGeneration, (value) => #generation in value, 'chat generation')
  }

  /** @internal */
  constructor(
    generation: Pick<Generation, 'result' | 'cancel' | typeof Symbol.asyncIterator>,
    reader: Pick<ChatReader, 'answer' | 'reasoningTokens' | 'finishReason'>,
  ) {
    this.#generation = generation
    this.#reader = reader
  }

  /**
   * The complete answer.
   * @throws as {@link Generation.result} does
   */
  async result(): Promise<ChatResult> {
    const { finishReason, usage, ...rest } = await this.#generation.result()
    const { answer, reasoningTokens } = this.#reader
    return {
      ...answer,
      ...rest,
      finishReason: this.#reader.finishReason(finishReason),
      usage: { ...usage, reasoningTokens },
    }
  }

  /**
   * Cancels the generation: reader and result are rejected with `reason`, by default an AbortError. No effect once it
   * has ended.
   */
  cancel(reason?: unknown): void {
    this.#generation.cancel(reason)
  }

  /**
   * Iterates over the parts from the start. Only one reader is allowed; leaving the loop early cancels the generation.
   * @throws BillfishError INVALID_STATE for a second reader, even after the first has finished
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent, void> {
    for await (const { events = [], logprobs } of this.#generation) {
      if (logprobs !== undefined) yield { type: 'logprobs', logprobs }
      yield* events
    }
  }

  toString(): string {
    return '[ChatGeneration: await chat.result() for its answer]'
  }

  toJSON(): string {
    return '[ChatGeneration: await chat.result() for its answer]'
  }

  /** For console.log(). @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `Chat${inspect(this.#generation, options)}`
  }
}
