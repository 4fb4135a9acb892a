import { invalidCheckpoint } from '../checkpoint/invalid'
import { BillfishError } from '../errors'
import type { Tokenizer } from './types'

/**
 * Bytes of UTF-8 up to which a text is encoded on the event loop. So many take the tokenizers 2 to 6 milliseconds: two
 * for prose, six for the dense tokens of base64 or digits. Characters would be a worse measure, since one of Chinese
 * costs three times one of English.
 */
export const MAX_SYNCHRONOUS_BYTES = 4096

/** Bytes of UTF-8 of the longest text that is encoded: about a million tokens. */
export const MAX_TEXT_BYTES = 1 << 22

/** A text that must not be encoded on the event loop, and how to encode it. */
export interface LongText {
  readonly text: string
  readonly addSpecialTokens: boolean
}

/** Whether encoding `text` would hold the event loop for too long. */
export function isLong(text: string): boolean {
  return text.length > MAX_SYNCHRONOUS_BYTES || Buffer.byteLength(text) > MAX_SYNCHRONOUS_BYTES
}

/** What a tokenizer's file is, and how long its texts may be. */
export type TextLimit = Pick<Tokenizer, 'file' | 'fileBytes' | 'growth' | 'longestText'>

/** No pipeline in use makes a text as many times as long. */
const LARGE_GROWTH = 16

/** @throws BillfishError INVALID_OPTION if a text is too long; INVALID_CHECKPOINT if it is the tokenizer that makes it so */
export function checkLength(text: string, limit: TextLimit): void {
  if (limit.longestText === 0) throw tooMuchGrowth(limit)
  const bytes = Buffer.byteLength(text)
  if (bytes <= limit.longestText) return
  const message = `The text has ${bytes} bytes, but at most ${limit.longestText} can be encoded at once`
  throw limit.growth > LARGE_GROWTH
    ? invalidCheckpoint(`${message}, since ${growing(limit)}`)
    : new BillfishError('INVALID_OPTION', `${message}. Shorten it.`)
}

/** The error for every text, where the tokenizer's file could make any of them explode. */
export function tooMuchGrowth(limit: TextLimit): BillfishError {
  return invalidCheckpoint(`No text can be encoded, since ${growing(limit)}: compare it with the released checkpoint`)
}

function growing({ file, growth }: TextLimit): string {
  return `${file} may make a text ${growth < 1e6 ? Math.ceil(growth) : growth.toExponential(0)} times as long`
}
