/** Errors and streams as Anthropic's clients read them. */
import type { StreamFormat } from '../event-stream'
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

/** Every event has its type before it, too: clients pass over those without. */
export const anthropicStream: StreamFormat = {
  event: (event) => `event: ${(event as { readonly type: string }).type}\ndata: ${JSON.stringify(event)}`,
  error: (error) => `event: error\ndata: ${JSON.stringify(anthropicError(error))}`,
  ping: 'event: ping\ndata: {"type":"ping"}',
}
