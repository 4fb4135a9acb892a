/** Server-sent events. */
import { asRequestError, type RequestError } from './request-error'

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no', // nginx would collect them
}

/** Silence, in milliseconds, after which a ping tells client and proxies that the connection lives. */
const PING_AFTER = 10_000

/** How an API writes the events of a stream, without the empty line behind each. */
export interface StreamFormat {
  readonly event: (event: object) => string
  readonly error: (error: RequestError) => string
  /** What fills silence. */
  readonly ping: string
  /** What is sent last, if anything. */
  readonly end?: string
}

/** An event with its type on a line before it: some clients pass over those without. */
export function typedEvent(event: object): string {
  return `event: ${(event as { readonly type: string }).type}\ndata: ${JSON.stringify(event)}`
}

const openAiStream: StreamFormat = {
  event: (event) => `data: ${JSON.stringify(event)}`,
  error: (error) => `data: ${JSON.stringify(error.body)}`,
  ping: ': ping',
  end: 'data: [DONE]',
}

const ends = new WeakMap<Response, Promise<void>>()

/** Resolves once a response has been sent, or its reader has left; at once for one that is no stream. */
export function endOf(response: Response): Promise<void> {
  return ends.get(response) ?? Promise.resolve()
}

/**
 * Sends objects as events, as OpenAI does unless the format is another. The next one is asked for once the connection
 * takes more, so a slow reader slows down what makes them; one that leaves ends it. What fails after the first one, or
 * after the first ping, becomes an event, too.
 * @param pingAfter see {@link PING_AFTER}
 * @throws what fails before that, so that it can still be a status
 */
export async function eventStream(
  events: AsyncIterator<object, void>,
  format: StreamFormat = openAiStream,
  pingAfter: number = PING_AFTER,
): Promise<Response> {
  let next = events.next()
  await settledWithin(next, pingAfter)
  const encoder = new TextEncoder()
  let isAwaited = false
  let pings: NodeJS.Timeout | undefined
  let end = () => {}
  const ended = new Promise<void>((resolve) => {
    end = () => {
      clearTimeout(pings)
      resolve()
    }
  })
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // One timer for all events: it is put off by each, and rests while nobody reads.
      pings = setTimeout(() => {
        if (!isAwaited) return
        controller.enqueue(encoder.encode(`${format.ping}\n\n`))
        pings?.refresh()
      }, pingAfter)
    },
    async pull(controller) {
      const send = (text: string) => controller.enqueue(encoder.encode(`${text}\n\n`))
      isAwaited = true
      pings?.refresh()
      try {
        const arrived = await next
        isAwaited = false
        if (!arrived.done) {
          next = events.next()
          next.catch(() => {}) // reported once it is this one's turn
          return send(format.event(arrived.value))
        }
      } catch (error) {
        send(format.error(asRequestError(error)))
      }
      if (format.end !== undefined) send(format.end)
      controller.close()
      end()
    },
    async cancel() {
      isAwaited = false
      end()
      await events.return?.()
    },
  })
  const response = new Response(body, { headers: HEADERS })
  ends.set(response, ended)
  return response
}

/** Waits for a promise, but not for longer. @throws what it rejects with until then */
async function settledWithin(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds)
  })
  try {
    await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What all of them yield, as it comes. Ends all of them if its reader leaves, or if one of them fails. */
export async function* merged<T>(sources: readonly AsyncIterator<T, void>[]): AsyncGenerator<T, void> {
  const arrived: { readonly source: AsyncIterator<T, void>; readonly take: () => IteratorResult<T, void> }[] = []
  let wake = () => {}
  const ask = (source: AsyncIterator<T, void>) => {
    const arrive = (take: () => IteratorResult<T, void>) => {
      arrived.push({ source, take })
      wake()
    }
    source.next().then(
      (result) => arrive(() => result),
      (error) =>
        arrive(() => {
          throw error
        }),
    )
  }
  for (const source of sources) ask(source)
  try {
    for (let running = sources.length; running > 0; ) {
      const next = arrived.shift()
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
        continue
      }
      const result = next.take()
      if (result.done) {
        running--
        continue
      }
      ask(next.source)
      yield result.value
    }
  } finally {
    for (const source of sources) source.return?.().catch(() => {})
  }
}
