/** Server-sent events. */
import { asRequestError } from './request-error'

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no', // nginx would collect them
}

/**
 * Sends objects as events, and then `[DONE]`. The next one is asked for once the connection takes more, so a slow reader
 * slows down what makes them; one that leaves ends it. What fails after the first one becomes an event, too.
 * @throws what fails before the first one, so that it can still be a status
 */
export async function eventStream(events: AsyncIterator<object, void>): Promise<Response> {
  let next = await events.next()
  const encoder = new TextEncoder()
  const send = (controller: ReadableStreamDefaultController<Uint8Array>, data: string) =>
    controller.enqueue(encoder.encode(`data: ${data}\n\n`))
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        if (!next.done) {
          send(controller, JSON.stringify(next.value))
          next = await events.next()
          return
        }
      } catch (error) {
        send(controller, JSON.stringify(asRequestError(error).body))
      }
      send(controller, '[DONE]')
      controller.close()
    },
    async cancel() {
      await events.return?.()
    },
  })
  return new Response(body, { headers: HEADERS })
}

/** What all of them yield, as it comes. Ends all of them if its reader leaves, or if one of them fails. */
export async function* merged<T>(sources: readonly AsyncIterator<T, void>[]): AsyncGenerator<T, void> {
  const step = async (source: AsyncIterator<T, void>) => ({ source, result: await source.next() })
  const pending = new Map(sources.map((source) => [source, step(source)]))
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values())
      if (result.done) {
        pending.delete(source)
        continue
      }
      pending.set(source, step(source))
      yield result.value
    }
  } finally {
    for (const [source, promise] of pending) {
      promise.catch(() => {}) // it ends with the others
      source.return?.().catch(() => {})
    }
  }
}
