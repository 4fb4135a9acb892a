import type { Rule } from './automaton'
import type { AutomatonBuilder, Part } from './automaton-builder'
import type { JsonText } from './json-text'
import { regexPart } from './regex'
import { complement, intersection, type Range } from './utf8-ranges'

/** How the strings of a schema are written. */
export interface StringForm {
  /** A string of so many characters. */
  ofLength(least?: number, most?: number): Part
  /** A string in which an ECMAScript pattern matches. */
  matching(pattern: string): Part
  /** The text of a constant; undefined if it cannot be written. */
  textOf(value: unknown): string | undefined
}

/** Strings in quotes. */
export class JsonStrings implements StringForm {
  readonly #builder: AutomatonBuilder
  readonly #text: JsonText

  constructor(builder: AutomatonBuilder, text: JsonText) {
    this.#builder = builder
    this.#text = text
  }

  ofLength(least?: number, most?: number): Part {
    return this.#text.string(least, most)
  }

  matching(pattern: string): Part {
    const write = (ranges: readonly Range[]) => this.#text.escaped(ranges)
    return this.#text.stringOf(regexPart(this.#builder, pattern, { write, whole: false }))
  }

  textOf(value: unknown): string {
    return JSON.stringify(value)
  }
}

const NEWLINE: Range = { low: 0x0a, high: 0x0a }
const TAG_START: Range = { low: 0x3c, high: 0x3c }

/** Strings as plain text of lines, none of which starts with one of some tags; null is the word. */
export class PlainStrings implements StringForm {
  readonly #builder: AutomatonBuilder
  readonly #tags: readonly string[]
  #linesRule: Rule | undefined

  /** @param tags each starts with `<`, the only one in it */
  constructor(builder: AutomatonBuilder, tags: readonly string[]) {
    this.#builder = builder
    this.#tags = tags
  }

  /** With limits, it is one line that does not start with `<`: a state for each place of a tag would be too many. */
  ofLength(least = 0, most = Number.POSITIVE_INFINITY): Part {
    if (least === 0 && most === Number.POSITIVE_INFINITY) return this.#anyLines
    const { character, sequence, repeat, oneOf } = this.#parts()
    if (most === 0) return (from) => from
    const some = sequence(
      character(complement([NEWLINE, TAG_START])),
      repeat(character(complement([NEWLINE])), Math.max(0, least - 1), most - 1),
    )
    return least === 0 ? oneOf((from) => from, some) : some
  }

  /** One line without `<`. */
  matching(pattern: string): Part {
    const write = (ranges: readonly Range[]) =>
      this.#builder.character(intersection(ranges, complement([NEWLINE, TAG_START])))
    return regexPart(this.#builder, pattern, { write, whole: false })
  }

  textOf(value: unknown): string | undefined {
    if (typeof value !== 'string') return JSON.stringify(value)
    const lines = value.split('\n')
    return lines.some((line) => this.#tags.some((tag) => line.startsWith(tag))) ? undefined : value
  }

  /** One rule for all of them. */
  get #anyLines(): Part {
    if (this.#linesRule === undefined) {
      this.#linesRule = this.#builder.rule('lines without tags')
      this.#builder.define(this.#linesRule, this.#lines())
    }
    return this.#builder.call(this.#linesRule)
  }

  #lines(): Part {
    const builder = this.#builder
    return (from) => {
      const [start, inside, end] = [builder.state(), builder.state(), builder.state()]
      builder.link(from, start)
      builder.link(builder.character(complement([NEWLINE]))(inside), inside)
      builder.link(builder.character([NEWLINE])(inside), start)
      builder.link(inside, end)
      /** Behind each beginning of a tag, which may go on in any other way. */
      const nodes = [{ state: start, tags: this.#tags, at: 0 }]
      for (let node = nodes.pop(); node; node = nodes.pop()) {
        const { state, tags, at } = node
        const next = new Set(tags.map((tag) => tag.charCodeAt(at)))
        const taken = [...next].map((code) => ({ low: code, high: code }))
        builder.link(builder.character(complement([NEWLINE, ...taken]))(state), inside)
        builder.link(builder.character([NEWLINE])(state), start)
        builder.link(state, end)
        for (const code of next) {
          const longer = tags.filter((tag) => tag.charCodeAt(at) === code)
          if (longer.some((tag) => tag.length === at + 1)) continue
          const character = { low: code, high: code }
          nodes.push({ state: builder.character([character])(state), tags: longer, at: at + 1 })
        }
      }
      return end
    }
  }

  #parts() {
    const builder = this.#builder
    return {
      character: builder.character.bind(builder),
      sequence: builder.sequence.bind(builder),
      repeat: builder.repeat.bind(builder),
      oneOf: builder.oneOf.bind(builder),
    }
  }
}
