import { BillfishError } from '../common/errors'
import { printed } from '../options/printed'

/** Error for an invalid checkpoint; `message` names file, tensor, numbers and the way out. */
export function invalidCheckpoint(message: string, cause?: unknown): BillfishError {
  return new BillfishError('INVALID_CHECKPOINT', message, cause === undefined ? undefined : { cause })
}

/** Quotes a string from a checkpoint for an error message: escaped and truncated. */
export function quoted(text: string): string {
  const shown = text.length > 200 ? `${text.slice(0, 200)}...` : text
  return JSON.stringify(shown)
}

/** Truncates a message from a library or from checkpoint code, which may quote names of any length. */
export function truncate(message: string): string {
  return message.length > 2000 ? `${message.slice(0, 2000)}...` : message
}

/** Formats a value for an error message, as a short excerpt. Never throws. */
export function shown(value: unknown): string {
  return value === undefined ? 'nothing' : printed(value)
}

const ADVICE =
  'Use a GPTQ, AWQ or compressed-tensors pack-quantized (W4A16, W8A16) version of the model, or the 16-bit one'

/** @param subject what is stored in the format, or where it is declared; continued by `in a format ...` */
export function unsupportedFormat(subject: string, format: string): BillfishError {
  return new BillfishError(
    'UNSUPPORTED_MODEL',
    `${subject} in a format that billfish cannot run: ${format}. ${ADVICE}.`,
  )
}
