import { setMaxListeners } from 'node:events'
import { onAbort } from '../options/signal'
import { RequestError } from './request-error'

/** The signal of one request, and what lets go of the signals behind it. */
export interface RequestSignal {
  readonly signal: AbortSignal
  release(): void
}

/**
 * Aborts when the client leaves, when the server stops, or when the time is up, for the reason of the first. Unlike
 * AbortSignal.any(), it can be let go of: the server's signal outlives every request.
 * @param timeout in milliseconds; 0 for none
 */
export function requestSignal(client: AbortSignal, stopped: AbortSignal, timeout: number): RequestSignal {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal, stopped) // one for each generation, and for each request
  const abort = (reason: unknown) => controller.abort(reason)
  const listening = [client, stopped].map((signal) => onAbort(signal, () => abort(signal.reason)))
  const late = () => {
    const message = `The request took longer than the ${timeout / 1000} seconds that this server allows.`
    abort(new RequestError(504, 'server_error', message, { code: 'timeout', headers: { 'x-should-retry': 'false' } }))
  }
  const timer = timeout > 0 ? setTimeout(late, timeout) : undefined
  for (const signal of [client, stopped]) if (signal.aborted) abort(signal.reason)
  return {
    signal: controller.signal,
    release() {
      clearTimeout(timer)
      for (const stop of listening) stop()
    },
  }
}
