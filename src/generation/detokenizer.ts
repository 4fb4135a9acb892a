import type { Tokenizer } from './types'
import { Utf8Stream } from './utf8-stream'

/** The part of a {@link Tokenizer} that decoding needs. */
export type TokenBytes = Pick<Tokenizer, 'idToBytes' | 'specialIds' | 'leadingSpacesToStrip'>

/** The same tokens, of which these are text even if they are special. */
export function keepingTokens(tokens: TokenBytes & Pick<Tokenizer, 'tokenToId'>, kept: readonly string[]): TokenBytes {
  const ids = new Set(kept.map((token) => tokens.tokenToId(token)))
  if (![...ids].some((id) => id !== undefined && tokens.specialIds.has(id))) return tokens
  const specialIds = new Set([...tokens.specialIds].filter((id) => !ids.has(id)))
  return { specialIds, leadingSpacesToStrip: tokens.leadingSpacesToStrip, idToBytes: (id) => tokens.idToBytes(id) }
}

/**
 * Decodes one token at a time. The texts returned by `push` and `flush`, concatenated, equal
 * `tokenizer.decode(allIds)`: a character that spans several tokens is held back until it is complete, and invalid
 * UTF-8 becomes U+FFFD.
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

  /** Adds a token and returns the text that is now final, often empty. */
  push(id: number): string {
    if (this.#skipSpecialTokens && this.#tokens.specialIds.has(id)) return ''
    const bytes = this.#tokens.idToBytes(id)
    return bytes === undefined ? '' : this.#withoutLeadingSpaces(this.#utf8.push(bytes))
  }

  /** Ends the text: returns U+FFFD for an incomplete character. */
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

/** Decodes all `ids`. */
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
