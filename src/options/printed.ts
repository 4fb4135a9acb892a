import { BillfishError } from '../common/errors'

const MAX_LENGTH = 100
const MAX_MEMBERS = 20
const MAX_DEPTH = 3

/** The error for an invalid value: `topP is 2, but must be a number from 0 to 1.` */
export function invalidOption(name: string, value: unknown, wanted: string): BillfishError {
  return new BillfishError('INVALID_OPTION', `${name} is ${printed(value)}, but must be ${wanted}.`)
}

/** Formats any value from a caller for a message, as a short excerpt. Never throws. */
export function printed(value: unknown): string {
  try {
    const text = textOf(value)
    return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}...` : text
  } catch {
    return `${typeof value === 'function' ? 'a function' : 'an object'} that cannot be read`
  }
}

function textOf(value: unknown): string {
  switch (typeof value) {
    case 'bigint':
      return `${value}n`
    case 'symbol':
      return 'a symbol'
    case 'function':
      return 'a function'
    case 'string':
      return JSON.stringify(value.slice(0, MAX_LENGTH + 1))
    case 'object':
      return value === null ? 'null' : textOfObject(value)
    default:
      return String(value)
  }
}

function textOfObject(value: object): string {
  const name = Array.isArray(value) ? 'Array' : Object.getPrototypeOf(value)?.constructor?.name
  if (name !== undefined && name !== 'Array' && name !== 'Object') return `an object of class ${String(name)}`
  return JSON.stringify(excerpt(value, 0))
}

/** The first members of a value that may be huge. */
function excerpt(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return value.slice(0, MAX_LENGTH + 1)
  if (typeof value !== 'object' || value === null) return typeof value === 'bigint' ? `${value}n` : value
  if (depth === MAX_DEPTH) return '...'
  if (Array.isArray(value)) return value.slice(0, MAX_MEMBERS).map((member) => excerpt(member, depth + 1))
  const members: [string, unknown][] = []
  for (const name in value) {
    if (members.length === MAX_MEMBERS) break
    members.push([name, excerpt((value as Record<string, unknown>)[name], depth + 1)])
  }
  return Object.fromEntries(members)
}

/** The message of a thrown value. Never throws. */
export function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.message) : printed(error)
  } catch {
    return 'an error that cannot be read'
  }
}
