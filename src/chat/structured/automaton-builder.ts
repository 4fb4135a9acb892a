import { BillfishError } from '../../common/errors'
import { type Automaton, NO_RULE, type Rule } from './automaton'
import { finishAutomaton } from './finish-automaton'
import { codePointRanges, type Range, utf8Sequences } from './utf8-ranges'

/** Writes a part of a grammar from a state on; returns the state behind it. */
export type Part = (from: number) => number

const MAX_STATES = 100_000
const MAX_EDGES = 200_000
const MAX_WORK = 1_000_000

/**
 * Builds a pushdown automaton out of parts: a rule is a finite automaton over bytes that calls rules. Parts of a text are
 * written from a state to the state behind them.
 */
export class AutomatonBuilder {
  #states = 0
  readonly #byteEdges: number[] = []
  readonly #calls: number[] = []
  readonly #rules: Rule[] = []
  #work = 0

  state(): number {
    if (this.#states === MAX_STATES) throw this.#tooLarge()
    return this.#states++
  }

  rule(name: string): Rule {
    const rule = { id: this.#rules.length, start: this.state(), end: this.state(), name }
    this.#rules.push(rule)
    return rule
  }

  /** Makes `part` a way to write a rule; a rule may have several. */
  define(rule: Rule, part: Part): void {
    this.link(part(rule.start), rule.end)
  }

  link(from: number, to: number): void {
    this.#calls.push(from, NO_RULE, to)
    this.#checkSize()
  }

  bytes(from: number, { low, high }: Range, to: number): void {
    this.#byteEdges.push(from, low, high, to)
    this.#checkSize()
  }

  call(rule: Rule): Part {
    return (from) => {
      const to = this.state()
      this.#calls.push(from, rule.id, to)
      this.#checkSize()
      return to
    }
  }

  text(text: string): Part {
    const bytes = Buffer.from(text)
    return (from) => {
      let at = from
      for (const byte of bytes) {
        const next = this.state()
        this.bytes(at, { low: byte, high: byte }, next)
        at = next
      }
      return at
    }
  }

  /** One of the texts. Common beginnings are shared, so thousands of texts are one state at a time. */
  oneOfTexts(texts: Iterable<string>): Part {
    const nothing: Part = (from) => from
    return this.oneOfBeginnings([...new Set(texts)].map((text) => [text, nothing]))
  }

  /** One of the texts, which share common beginnings, and what follows it. */
  oneOfBeginnings(entries: readonly (readonly [text: string, rest: Part])[]): Part {
    const sorted = entries
      .map(([text, rest]) => ({ text: Buffer.from(text), rest }))
      .sort((a, b) => Buffer.compare(a.text, b.text))
    return (from) => {
      const end = this.state()
      /** States after the bytes of the text before. */
      const path = [from]
      let before = Buffer.alloc(0)
      for (const { text, rest } of sorted) {
        let shared = 0
        while (shared < text.length && text[shared] === before[shared]) shared++
        path.length = shared + 1
        for (const byte of text.subarray(shared)) {
          const next = this.state()
          this.bytes(path[path.length - 1] as number, { low: byte, high: byte }, next)
          path.push(next)
        }
        this.link(rest(path[path.length - 1] as number), end)
        before = text
      }
      return end
    }
  }

  /** A character of code points in `ranges`, as UTF-8. */
  character(ranges: readonly Range[]): Part {
    const sequences = codePointRanges(ranges).flatMap(utf8Sequences)
    return (from) => {
      const end = this.state()
      for (const sequence of sequences) {
        let at = from
        for (const [i, bytes] of sequence.entries()) {
          const next = i === sequence.length - 1 ? end : this.state()
          this.bytes(at, bytes, next)
          at = next
        }
      }
      return end
    }
  }

  sequence(...parts: readonly Part[]): Part {
    return (from) => parts.reduce((at, part) => part(at), from)
  }

  oneOf(...parts: readonly Part[]): Part {
    return (from) => {
      const end = this.state()
      for (const part of parts) {
        const start = this.state()
        this.link(from, start)
        this.link(part(start), end)
      }
      return end
    }
  }

  optional(part: Part): Part {
    return this.repeat(part, 0, 1)
  }

  /** `most` may be infinite. */
  repeat(part: Part, least: number, most: number): Part {
    return (from) => {
      let at = from
      for (let i = 0; i < least; i++) {
        this.#checkWork()
        at = part(at)
      }
      if (most === Number.POSITIVE_INFINITY) {
        const loop = this.state()
        this.link(at, loop)
        this.link(part(loop), loop)
        const end = this.state()
        this.link(loop, end)
        return end
      }
      const end = this.state()
      for (let i = least; i < most; i++) {
        this.#checkWork()
        this.link(at, end)
        const start = this.state()
        this.link(at, start)
        at = part(start)
      }
      this.link(at, end)
      return end
    }
  }

  /**
   * The finished automaton, without what can never be completed. Its first rule is the whole text.
   * @throws BillfishError INVALID_OPTION if no text matches, or a rule begins with itself
   */
  finish(): Automaton {
    return finishAutomaton({
      states: this.#states,
      byteEdges: Int32Array.from(this.#byteEdges),
      calls: Int32Array.from(this.#calls),
      rules: this.#rules,
    })
  }

  /** Also where nothing is added: repeating nothing takes time. */
  #checkWork(): void {
    if (++this.#work > MAX_WORK) throw this.#tooLarge()
  }

  #checkSize(): void {
    if (this.#byteEdges.length / 4 + this.#calls.length / 3 > MAX_EDGES) throw this.#tooLarge()
  }

  #tooLarge(): BillfishError {
    const message = `it is too large: it takes more than ${MAX_STATES} states. Use smaller limits and fewer alternatives`
    return new BillfishError('INVALID_OPTION', message)
  }
}
