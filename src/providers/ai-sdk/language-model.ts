import { randomUUID } from 'node:crypto'
import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamPart,
  LanguageModelV3StreamResult,
  SharedV3Warning,
} from '@ai-sdk/provider'
import type { Generation } from '../../generation/generation'
import type { Model } from '../../model'
import { readCall } from './call'
import { answerEnd, failedEnd } from './end'

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
    const result = await this.#model.generate(messages, options).result()
    return {
      content: result.text === '' ? [] : [{ type: 'text', text: result.text }],
      ...answerEnd(result),
      warnings,
      response: this.#response(),
    }
  }

  async doStream(call: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const { messages, options, warnings } = readCall(call)
    const generation = this.#model.generate(messages, options)
    const parts = this.#parts(generation, warnings, call.abortSignal)
    return { stream: streamOf(parts, (reason) => generation.cancel(reason)) }
  }

  async *#parts(
    generation: Generation,
    warnings: SharedV3Warning[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<LanguageModelV3StreamPart, void> {
    yield { type: 'stream-start', warnings }
    yield { type: 'response-metadata', ...this.#response() }
    const id = 'text'
    let isOpen = false
    try {
      for await (const { text } of generation) {
        if (text === '') continue
        if (!isOpen) yield { type: 'text-start', id }
        isOpen = true
        yield { type: 'text-delta', id, delta: text }
      }
      if (isOpen) yield { type: 'text-end', id }
      yield { type: 'finish', ...answerEnd(await generation.result()) }
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
