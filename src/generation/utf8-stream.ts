// At the end of the stream a decoder of its own is not needed: what is left over is decoded as it stands.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/**
 * Turns bytes that arrive in pieces into text, never cutting a character. The pieces' texts together are exactly what
 * decoding all bytes at once gives, U+FFFD for invalid sequences included.
 */
export class Utf8Stream {
  /** The beginning of a character whose end has not come yet: at most three bytes. */
  #held: Uint8Array = new Uint8Array(0)

  /** Takes bytes and returns the text that is now certain. */
  push(bytes: Uint8Array): string {
    const joined = this.#held.length === 0 ? bytes : concatenate(this.#held, bytes)
    const complete = joined.length - incompleteTail(joined)
    this.#held = joined.slice(complete)
    return decoder.decode(joined.subarray(0, complete))
  }

  /** Ends the stream: a character that was left unfinished becomes U+FFFD. */
  flush(): string {
    const rest = decoder.decode(this.#held)
    this.#held = new Uint8Array(0)
    return rest
  }
}

function concatenate(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.length + second.length)
  joined.set(first)
  joined.set(second, first.length)
  return joined
}

/**
 * How many bytes at the end may be the beginning of a longer character. Only a leading byte (11xxxxxx) that still lacks
 * continuation bytes (10xxxxxx) counts; cutting before a leading byte is always right, because a decoder starts afresh
 * there whatever came before.
 */
function incompleteTail(bytes: Uint8Array): number {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back] as number
    if (byte < 0x80) return 0
    if (byte >= 0xc0) {
      const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
      return length > back ? back : 0
    }
  }
  return 0
}
