import { BillfishError } from '../../common/errors'
import type { CooperativeTask } from '../../common/event-loop'
import type { Rule } from './automaton'
import type { AutomatonBuilder, Part } from './automaton-builder'
import { complement, type Range } from './utf8-ranges'

const MAX_LENGTH = 200_000
const MAX_DEPTH = 100
const MAX_REPEATS = 10_000
const NAME = /[A-Za-z_][\w-]*/y
const SPACES = /(?:[ \t\r\n]|#[^\n]*)*/y
const COUNTS = /\{(\d{1,6})(?:(,)(\d{1,6})?)?\}/y
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '0': '\0' }

/**
 * Reads a grammar in the notation of llama.cpp's GBNF, which XGrammar and vLLM take, too: `root ::= "a" [0-9]+ other*`,
 * with `|`, parentheses, `?`, `{2,5}`, `#` comments, and escapes `\n \r \t \\ \" \xHH \uHHHH \UHHHHHHHH`.
 * @throws BillfishError INVALID_OPTION with line and column
 */
export function* readEbnf(builder: AutomatonBuilder, text: string): CooperativeTask<Part> {
  const reader = new EbnfReader(builder, text)
  const root = builder.rule('The rule root')
  reader.rules.set('root', root)
  reader.skip()
  while (!reader.atEnd) {
    reader.rule()
    yield
  }
  for (const [name, { at }] of reader.used) {
    if (!reader.defined.has(name)) throw reader.error(`the rule ${name} is not defined`, at)
  }
  if (!reader.defined.has('root')) throw reader.error('the rule root is not defined', text.length)
  return builder.call(root)
}

class EbnfReader {
  readonly rules = new Map<string, Rule>()
  readonly used = new Map<string, { readonly at: number }>()
  readonly defined = new Set<string>()
  readonly #builder: AutomatonBuilder
  readonly #text: string
  #at = 0
  #depth = 0

  constructor(builder: AutomatonBuilder, text: string) {
    this.#builder = builder
    this.#text = text
    if (text.length > MAX_LENGTH)
      throw this.error(`it has ${text.length} characters; at most ${MAX_LENGTH} are read`, 0)
  }

  get atEnd(): boolean {
    return this.#at === this.#text.length
  }

  rule(): void {
    const start = this.#at
    const name = this.#take(NAME)
    if (name === undefined) throw this.error('expected the name of a rule')
    this.skip()
    if (!this.#accept('::=')) throw this.error(`expected ::= after ${name}`)
    if (this.defined.has(name)) throw this.error(`the rule ${name} is defined twice`, start)
    this.defined.add(name)
    this.skip()
    this.#builder.define(this.#ruleOf(name), this.#alternatives())
  }

  skip(): void {
    this.#take(SPACES)
  }

  error(what: string, at = this.#at): BillfishError {
    const before = this.#text.slice(0, at).split('\n')
    const column = (before[before.length - 1] ?? '').length + 1
    return new BillfishError('INVALID_OPTION', `${what} (line ${before.length}, column ${column})`)
  }

  #ruleOf(name: string): Rule {
    const known = this.rules.get(name)
    if (known) return known
    const rule = this.#builder.rule(`The rule ${name}`)
    this.rules.set(name, rule)
    return rule
  }

  #alternatives(): Part {
    if (++this.#depth > MAX_DEPTH) throw this.error(`nested more than ${MAX_DEPTH} deep`)
    const parts = [this.#sequence()]
    while (this.#accept('|')) {
      this.skip()
      parts.push(this.#sequence())
    }
    this.#depth--
    return parts.length === 1 ? (parts[0] as Part) : this.#builder.oneOf(...parts)
  }

  #sequence(): Part {
    const parts: Part[] = []
    for (let part = this.#item(); part; part = this.#item()) parts.push(part)
    return this.#builder.sequence(...parts)
  }

  #item(): Part | undefined {
    let part = this.#primary()
    if (part === undefined) return undefined
    for (let counts = this.#counts(); counts; counts = this.#counts()) {
      part = this.#builder.repeat(part, counts[0], counts[1])
    }
    this.skip()
    return part
  }

  #primary(): Part | undefined {
    if (this.#accept('"')) return this.#builder.text(this.#literal())
    if (this.#accept('[')) return this.#builder.character(this.#class())
    if (this.#accept('.')) return this.#builder.character(complement([{ low: 0x0a, high: 0x0a }]))
    if (this.#accept('(')) {
      this.skip()
      const part = this.#alternatives()
      if (!this.#accept(')')) throw this.error('expected )')
      return part
    }
    const at = this.#at
    const name = this.#take(NAME)
    if (name === undefined) return undefined
    const behind = this.#at
    this.skip()
    if (this.#text.startsWith('::=', this.#at)) {
      this.#at = at // the next rule
      return undefined
    }
    this.#at = behind
    if (!this.used.has(name)) this.used.set(name, { at })
    return this.#builder.call(this.#ruleOf(name))
  }

  #counts(): readonly [number, number] | undefined {
    if (this.#accept('*')) return [0, Number.POSITIVE_INFINITY]
    if (this.#accept('+')) return [1, Number.POSITIVE_INFINITY]
    if (this.#accept('?')) return [0, 1]
    COUNTS.lastIndex = this.#at
    const counts = COUNTS.exec(this.#text)
    if (counts === null) {
      if (this.#text[this.#at] === '{') throw this.error('expected {n}, {n,} or {n,m}')
      return undefined
    }
    const least = Number(counts[1])
    const most =
      counts[2] === undefined ? least : counts[3] === undefined ? Number.POSITIVE_INFINITY : Number(counts[3])
    if (most < least) throw this.error(`${counts[0]} has a maximum below its minimum`)
    if (least > MAX_REPEATS || (most > MAX_REPEATS && most !== Number.POSITIVE_INFINITY)) {
      throw this.error(`${counts[0]} repeats more than ${MAX_REPEATS} times`)
    }
    this.#at = COUNTS.lastIndex
    return [least, most]
  }

  #literal(): string {
    let literal = ''
    while (!this.#accept('"')) literal += String.fromCodePoint(this.#character('a text in quotes'))
    return literal
  }

  #class(): Range[] {
    const negated = this.#accept('^')
    const ranges: Range[] = []
    while (!this.#accept(']')) {
      const low = this.#character('a character class')
      let high = low
      if (this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']') {
        this.#at++
        high = this.#character('a character class')
      }
      if (high < low) throw this.error('a range of a character class is the wrong way round')
      ranges.push({ low, high })
    }
    return negated ? complement(ranges) : ranges
  }

  #character(within: string): number {
    if (this.atEnd) throw this.error(`${within} does not end`)
    const code = this.#text.codePointAt(this.#at) as number
    this.#at += code > 0xffff ? 2 : 1
    return code === 0x5c ? this.#escape() : code
  }

  #escape(): number {
    const letter = this.#text[this.#at++] ?? ''
    const digits = { x: 2, u: 4, U: 8 }[letter]
    if (digits === undefined) return (ESCAPES[letter] ?? letter).codePointAt(0) ?? 0x5c
    const hex = this.#text.slice(this.#at, this.#at + digits)
    const code = /^[0-9A-Fa-f]+$/.test(hex) && hex.length === digits ? Number.parseInt(hex, 16) : Number.NaN
    if (!(code <= 0x10ffff)) throw this.error(`\\${letter} needs ${digits} hexadecimal digits of a code point`)
    this.#at += digits
    return code
  }

  #accept(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at = pattern.lastIndex
    return found
  }
}
