/** The stable codes a {@link BillfishError} may carry. */
export type ErrorCode =
  | 'INVALID_CHECKPOINT'
  | 'UNSUPPORTED_MODEL'
  | 'INVALID_OPTION'
  | 'DEVICE_NOT_FOUND'
  | 'OUT_OF_MEMORY'
  | 'ABORTED'
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
