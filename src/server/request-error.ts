import { BillfishError } from '../common/errors'

/** A request that is not answered as asked, with what OpenAI's clients read of an error. */
export class RequestError extends Error {
  /**
   * @param status of the HTTP response
   * @param kind OpenAI's `type`, such as `invalid_request_error`
   */
  constructor(
    readonly status: 400 | 401 | 404 | 405 | 413 | 429 | 500 | 503 | 504,
    readonly kind: string,
    message: string,
    readonly details: {
      readonly param?: string
      readonly code?: string
      readonly headers?: Readonly<Record<string, string>>
    } = {},
  ) {
    super(message)
    this.name = 'RequestError'
  }

  /** The error object of a response or of an event in a stream. */
  get body() {
    const { param = null, code = null } = this.details
    return { error: { message: this.message, type: this.kind, param, code } }
  }
}

export function invalidRequest(message: string, param?: string): RequestError {
  return new RequestError(400, 'invalid_request_error', message, param === undefined ? {} : { param })
}

/** What options of `generate()` are called in requests; messages about them name these. */
const FIELDS: Readonly<Record<string, string>> = {
  maxNewTokens: 'max_tokens',
  minNewTokens: 'min_tokens',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  logitBias: 'logit_bias',
  stopTokenIds: 'stop_token_ids',
  toolFormat: '--tool-call-parser',
  structuredOutput: 'structured_outputs',
  maxModelLength: '--max-model-len',
}
const OPTION_NAMES = new RegExp(`\\b(${Object.keys(FIELDS).join('|')})\\b`, 'g')

/** Any error as one of a request. What is not the request's fault is a 500, or a 503 if the model is gone. */
export function asRequestError(error: unknown): RequestError {
  if (error instanceof RequestError) return error
  if (!(error instanceof BillfishError)) return new RequestError(500, 'server_error', 'The server failed.')
  const message = error.message.replaceAll(OPTION_NAMES, (name) => FIELDS[name] ?? name)
  switch (error.code) {
    case 'INVALID_OPTION':
    case 'UNSUPPORTED_MODEL':
      return invalidRequest(message)
    case 'DISPOSED':
    case 'DEVICE_LOST':
      return new RequestError(503, 'server_error', message)
    default:
      return new RequestError(500, 'server_error', message)
  }
}
