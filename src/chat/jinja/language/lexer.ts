import type { Budget } from '../budget'
import { TemplateSyntaxError } from '../errors'
import { PYTHON_SPACE } from '../values/characters'

/** The type of an operator is the operator itself. */
export type TokenType =
  | 'data'
  | 'block_begin'
  | 'block_end'
  | 'variable_begin'
  | 'variable_end'
  | 'name'
  | 'string'
  | 'integer'
  | 'float'
  | 'end of template'
  | Operator

export interface Token {
  readonly type: TokenType
  /** The text; strings are unescaped, and numbers have no underscores. */
  readonly value: string
  readonly line: number
}

const OPERATORS = [
  ...(['//', '**', '==', '!=', '>=', '<='] as const),
  ...(['+', '-', '/', '*', '%', '~', '[', ']', '(', ')', '{', '}', '>', '<', '=', '.', ':', '|', ',', ';'] as const),
]
type Operator = (typeof OPERATORS)[number]

const OPERATOR_SET = new Set<string>(OPERATORS)
const CLOSING: Readonly<Record<string, string>> = { '{': '}', '(': ')', '[': ']' }

const SPACE = new RegExp(`[${PYTHON_SPACE}]*`, 'y')
const SPACE_CHARACTER = new RegExp(`[${PYTHON_SPACE}]`)
const ONLY_SPACE = new RegExp(`^[${PYTHON_SPACE}]+$`)
const RAW_BEGIN = new RegExp(`\\{%([-+]?)[${PYTHON_SPACE}]*raw[${PYTHON_SPACE}]*(-?)%\\}`, 'y')
const RAW_END = new RegExp(`\\{%([-+]?)[${PYTHON_SPACE}]*endraw[${PYTHON_SPACE}]*(?:\\+%\\}|(-)%\\}|(%)\\})`, 'g')
const WORD = /[\p{L}\p{N}\p{M}\p{Pc}\u00b7]+/uy
const IDENTIFIER = /^[\p{ID_Start}_][\p{ID_Continue}]*$/u
const FLOAT = /\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d[\d_]*)?/y
const INTEGER = /0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\da-fA-F])+|[1-9](?:_?\d)*|0(?:_?0)*/y
/** Maximum digits of a number; hexadecimal ones may reach the limit of ints. */
const LONG_NUMBER = /[\da-fA-F_.]{40000}/y
const DIGITS = /^\d+(?:_\d+)*$/

/**
 * Yields the tokens of a template. Block tags absorb the following line break and the preceding indentation
 * (`trim_blocks` and `lstrip_blocks`), as transformers configures Jinja2 for chat templates.
 */
export class Lexer {
  readonly #source: string
  readonly #budget: Budget
  readonly #open: string[] = []
  readonly #pending: Token[] = []
  #at = 0
  #line = 1
  /** End of the current line. */
  #lineEnd: number
  #lineStarting = true
  #end: '%}' | '}}' | undefined

  constructor(source: string, budget: Budget) {
    budget.scan(source.length)
    budget.text(source.length)
    const text = source.replace(/\r\n|\r/g, '\n')
    this.#source = text.endsWith('\n') ? text.slice(0, -1) : text
    this.#lineEnd = endOfLine(this.#source, 0)
    this.#budget = budget
  }

  /** @throws TemplateSyntaxError */
  next(): Token {
    for (;;) {
      this.#budget.step(4)
      const pending = this.#pending.shift()
      if (pending) return pending
      if (this.#end !== undefined) return this.#inTag(this.#end)
      if (this.#at >= this.#source.length) return this.#token('end of template', '')
      this.#outside()
    }
  }

  #token(type: TokenType, value: string): Token {
    return { type, value, line: this.#line }
  }

  #fail(message: string): TemplateSyntaxError {
    return new TemplateSyntaxError(message, this.#line)
  }

  /** Moves to `at`, counting lines. */
  #advance(at: number): void {
    const source = this.#source
    this.#budget.scan(at - this.#at)
    for (; this.#lineEnd < at; this.#lineEnd = endOfLine(source, this.#lineEnd + 1)) this.#line++
    if (at > this.#at) this.#lineStarting = source.charCodeAt(at - 1) === 0x0a
    this.#at = at
  }

  #spaceEnd(from: number): number {
    SPACE.lastIndex = from
    SPACE.test(this.#source)
    return SPACE.lastIndex
  }

  /** Text up to the next tag, and the opening of the tag. */
  #outside(): void {
    const source = this.#source
    const start = this.#at
    let at = source.indexOf('{', start)
    while (at >= 0 && !'%{#'.includes(source.charAt(at + 1) || ' ')) at = source.indexOf('{', at + 1)
    if (at < 0) {
      this.#data(source.slice(start))
      this.#advance(source.length)
      return
    }
    const kind = source.charAt(at + 1)
    const sign = source.charAt(at + 2)
    const signed = sign === '-' || sign === '+'
    this.#data(this.#stripped(source.slice(start, at), signed ? sign : '', kind !== '{'))

    RAW_BEGIN.lastIndex = at
    const raw = kind === '%' ? RAW_BEGIN.exec(source) : null
    if (raw) {
      const inside = RAW_BEGIN.lastIndex
      this.#advance(raw[2] === '-' ? this.#spaceEnd(inside) : inside)
      this.#raw()
      return
    }
    this.#advance(at + (signed ? 3 : 2))
    if (kind === '#') {
      this.#comment()
      return
    }
    this.#end = kind === '%' ? '%}' : '}}'
    this.#pending.push(this.#token(kind === '%' ? 'block_begin' : 'variable_begin', ''))
  }

  #data(text: string): void {
    if (text !== '') this.#pending.push(this.#token('data', text))
  }

  /** Text before a tag after white-space control. */
  #stripped(text: string, sign: string, isBlock: boolean): string {
    this.#budget.scan(text.length)
    if (sign === '-') return withoutSpaceAtEnd(text)
    if (sign === '+' || !isBlock) return text
    const lineStart = text.lastIndexOf('\n') + 1
    const isIndentation = (lineStart > 0 || this.#lineStarting) && ONLY_SPACE.test(text.slice(lineStart))
    return isIndentation ? text.slice(0, lineStart) : text
  }

  #raw(): void {
    RAW_END.lastIndex = this.#at
    const end = RAW_END.exec(this.#source)
    if (!end) {
      if (this.#at >= this.#source.length) return
      throw this.#fail('missing end of raw directive')
    }
    this.#data(this.#stripped(this.#source.slice(this.#at, end.index), end[1] ?? '', true))
    this.#afterBlock(RAW_END.lastIndex, end[2] === '-', end[3] !== undefined)
  }

  #comment(): void {
    const source = this.#source
    const end = source.indexOf('#}', this.#at)
    if (end < 0) {
      if (this.#at >= source.length) return
      throw this.#fail('missing end of comment tag')
    }
    const sign = end > this.#at ? source.charAt(end - 1) : ''
    this.#afterBlock(end + 2, sign === '-', sign !== '+')
  }

  #afterBlock(at: number, strips: boolean, trims: boolean): void {
    if (strips) this.#advance(this.#spaceEnd(at))
    else this.#advance(trims && this.#source.charAt(at) === '\n' ? at + 1 : at)
  }

  #inTag(end: '%}' | '}}'): Token {
    const source = this.#source
    if (this.#open.length === 0) {
      const token = this.#tagEnd(end)
      if (token) return token
    }
    const after = this.#spaceEnd(this.#at)
    if (after > this.#at) {
      this.#advance(after)
      return this.next()
    }
    if (this.#at >= source.length) return this.#token('end of template', '')
    const code = source.charCodeAt(this.#at)
    if (code >= 0x30 && code <= 0x39) return this.#number()
    if (code === 0x22 || code === 0x27) return this.#string(source.charAt(this.#at))
    WORD.lastIndex = this.#at
    const word = WORD.exec(source)?.[0]
    if (word !== undefined) {
      if (!IDENTIFIER.test(word)) throw this.#fail('invalid character in identifier')
      return this.#take('name', word.length, word)
    }
    return this.#operator()
  }

  #tagEnd(end: '%}' | '}}'): Token | undefined {
    const source = this.#source
    const sign = source.charAt(this.#at)
    const signed = sign === '-' || (sign === '+' && end === '%}')
    const from = signed ? this.#at + 1 : this.#at
    if (!source.startsWith(end, from)) return undefined
    const token = this.#token(end === '%}' ? 'block_end' : 'variable_end', '')
    this.#end = undefined
    this.#afterBlock(from + 2, sign === '-', !signed && end === '%}')
    return token
  }

  #take(type: TokenType, length: number, value: string): Token {
    const token = this.#token(type, value)
    this.#advance(this.#at + length)
    return token
  }

  #number(): Token {
    const source = this.#source
    LONG_NUMBER.lastIndex = this.#at
    if (LONG_NUMBER.test(source)) throw this.#fail('the number has too many digits')
    FLOAT.lastIndex = this.#at
    const text = FLOAT.exec(source)?.[0] ?? ''
    const afterDot = source.charAt(this.#at - 1) === '.'
    const parts = text.split(/[.eE][+-]?/)
    if (!afterDot && parts.length > 1 && parts.every((part) => DIGITS.test(part))) {
      return this.#take('float', text.length, text.replaceAll('_', ''))
    }
    INTEGER.lastIndex = this.#at
    const integer = INTEGER.exec(source)?.[0] ?? ''
    return this.#take('integer', integer.length, integer.replaceAll('_', ''))
  }

  #string(quote: string): Token {
    const source = this.#source
    let end = this.#at + 1
    for (; end < source.length; end++) {
      const char = source.charAt(end)
      if (char === '\\') end++
      else if (char === quote) break
    }
    this.#budget.walk(end - this.#at)
    if (end >= source.length) throw this.#fail(`unexpected char ${JSON.stringify(quote)}: the string does not end`)
    const raw = source.slice(this.#at + 1, end)
    return this.#take('string', end + 1 - this.#at, raw.includes('\\') ? this.#unescaped(raw) : raw)
  }

  /** Python escapes; a backslash before any other character is literal. */
  #unescaped(raw: string): string {
    const escapes = /\\(?:([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([\s\S]))/y
    let text = ''
    let at = 0
    for (let next = raw.indexOf('\\'); next >= 0; next = raw.indexOf('\\', at)) {
      this.#budget.step(8)
      text += raw.slice(at, next)
      escapes.lastIndex = next
      const [all = '', octal, x, u, long, char = ''] = escapes.exec(raw) ?? []
      text += this.#character(all, octal, x ?? u ?? long, char)
      at = next + all.length
    }
    return text + raw.slice(at)
  }

  #character(all: string, octal: string | undefined, hex: string | undefined, char: string): string {
    if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8))
    if (hex === undefined) {
      if (char !== '' && 'xuUN'.includes(char)) throw this.#fail(`truncated or unknown escape ${all} in a string`)
      return ESCAPES[char] ?? all
    }
    const code = Number.parseInt(hex, 16)
    if (code > 0x10ffff) throw this.#fail(`${all} is no character`)
    return String.fromCodePoint(code)
  }

  #operator(): Token {
    const two = this.#source.slice(this.#at, this.#at + 2)
    const text = OPERATOR_SET.has(two) ? two : two.charAt(0)
    if (!OPERATOR_SET.has(text)) throw this.#fail(`unexpected char ${JSON.stringify(text)}`)
    const closing = CLOSING[text]
    if (closing !== undefined) this.#open.push(closing)
    else if (text === '}' || text === ')' || text === ']') {
      const expected = this.#open.pop()
      if (expected === undefined) throw this.#fail(`unexpected '${text}'`)
      if (expected !== text) throw this.#fail(`unexpected '${text}', expected '${expected}'`)
    }
    return this.#take(text as Operator, text.length, text)
  }
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from)
  return end < 0 ? Number.POSITIVE_INFINITY : end
}

/** Python rstrip; a regular expression with `$` would rescan every run of spaces. */
function withoutSpaceAtEnd(text: string): string {
  let end = text.length
  while (end > 0 && SPACE_CHARACTER.test(text.charAt(end - 1))) end--
  return text.slice(0, end)
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}
