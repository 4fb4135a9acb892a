import { BillfishError } from '../errors'

/** The error for everything that is wrong with a checkpoint; `message` names file, tensor, numbers and the way out. */
export function invalidCheckpoint(message: string, cause?: unknown): BillfishError {
  return new BillfishError('INVALID_CHECKPOINT', message, cause === undefined ? undefined : { cause })
}

/**
 * A string from a checkpoint as it may stand in a message: quoted, without control characters, and not endlessly long.
 */
export function quoted(text: string): string {
  const shown = text.length > 200 ? `${text.slice(0, 200)}...` : text
  return JSON.stringify(shown)
}

/** What a library or a checkpoint's own code says, as it may stand in a message: it may quote names of any length. */
export function bounded(message: string): string {
  return message.length > 2000 ? `${message.slice(0, 2000)}...` : message
}

/** A value as it may stand in a message: a short excerpt of its JSON, or of its text where it is no JSON. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number') return String(value) // NaN and the infinities are null in JSON
  const text = jsonOf(value) ?? textOf(value)
  return text.length > 120 ? `${text.slice(0, 120)}...` : text
}

/** Not everything can be made a string: a config may come from a program. */
function textOf(value: unknown): string {
  try {
    return String(value)
  } catch {
    return `a value of type ${typeof value}`
  }
}

/** Undefined for a function or symbol, and for what is or has a bigint or itself in it. */
function jsonOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}
