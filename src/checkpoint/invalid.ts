import { BillfishError } from '../errors'

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

/** Formats a value for an error message: an excerpt of its JSON, or of its string form if it is not JSON. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number') return String(value) // NaN and the infinities are null in JSON
  const text = jsonOf(value) ?? textOf(value)
  return text.length > 120 ? `${text.slice(0, 120)}...` : text
}

/** String(value) may throw: a config may come from a program. */
function textOf(value: unknown): string {
  try {
    return String(value)
  } catch {
    return `a value of type ${typeof value}`
  }
}

/** Undefined for functions and symbols, and for values that contain a bigint or a cycle. */
function jsonOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
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
