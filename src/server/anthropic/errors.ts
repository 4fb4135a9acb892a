/** Errors and streams as Anthropic's clients read them. */
import { type StreamFormat, typedEvent } from '../event-stream'
import type { RequestError } from '../request-error'

const KINDS: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

export function anthropicError({ status, message }: RequestError) {
  return { type: 'error', error: { type: KINDS[status] ?? 'api_error', message } }
}

export const anthropicStream: StreamFormat = {
  event: typedEvent,
  error: (error) => typedEvent(anthropicError(error)),
  ping: typedEvent({ type: 'ping' }),
}
