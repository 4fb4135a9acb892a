/**
 * Bytes of UTF-8 up to which a text is encoded on the event loop. So many take the tokenizers 2 to 6 milliseconds: two
 * for prose, six for the dense tokens of base64 or digits. Characters would be a worse measure, since one of Chinese
 * costs three times one of English.
 */
export const MAX_SYNCHRONOUS_BYTES = 4096

/** A text that must not be encoded on the event loop, and how to encode it. */
export interface LongText {
  readonly text: string
  readonly addSpecialTokens: boolean
}

/** Whether encoding `text` would hold the event loop for too long. */
export function isLong(text: string): boolean {
  return text.length > MAX_SYNCHRONOUS_BYTES || Buffer.byteLength(text) > MAX_SYNCHRONOUS_BYTES
}
