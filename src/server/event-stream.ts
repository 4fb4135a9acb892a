/** Server-sent events. */
import { asRequestError, type RequestError } from './request-error'

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no', // nginx would collect them
}

export interface StreamLimits {
  /** Silence, in milliseconds, after which a ping tells client and proxies that the connection lives. Default 10 s. */
  readonly pingAfter?: number
  /**
   * Milliseconds for which a client may read nothing, give or take a ping's, before the stream breaks off and what makes
   * the events ends; 0 for any time. Default 60 s.
   */
  readonly stallTimeout?: number
}

const PING_AFTER = 10_000
export const STALL_TIMEOUT = 60_000

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

/** How a response ended: its reader may have stopped reading without leaving. */
export interface StreamEnd {
  readonly stalled: boolean
}

const ends = new WeakMap<Response, Promise<StreamEnd>>()

/** Resolves once a response has been sent, or has no reader any more; at once for one that is no stream. */
export function endOf(response: Response): Promise<StreamEnd> {
  return ends.get(response) ?? Promise.resolve({ stalled: false })
}

/**
 * Sends objects as events, as OpenAI does unless the format is another. The next one is asked for once the connection
 * takes more, so a slow reader slows down what makes them; one that leaves ends it. What fails after the first one, or
 * after the first ping, becomes an event, too.
 * @throws what fails before that, so that it can still be a status
 */
export async function eventStream(
  events: AsyncIterator<object, void>,
  format: StreamFormat = openAiStream,
  { pingAfter = PING_AFTER, stallTimeout = STALL_TIMEOUT }: StreamLimits = {},
): Promise<Response> {
  let next = events.next()
  await settledWithin(next, pingAfter)
  const encoder = new TextEncoder()
  const interval = stallTimeout > 0 ? Math.min(pingAfter, stallTimeout) : pingAfter
  let isAwaited = false
  let unread = 0 // milliseconds
  let timer: NodeJS.Timeout | undefined
  let end = (_: StreamEnd) => {}
  const ended = new Promise<StreamEnd>((resolve) => {
    end = (how) => {
      clearTimeout(timer)
      resolve(how)
    }
  })
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const stall = () => {
        controller.error(new Error(`The client has read nothing for ${unread / 1000} seconds.`))
        end({ stalled: true })
        events.return?.().catch(() => {})
      }
      // One timer for all events, which each of them puts off.
      timer = setTimeout(() => {
        if (isAwaited) controller.enqueue(encoder.encode(`${format.ping}\n\n`))
        else unread += interval
        if (stallTimeout > 0 && unread >= stallTimeout) stall()
        else timer?.refresh()
      }, interval)
    },
    async pull(controller) {
      const send = (text: string) => controller.enqueue(encoder.encode(`${text}\n\n`))
      isAwaited = true
      unread = 0
      timer?.refresh()
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
      end({ stalled: false })
    },
    async cancel() {
      end({ stalled: false })
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
