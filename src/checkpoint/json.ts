import { invalidCheckpoint, quoted } from './invalid'

/** What a JSON text may hold at most; checked before anything is built from it. */
export interface JsonLimits {
  /** Nested arrays and objects. */
  readonly maxDepth: number
  /** Objects, arrays and their members together. */
  readonly maxValues: number
}

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** The index of the quote that ends the string whose first character is at `start`. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end
  }
  return -1
}

function keyOf(raw: string): string {
  return raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw
}

/**
 * Reads through the text without building anything: too deep nesting, too many values and repeated keys are refused.
 * For text that is not JSON it may stop anywhere; JSON.parse then says what is wrong.
 */
function checkStructure(text: string, what: string, limits: JsonLimits): void {
  const open: (Set<string> | undefined)[] = [] // the keys seen of every open object; undefined for an open array
  let keyExpected = false
  let values = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE: {
        const end = endOfString(text, at + 1)
        if (end < 0) return
        const keys = open.at(-1)
        if (keyExpected && keys !== undefined) {
          const key = keyOf(text.slice(at + 1, end))
          if (keys.has(key)) {
            throw invalidCheckpoint(`${what} names ${quoted(key)} twice; which one is meant cannot be known`)
          }
          keys.add(key)
        }
        at = end
        break
      }
      case OPEN_BRACE:
      case OPEN_BRACKET: {
        const isObject = text.charCodeAt(at) === OPEN_BRACE
        open.push(isObject ? new Set() : undefined)
        keyExpected = isObject
        values++
        if (open.length > limits.maxDepth) {
          throw invalidCheckpoint(
            `${what} nests arrays and objects deeper than ${limits.maxDepth}; it is not a valid file`,
          )
        }
        break
      }
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        open.pop()
        keyExpected = false
        break
      case COMMA:
        keyExpected = open.at(-1) !== undefined
        values++
        break
      case COLON:
        keyExpected = false
        break
    }
    if (values > limits.maxValues) {
      throw invalidCheckpoint(`${what} holds more than ${limits.maxValues} values; it is not a valid file`)
    }
  }
}

/**
 * JSON.parse for text from a checkpoint, which may be hostile: bounded in depth and in the number of values, and without
 * JSON.parse's silence about repeated keys (it takes the last).
 *
 * @param what - the text's name for messages, such as a path
 * @throws BillfishError INVALID_CHECKPOINT
 */
export function parseJson(text: string, what: string, limits: JsonLimits): unknown {
  try {
    checkStructure(text, what, limits)
    return JSON.parse(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw invalidCheckpoint(`${what} is not valid JSON (${error.message}); download it again`, error)
  }
}

/** Decodes UTF-8 strictly. @throws BillfishError INVALID_CHECKPOINT */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw invalidCheckpoint(`${what} is not valid UTF-8; download it again`, error)
  }
}

/** A JSON object, as opposed to null, an array or a plain value. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
