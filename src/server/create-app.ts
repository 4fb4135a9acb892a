import type { Models } from '../named-models'
import { optionsOf, readOptions } from '../options/read-options'
import { onAbort } from '../options/signal'
import { abortSignal } from '../options/values'
import { createApp as honoApp } from './app'
import { type RequestOptions, readSettings, requestOptions } from './options'

/** Options of {@link createApp}. */
export interface AppOptions extends RequestOptions {
  /** Once it aborts, running requests end with an error, and others are refused with 503. */
  readonly signal?: AbortSignal | undefined
}

/** The endpoints of a server without the server, for programs that have one. */
export interface App {
  /**
   * Answers a request. Never rejects: errors are responses, too. A request whose signal aborts, and a streamed answer whose
   * body is cancelled, end their generations.
   */
  readonly fetch: (request: Request) => Promise<Response>
}

const appOptions = optionsOf<AppOptions>('createApp()', { ...requestOptions, signal: abortSignal() })

/**
 * The endpoints of `billfish serve` as a fetch handler, for a server of one's own: Hono's `mount()`, `serve()` of
 * @hono/node-server, `Bun.serve()`, a route handler of Next.js.
 * @example
 * ```js
 * const app = new Hono()
 * app.mount('/llm', createApp(model, { apiKeys: [process.env.KEY] }).fetch) // POST /llm/v1/chat/completions
 * ```
 * @throws BillfishError INVALID_OPTION
 */
export function createApp(models: Models, options: AppOptions = {}): App {
  const own = readOptions(appOptions, options)
  const stopped = own.signal ?? new AbortController().signal
  const settings = readSettings(models, own)
  onAbort(stopped, () => settings.metrics.close())
  const app = honoApp({ ...settings, stopped, isDraining: () => stopped.aborted })
  return { fetch: async (request) => app.fetch(request) }
}
