import { invalidCheckpoint } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import type { Tokenizer } from './types'

/**
 * Maximum UTF-8 bytes of a text that is encoded on the event loop. It takes 2 ms for prose and 6 ms for dense tokens
 * such as base64 or digits. Bytes are a better measure than characters: a Chinese character costs three times an
 * English one.
 */
export const MAX_SYNCHRONOUS_BYTES = 4096

/** Maximum UTF-8 bytes of any text: about a million tokens. */
export const MAX_TEXT_BYTES = 1 << 22

/** A text to encode off the event loop, with its options. */
export interface LongText {
  readonly text: string
  readonly addSpecialTokens: boolean
}

/** Whether encoding `text` would block the event loop for too long. */
export function isLong(text: string): boolean {
  return text.length > MAX_SYNCHRONOUS_BYTES || Buffer.byteLength(text) > MAX_SYNCHRONOUS_BYTES
}

/** The file of a tokenizer, and the limits of its texts. */
export type TextLimit = Pick<Tokenizer, 'file' | 'fileBytes' | 'growth' | 'maxTextBytes'>

/** No pipeline in use expands text by this factor. */
const LARGE_GROWTH = 16

/** @throws BillfishError INVALID_OPTION if a text is too long; INVALID_CHECKPOINT if the tokenizer causes that */
export function checkLength(text: string, limit: TextLimit): void {
  if (limit.maxTextBytes === 0) throw tooMuchGrowth(limit)
  const bytes = Buffer.byteLength(text)
  if (bytes <= limit.maxTextBytes) return
  const message = `The text has ${bytes} bytes, but at most ${limit.maxTextBytes} can be encoded at once`
  throw limit.growth > LARGE_GROWTH
    ? invalidCheckpoint(`${message} because ${growing(limit)}`)
    : new BillfishError('INVALID_OPTION', `${message}. Shorten it.`)
}

/** Error for every text if the tokenizer file could expand any of them excessively. */
export function tooMuchGrowth(limit: TextLimit): BillfishError {
  return invalidCheckpoint(`No text can be encoded because ${growing(limit)}; compare it with the released checkpoint`)
}

function growing({ file, growth }: TextLimit): string {
  return `${file} may expand a text ${growth < 1e6 ? Math.ceil(growth) : growth.toExponential(0)} times`
}
