import type { Rule } from './automaton'
import type { AutomatonBuilder, Part } from './automaton-builder'
import { codePointRanges, complement, intersection, type Range } from './utf8-ranges'

/** Digits of a whole number, and of a fraction: JavaScript and most languages read so many exactly. */
export const MAX_DIGITS = 15
/** Spaces of a line's indentation. */
const MAX_INDENTATION = 40
/** Of strings with limits: so many characters are one rule, whose states all of them share. */
const CHUNK = 32

const DIGIT: Range = { low: 0x30, high: 0x39 }
const QUOTE: Range = { low: 0x22, high: 0x22 }
const BACKSLASH: Range = { low: 0x5c, high: 0x5c }
const CONTROLS: Range = { low: 0, high: 0x1f }
const PLAIN = complement([CONTROLS, QUOTE, BACKSLASH])
const SHORT_ESCAPES: Readonly<Record<string, number>> = {
  '"': 0x22,
  '\\': 0x5c,
  '/': 0x2f,
  b: 0x08,
  f: 0x0c,
  n: 0x0a,
  r: 0x0d,
  t: 0x09,
}

/** The parts that all JSON texts have, each made when it is first used. */
export class JsonText {
  readonly #builder: AutomatonBuilder
  readonly #rules = new Map<string, Rule>()

  constructor(builder: AutomatonBuilder) {
    this.#builder = builder
  }

  /** None, a space, or a line's end and its indentation: no more, as models may go on for ever. */
  get space(): Part {
    const { text, optional, oneOf, sequence, repeat } = bound(this.#builder)
    return this.#rule('white space', () =>
      optional(oneOf(text(' '), sequence(text('\n'), repeat(text(' '), 0, MAX_INDENTATION)))),
    )
  }

  /** Any value. */
  get value(): Part {
    return this.#rule('a JSON value', () => {
      const { oneOf, oneOfTexts } = bound(this.#builder)
      return oneOf(this.object, this.array, this.string(), this.number, oneOfTexts(['true', 'false', 'null']))
    })
  }

  get object(): Part {
    return this.#rule('a JSON object', () => this.map(this.string(), this.value))
  }

  get array(): Part {
    return this.#rule('a JSON array', () => this.list({ item: this.value, least: 0, most: Number.POSITIVE_INFINITY }))
  }

  get integer(): Part {
    const { sequence, optional, text, oneOf, digits } = this.#parts()
    return this.#rule('an integer', () => sequence(optional(text('-')), oneOf(text('0'), digits(true, MAX_DIGITS))))
  }

  get number(): Part {
    const { sequence, optional, text, oneOf, digits } = this.#parts()
    return this.#rule('a number', () => {
      const fraction = sequence(text('.'), digits(false, MAX_DIGITS))
      const exponent = sequence(oneOf(text('e'), text('E')), optional(oneOf(text('+'), text('-'))), digits(false, 2))
      return sequence(this.integer, optional(fraction), optional(exponent))
    })
  }

  /** A string of so many characters; `most` may be infinite. */
  string(least = 0, most = Number.POSITIVE_INFINITY): Part {
    const { text, sequence, repeat } = bound(this.#builder)
    if (most === Number.POSITIVE_INFINITY) {
      if (least > 0) return sequence(text('"'), this.#characters(least), this.#tail(most))
      return this.#rule('a string', () =>
        sequence(text('"'), repeat(this.#character(), 0, Number.POSITIVE_INFINITY), text('"')),
      )
    }
    return (from) => {
      const end = this.#builder.state()
      let at = sequence(text('"'), this.#characters(least))(from)
      for (let left = most - least; ; left -= CHUNK) {
        this.#builder.link(this.#tail(Math.min(left, CHUNK - 1))(at), end)
        if (left < CHUNK) return end
        at = this.#characters(CHUNK)(at)
      }
    }
  }

  /** A string whose characters are those of `content`, which writes them by {@link escaped}. */
  stringOf(content: Part): Part {
    const { text, sequence } = bound(this.#builder)
    return sequence(text('"'), content, text('"'))
  }

  /** A character of `ranges` that needs no escape inside a string, but none of `others`. */
  plain(others: readonly Range[], ranges: readonly Range[] = PLAIN): Part {
    return this.#builder.character(intersection(intersection(ranges, PLAIN), complement(others)))
  }

  /** A character of `ranges` inside a string. */
  escaped(ranges: readonly Range[]): Part {
    const wanted = codePointRanges(ranges)
    const has = (code: number) => wanted.some(({ low, high }) => low <= code && code <= high)
    const { character, oneOf, oneOfTexts } = bound(this.#builder)
    const plain = intersection(wanted, PLAIN)
    const escapes = Object.entries(SHORT_ESCAPES).filter(([, code]) => has(code) && code !== 0x2f)
    const controls = Array.from({ length: CONTROLS.high + 1 }, (_, code) => code)
      .filter((code) => has(code) && !Object.values(SHORT_ESCAPES).includes(code))
      .map((code) => `\\u${code.toString(16).padStart(4, '0')}`)
    const texts = [...escapes.map(([letter]) => `\\${letter}`), ...controls]
    if (texts.length === 0) return character(plain)
    return plain.length === 0 ? oneOfTexts(texts) : oneOf(character(plain), oneOfTexts(texts))
  }

  /** `item` so many times, in brackets. `first`: the items before them. */
  list({ item, least, most, first = [] }: { item?: Part; least: number; most: number; first?: readonly Part[] }): Part {
    const { text, sequence, oneOf, repeat } = bound(this.#builder)
    const comma = sequence(text(','), this.space)
    const close = sequence(this.space, text(']'))
    const open = sequence(text('['), this.space)
    const empty = text('[]')
    if (first.length > 0) {
      const given = first.flatMap((part, i) => (i === 0 ? [part] : [comma, part]))
      const more = item ? [repeat(sequence(comma, item), least, most)] : []
      return sequence(open, ...given, ...more, close)
    }
    if (item === undefined || most === 0) return empty
    const some = sequence(open, item, repeat(sequence(comma, item), Math.max(0, least - 1), most - 1), close)
    return least === 0 ? oneOf(empty, some) : some
  }

  /** An object with any number of members; a key may be any of `key`. */
  map(key: Part, value: Part): Part {
    const { text, sequence, oneOf, repeat } = bound(this.#builder)
    const member = this.member(key, value)
    const more = repeat(sequence(text(','), this.space, member), 0, Number.POSITIVE_INFINITY)
    return oneOf(text('{}'), sequence(text('{'), this.space, member, more, this.space, text('}')))
  }

  member(key: Part, value: Part): Part {
    const { text, sequence, optional } = bound(this.#builder)
    return sequence(key, text(':'), optional(text(' ')), value)
  }

  #character(): Part {
    const { sequence, oneOf, oneOfTexts, character, text } = bound(this.#builder)
    const hex = character([DIGIT, { low: 0x41, high: 0x46 }, { low: 0x61, high: 0x66 }])
    // No surrogates: half of a pair is no character.
    const notD = character([DIGIT, ...['AC', 'EF', 'ac', 'ef'].map(rangeOf)])
    const code = oneOf(
      sequence(notD, hex, hex, hex),
      sequence(character([rangeOf('DD'), rangeOf('dd')]), character([rangeOf('07')]), hex, hex),
    )
    const escaped = oneOf(oneOfTexts(Object.keys(SHORT_ESCAPES)), sequence(text('u'), code))
    return oneOf(character(PLAIN), sequence(text('\\'), escaped))
  }

  /** So many characters, by rules of 1, 2, 4, ... that all strings share. */
  #characters(count: number): Part {
    const { sequence, repeat } = bound(this.#builder)
    const parts: Part[] = []
    let left = count
    for (let size = CHUNK; size >= 1; size /= 2) {
      for (; left >= size; left -= size) {
        parts.push(this.#rule(`${size} characters`, () => repeat(this.#character(), size, size)))
      }
    }
    return sequence(...parts)
  }

  /** At most so many characters and the closing quote. */
  #tail(most: number): Part {
    const { sequence, repeat, text } = bound(this.#builder)
    return this.#rule(`at most ${most} characters`, () => sequence(repeat(this.#character(), 0, most), text('"')))
  }

  #parts() {
    const parts = bound(this.#builder)
    /** At least one digit, the first of them not 0 where `isWhole`. */
    const digits = (isWhole: boolean, most: number) => {
      const digit = parts.character([DIGIT])
      const first = isWhole ? parts.character([rangeOf('19')]) : digit
      return parts.sequence(first, parts.repeat(digit, 0, most - 1))
    }
    return { ...parts, digits }
  }

  #rule(name: string, content: () => Part): Part {
    let rule = this.#rules.get(name)
    if (rule === undefined) {
      rule = this.#builder.rule(name)
      this.#rules.set(name, rule)
      this.#builder.define(rule, content())
    }
    return this.#builder.call(rule)
  }
}

function rangeOf(ends: string): Range {
  return { low: ends.charCodeAt(0), high: ends.charCodeAt(1) }
}

/** The builder's methods as functions. */
function bound(builder: AutomatonBuilder) {
  return {
    text: builder.text.bind(builder),
    oneOf: builder.oneOf.bind(builder),
    oneOfTexts: builder.oneOfTexts.bind(builder),
    character: builder.character.bind(builder),
    sequence: builder.sequence.bind(builder),
    optional: builder.optional.bind(builder),
    repeat: builder.repeat.bind(builder),
  }
}
