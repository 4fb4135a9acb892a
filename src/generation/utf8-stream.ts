// No streaming decoder is needed: what is left at the end is decoded as is.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/**
 * Decodes UTF-8 that arrives in chunks, never splitting a character. The concatenated output equals decoding all bytes
 * at once, including U+FFFD for invalid sequences.
 */
export class Utf8Stream {
  /** An incomplete character: at most three bytes. */
  #held: Uint8Array = new Uint8Array(0)

  /** Adds bytes and returns the text that is now final. */
  push(bytes: Uint8Array): string {
    const joined = this.#held.length === 0 ? bytes : concatenate(this.#held, bytes)
    const complete = joined.length - incompleteTail(joined)
    this.#held = joined.slice(complete)
    return decoder.decode(joined.subarray(0, complete))
  }

  /** Ends the stream: an incomplete character becomes U+FFFD. */
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
 * Number of trailing bytes that may start an incomplete character. Only a leading byte (11xxxxxx) that lacks
 * continuation bytes (10xxxxxx) counts; splitting before a leading byte is always safe, because decoders resynchronize
 * there.
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
