import type { z } from 'zod'
import type { StreamFormat } from './event-stream'
import type { ServedModels } from './served-models'

/** A request as endpoints see it. */
export interface Call {
  readonly models: ServedModels
  /** The parsed body of a POST. */
  readonly body: unknown
  /** A part of the path that the pattern names, decoded. */
  param(name: string): string
  /** What separates the prefixes of this request from others in the cache, from its field `cache_salt`. */
  cacheSalt(given: string | undefined): string | undefined
  /** Aborts when the client leaves, takes too long, or the server stops. */
  readonly signal: AbortSignal
  /** Sends objects as events; in OpenAI's format by default. */
  stream(events: AsyncIterator<object, void>, format?: StreamFormat): Promise<Response>
}

/** Where an endpoint is, and what answers there. */
export interface Endpoint {
  readonly method: 'GET' | 'POST'
  /** As Hono's patterns. */
  readonly path: string
  /** What it is for, in a few words. */
  readonly summary: string
  /** What the body of a POST may be. */
  readonly fields?: z.ZodType
  /** @throws RequestError, and what the model throws */
  readonly handle: (call: Call) => Response | Promise<Response>
}
