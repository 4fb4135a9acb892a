/**
 * The stable codes of {@link BillfishError}s. An abort has none: it rejects with the signal's own reason.
 *
 * - `INVALID_CHECKPOINT`: a file is missing, malformed, or contradicts another.
 * - `UNSUPPORTED_MODEL`: the checkpoint is well-formed, but billfish cannot run its architecture or format.
 * - `INVALID_OPTION`: an argument, option or environment variable is invalid.
 * - `INVALID_STATE`: a call does not fit what came before it, such as a second reader of one generation.
 * - `NON_FINITE`: the model computed a NaN or an infinity; the message names the first module.
 * - `DEVICE_NOT_FOUND`: a named device does not exist or cannot be used.
 * - `OUT_OF_MEMORY`: a plan exceeds its budgets, or a device or disk has no room.
 * - `DEVICE_LOST`: a device failed for good; nothing can be computed there until the process is restarted.
 * - `DOWNLOAD_FAILED`: the Hub cannot be reached, does not give a model, or sends something else; or, offline, files are
 *   missing from its cache.
 * - `DISPOSED`: the model or tokenizer has been disposed.
 * - `ADDON_NOT_FOUND`: there is no native addon, or none that loads.
 * - `INTERNAL`: a bug in billfish.
 */
export type ErrorCode =
  | 'INVALID_CHECKPOINT'
  | 'UNSUPPORTED_MODEL'
  | 'INVALID_OPTION'
  | 'INVALID_STATE'
  | 'NON_FINITE'
  | 'DEVICE_NOT_FOUND'
  | 'OUT_OF_MEMORY'
  | 'DEVICE_LOST'
  | 'DOWNLOAD_FAILED'
  | 'DISPOSED'
  | 'ADDON_NOT_FOUND'
  | 'INTERNAL'

/**
 * billfish's only error class. `code` is stable and meant for programs; `message` names the file, tensor or option, the
 * numbers, and the way out.
 */
export class BillfishError extends Error {
  /** What kind of error this is. */
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BillfishError'
    this.code = code
  }
}

/** The reason for aborts without one, as from `AbortController.abort()`. */
export function abortError(message: string): DOMException {
  return new DOMException(message, 'AbortError')
}

/** Converts native errors, which carry a `code`, to BillfishError. */
export function asBillfishError(error: unknown): unknown {
  if (error instanceof BillfishError || !(error instanceof Error)) return error
  if (!('code' in error) || typeof error.code !== 'string') return error
  return new BillfishError(error.code as BillfishError['code'], error.message, { cause: error })
}
