import { randomUUID } from 'node:crypto'
import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamPart,
  LanguageModelV3StreamResult,
  SharedV3Warning,
} from '@ai-sdk/provider'
import type { ChatGeneration } from '../../generation/chat-generation'
import type { Model } from '../../model'
import { answerEnd, contentOf, failedEnd } from './answer'
import { readCall } from './call'
import { StreamParts } from './stream-parts'

/** A model as the AI SDK calls it. An abort rejects, or ends a stream, with the signal's reason, as of fetch(). */
export class BillfishLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = 'v3'
  readonly provider = 'billfish'
  /** The AI SDK downloads what URLs refer to. */
  readonly supportedUrls = {}
  readonly #model: Model

  constructor(
    readonly modelId: string,
    model: Model,
  ) {
    this.#model = model
  }

  async doGenerate(call: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    const { messages, options, warnings } = readCall(call)
    const chat = this.#model.chat(messages, options)
    const complete = new Set<number>()
    for await (const event of chat) if (event.type === 'toolCallEnd') complete.add(event.index)
    const result = await chat.result()
    return { content: contentOf(result, complete), ...answerEnd(result), warnings, response: this.#response() }
  }

  async doStream(call: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const { messages, options, warnings } = readCall(call)
    const chat = this.#model.chat(messages, options)
    const parts = this.#parts(chat, warnings, call.abortSignal)
    return { stream: streamOf(parts, (reason) => chat.cancel(reason)) }
  }

  async *#parts(
    chat: ChatGeneration,
    warnings: SharedV3Warning[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<LanguageModelV3StreamPart, void> {
    yield { type: 'stream-start', warnings }
    yield { type: 'response-metadata', ...this.#response() }
    const parts = new StreamParts()
    try {
      for await (const event of chat) yield* parts.of(event)
      yield* parts.end()
      yield { type: 'finish', ...answerEnd(await chat.result()) }
    } catch (error) {
      if (signal?.aborted) throw error
      yield { type: 'error', error }
      yield { type: 'finish', ...failedEnd() }
    }
  }

  #response() {
    return { id: randomUUID(), timestamp: new Date(), modelId: this.modelId }
  }
}

/** A part is made when it is asked for. */
function streamOf<Part>(parts: AsyncIterator<Part, void>, cancel: (reason: unknown) => void): ReadableStream<Part> {
  return new ReadableStream<Part>(
    {
      async pull(controller) {
        const next = await parts.next()
        if (next.done) controller.close()
        else controller.enqueue(next.value)
      },
      cancel,
    },
    { highWaterMark: 0 },
  )
}
