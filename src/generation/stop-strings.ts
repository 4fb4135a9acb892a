/** Result of {@link StopStrings.push}. */
export interface StopResult {
  /** Text that is final: it contains no stop string, nor the start of one at its end. */
  readonly text: string
  /** The stop string that ended the text, or null. */
  readonly stopped: string | null
}

/**
 * Finds stop strings in text that arrives in chunks, independent of chunk boundaries: the text ends before the stop
 * string that completes first (the longest, if several end at the same character).
 */
export class StopStrings {
  readonly #stops: readonly string[]
  readonly #longest: number
  /** Text that may be the start of a stop string. */
  #held = ''
  #stopped: string | null = null

  /** @param stops non-empty strings */
  constructor(stops: readonly string[]) {
    this.#stops = stops
    this.#longest = stops.reduce((longest, stop) => Math.max(longest, stop.length), 0)
  }

  /** Adds a chunk. After a stop string, everything else is dropped. */
  push(chunk: string): StopResult {
    if (this.#stopped !== null) return { text: '', stopped: this.#stopped }
    const text = this.#held + chunk
    const match = this.#firstMatch(text)
    if (match !== null) {
      this.#held = ''
      this.#stopped = match.stop
      return { text: text.slice(0, match.start), stopped: match.stop }
    }
    const kept = text.length - this.#heldBack(text)
    this.#held = text.slice(kept)
    return { text: text.slice(0, kept), stopped: null }
  }

  /** Ends the text: returns the held-back text, which was no stop string after all. */
  flush(): string {
    const rest = this.#held
    this.#held = ''
    return rest
  }

  #firstMatch(text: string): { start: number; stop: string } | null {
    let first: { start: number; stop: string } | null = null
    for (const stop of this.#stops) {
      const start = text.indexOf(stop)
      if (start < 0) continue
      const end = start + stop.length
      const firstEnd = first === null ? Infinity : first.start + first.stop.length
      if (end < firstEnd || (end === firstEnd && first !== null && start < first.start)) first = { start, stop }
    }
    return first
  }

  #heldBack(text: string): number {
    for (let length = Math.min(this.#longest - 1, text.length); length > 0; length--) {
      const tail = text.slice(-length)
      if (this.#stops.some((stop) => stop.startsWith(tail))) return length
    }
    return 0
  }
}
