/** The stable codes a {@link BillfishError} may carry. An abort has none: it rejects with the signal's own reason. */
export type ErrorCode =
  | 'INVALID_CHECKPOINT'
  | 'UNSUPPORTED_MODEL'
  | 'INVALID_OPTION'
  /** A call that does not fit what came before it: a second reader of one generation. */
  | 'INVALID_STATE'
  /** The model computed a NaN or an infinity; the message names the module where it appeared first. */
  | 'NON_FINITE'
  | 'DEVICE_NOT_FOUND'
  | 'OUT_OF_MEMORY'
  /** A device has failed for good: nothing can be computed there before the process is restarted. */
  | 'DEVICE_LOST'
  | 'DISPOSED'
  | 'ADDON_NOT_FOUND'
  | 'INTERNAL'

/**
 * The one error class of billfish. `code` is stable and meant for programs; `message` names the file, tensor or option,
 * the numbers, and the way out.
 */
export class BillfishError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BillfishError'
    this.code = code
  }
}

/** What a call is ended with that nobody gave a reason for ending: what `AbortController.abort()` would give. */
export function abortError(message: string): DOMException {
  return new DOMException(message, 'AbortError')
}
