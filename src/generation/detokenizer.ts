import type { Tokenizer } from './types'
import { Utf8Stream } from './utf8-stream'

/** The part of a {@link Tokenizer} that decoding needs. */
export type TokenBytes = Pick<Tokenizer, 'idToBytes' | 'specialIds' | 'leadingSpacesToStrip'>

/**
 * Decodes one token at a time. The texts that `push` and `flush` return, one after another, are exactly
 * `tokenizer.decode(allIds)`: a character that several tokens make up is held back until it is whole, and bytes that are
 * not UTF-8 become U+FFFD.
 */
export class Detokenizer {
  readonly #tokens: TokenBytes
  readonly #skipSpecialTokens: boolean
  readonly #utf8 = new Utf8Stream()
  #spacesToStrip: number

  constructor(tokens: TokenBytes, options: { readonly skipSpecialTokens: boolean }) {
    this.#tokens = tokens
    this.#skipSpecialTokens = options.skipSpecialTokens
    this.#spacesToStrip = tokens.leadingSpacesToStrip
  }

  /** Takes the next token and returns the text that is now certain, often the empty string. */
  push(id: number): string {
    if (this.#skipSpecialTokens && this.#tokens.specialIds.has(id)) return ''
    const bytes = this.#tokens.idToBytes(id)
    return bytes === undefined ? '' : this.#withoutLeadingSpaces(this.#utf8.push(bytes))
  }

  /** Ends the text: returns U+FFFD for a character that was left unfinished. */
  flush(): string {
    return this.#withoutLeadingSpaces(this.#utf8.flush())
  }

  #withoutLeadingSpaces(text: string): string {
    if (this.#spacesToStrip === 0 || text === '') return text
    let spaces = 0
    while (spaces < this.#spacesToStrip && text[spaces] === ' ') spaces++
    this.#spacesToStrip = spaces === text.length ? this.#spacesToStrip - spaces : 0
    return text.slice(spaces)
  }
}

/** Text of all `ids` at once. */
export function decodeTokens(
  tokens: TokenBytes,
  ids: readonly number[],
  options: { readonly skipSpecialTokens: boolean },
): string {
  const detokenizer = new Detokenizer(tokens, options)
  let text = ''
  for (const id of ids) text += detokenizer.push(id)
  return text + detokenizer.flush()
}
