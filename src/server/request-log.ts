/** One line a request, once it has been answered. */
import { randomUUID } from 'node:crypto'

/** Keeps a log: one of pino's loggers, or something like it. */
export interface RequestLogger {
  info(line: object, message: string): void
  error(line: object, message: string): void
}

export function isRequestLogger(value: unknown): value is RequestLogger {
  if (typeof value !== 'object' || value === null) return false
  const { info, error } = value as Partial<RequestLogger>
  return typeof info === 'function' && typeof error === 'function'
}

/** The id that the client gave a request, if it is fit for a log and a header, or a new one. */
export function requestId(headers: Headers): string {
  const given = headers.get('x-request-id')
  return given !== null && /^[\w.-]{1,128}$/.test(given) ? given : randomUUID()
}

/** Begins the line of a request; the function returned writes it. */
export function logRequest(logger: RequestLogger | undefined, request: { id: string; method: string; path: string }) {
  const started = performance.now()
  return (end: {
    readonly status: number
    readonly aborted: boolean
    readonly stalled: boolean
    readonly error?: unknown
  }) => {
    if (logger === undefined) return
    const milliseconds = Math.round(performance.now() - started)
    const { error, status, aborted, stalled } = end
    const line = {
      ...request,
      status,
      milliseconds,
      ...(aborted && { aborted }),
      ...(stalled && { stalled }),
      ...(error !== undefined && { err: error }),
    }
    if (status >= 500) logger.error(line, 'request failed')
    else logger.info(line, 'request')
  }
}
