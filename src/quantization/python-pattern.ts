/**
 * Translates a Python regular expression to RE2 and JavaScript syntax. Groups lose their names and numbers unless a
 * backreference needs them.
 *
 * Not supported: conditionals `(?(1)a|b)`, named characters `\N{...}` and locale flags. Classes (\w, \d, \s) and \b are
 * ASCII-only. A backreference to a group that did not participate matches the empty string, whereas Python fails.
 */

/** Why a pattern cannot be translated; `message` completes "the pattern ... ". */
export class PatternError extends Error {}

export interface TranslatedPattern {
  /** Undefined if RE2 cannot express it: lookahead, backreferences, atomic groups and possessive repetitions. */
  readonly re2: string | undefined
  readonly js: string
  /** Global flags: a subset of i, m and s. */
  readonly flags: string
  /** Number of characters, classes etc. after expanding repetitions, as RE2 does. */
  readonly size: number
}

/**
 * Text in both syntaxes, the start of a capturing group, or a backreference. Ids are Python group numbers or internal
 * ones.
 */
type Piece =
  | { readonly re2: string; readonly js: string }
  | { readonly capture: string }
  | { readonly refersTo: string }

const both = (text: string): Piece => ({ re2: text, js: text })

function literal(character: string): Piece {
  if (/^\w$/.test(character)) return both(character)
  const hex = (character.codePointAt(0) as number).toString(16)
  return { re2: `\\x{${hex}}`, js: `\\u{${hex}}` }
}

const CONTROLS: Readonly<Record<string, string>> = { a: '\x07', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 }

/** Start of a repeatable item: its index among the pieces, and the size before it. */
interface Begin {
  readonly piece: number
  readonly size: number
}

interface OpenGroup {
  readonly begin: Begin
  /** Pieces after its content. */
  readonly end: readonly Piece[]
  readonly verbose: boolean
  readonly id: string | undefined
}

class Reader {
  readonly #characters: readonly string[]
  #at = 0
  readonly #pieces: Piece[] = []
  readonly #open: OpenGroup[] = []
  readonly #closed = new Set<string>()
  readonly #names = new Map<string, string>()
  #groups = 0
  #atomic = 0
  #backtracks = false
  #verbose = false
  #flags = ''
  #size = 0
  /** What a repetition would apply to; undefined if there is nothing to repeat. */
  #last: Begin | undefined

  constructor(source: string) {
    this.#characters = [...source]
  }

  read(): TranslatedPattern {
    while (this.#at < this.#characters.length) this.#readOne()
    if (this.#open.length > 0) throw new PatternError('has an unmatched (')
    const numbers = new Map<string, number>()
    for (const piece of this.#pieces) if ('capture' in piece) numbers.set(piece.capture, numbers.size + 1)
    const write = (syntax: 're2' | 'js') =>
      this.#pieces
        .map((piece) => {
          if ('capture' in piece) return syntax === 're2' ? '(?:' : '('
          return 'refersTo' in piece ? `(?:\\${numbers.get(piece.refersTo)})` : piece[syntax]
        })
        .join('')
    return { re2: this.#backtracks ? undefined : write('re2'), js: write('js'), flags: this.#flags, size: this.#size }
  }

  #next(): string | undefined {
    return this.#characters[this.#at]
  }

  #take(text: string): boolean {
    if (!this.#starts(text)) return false
    this.#at += text.length
    return true
  }

  #starts(text: string): boolean {
    for (let i = 0; i < text.length; i++) if (this.#characters[this.#at + i] !== text[i]) return false
    return true
  }

  /** Consumes characters up to and including `end`; returns those before it. */
  #until(end: string, fault: string): string {
    const from = this.#at
    const to = this.#characters.indexOf(end, from)
    if (to < 0) throw new PatternError(fault)
    this.#at = to + 1
    return this.#characters.slice(from, to).join('')
  }

  /** Appends a repeatable item. */
  #atom(...pieces: Piece[]): void {
    this.#last = this.#here()
    this.#pieces.push(...pieces)
    this.#size++
  }

  #here(): Begin {
    return { piece: this.#pieces.length, size: this.#size }
  }

  /** Appends an item that cannot be repeated. */
  #mark(...pieces: Piece[]): void {
    this.#last = undefined
    this.#pieces.push(...pieces)
  }

  #readOne(): void {
    const character = this.#characters[this.#at] as string
    if (this.#verbose && /\s/.test(character)) this.#at++
    else if (this.#verbose && character === '#') {
      while (this.#at < this.#characters.length && this.#next() !== '\n') this.#at++
    } else if (this.#repetition()) return
    else {
      this.#at++
      if (character === '(') this.#openGroup()
      else if (character === ')') this.#closeGroup()
      else if (character === '[') this.#characterClass()
      else if (character === '\\') this.#escape()
      else if (character === '|' || character === '^' || character === '$') this.#mark(both(character))
      else if (character === '.') this.#atom(both('.'))
      else this.#atom(literal(character))
    }
  }

  /** Consumes a repetition; false if there is none here. */
  #repetition(): boolean {
    const range = this.#range()
    if (range === undefined) return false
    if (this.#last === undefined) throw new PatternError('has a repetition with nothing to repeat')
    const [least, most] = range
    if (most !== undefined && most < least) throw new PatternError('has an impossible repetition')
    const times = `{${least},${most ?? ''}}`
    const { piece, size } = this.#last
    this.#size = size + (this.#size - size) * Math.max(1, most ?? least + 1)
    if (this.#take('+')) {
      this.#pieces.push(both(times))
      this.#makeAtomic(piece)
    } else this.#pieces.push(both(this.#take('?') ? `${times}?` : times))
    this.#last = undefined
    return true
  }

  #range(): readonly [number, number | undefined] | undefined {
    if (this.#take('*')) return [0, undefined]
    if (this.#take('+')) return [1, undefined]
    if (this.#take('?')) return [0, 1]
    if (this.#next() !== '{') return undefined
    const braces = /^\{(\d{0,9})(,(\d{0,9}))?\}/.exec(this.#characters.slice(this.#at, this.#at + 24).join(''))
    if (braces === null || braces[0] === '{}') return undefined
    this.#at += braces[0].length
    const least = Number(braces[1])
    if (braces[2] === undefined) return [least, least]
    return [least, braces[3] === '' ? undefined : Number(braces[3])]
  }

  /** Makes everything from `begin` on atomic: matches it in a lookahead, then consumes it by backreference. */
  #makeAtomic(begin: number): void {
    this.#backtracks = true
    const id = `atomic ${this.#atomic++}`
    this.#pieces.splice(begin, 0, both('(?:'), both('(?='), { capture: id })
    this.#pieces.push(both('))'), { refersTo: id }, both(')'))
  }

  #begin(start: readonly Piece[], end: readonly Piece[] = [both(')')], id?: string): void {
    this.#open.push({ begin: this.#here(), end, verbose: this.#verbose, id })
    this.#mark(...start)
    this.#size++
  }

  #openGroup(): void {
    if (!this.#take('?')) {
      const id = String(++this.#groups)
      this.#begin([{ capture: id }], undefined, id)
      return
    }
    if (this.#take('#')) {
      this.#until(')', 'has a comment without an end')
      return
    }
    for (const look of ['<=', '<!', '=', '!']) {
      if (!this.#take(look)) continue
      this.#backtracks ||= !look.startsWith('<')
      this.#begin([both(`(?:(?${look}`)], [both('))')])
      return
    }
    if (this.#take(':')) this.#begin([both('(?:')])
    else if (this.#take('>')) this.#begin([], [])
    else if (this.#take('P<')) {
      const name = this.#until('>', 'has a group name without an end')
      if (!/^[A-Za-z_]\w*$/.test(name)) throw new PatternError('has a group with an impossible name')
      if (this.#names.has(name)) throw new PatternError('uses a group name twice')
      const id = String(++this.#groups)
      this.#names.set(name, id)
      this.#begin([{ capture: id }], undefined, id)
    } else if (this.#take('P=')) {
      const name = this.#until(')', 'has a reference without an end')
      this.#refer(this.#names.get(name))
    } else this.#flagGroup()
  }

  /** `(?i)`, `(?i:`, `(?-i:`, `(?x-i:`. */
  #flagGroup(): void {
    const start = this.#at
    while (/[aiLmsux-]/.test(this.#next() ?? '')) this.#at++
    const [on = '', off = ''] = this.#characters.slice(start, this.#at).join('').split('-')
    if (this.#at === start || on.includes('L')) throw new PatternError('has a kind of group that is not supported')
    const [kept, dropped] = [on.replace(/[^ims]/g, ''), off.replace(/[^ims]/g, '')]
    if (this.#take(')')) {
      if (off !== '' || start !== 2) throw new PatternError('has global flags that are not at the start')
      this.#verbose ||= on.includes('x')
      this.#flags = [...new Set(kept)].join('')
      this.#last = undefined
      return
    }
    if (!this.#take(':')) throw new PatternError('has a kind of group that is not supported')
    const flags = kept + (dropped === '' ? '' : `-${dropped}`)
    this.#begin([both(flags === '' ? '(?:' : `(?${flags}:`)])
    this.#verbose = on.includes('x') || (this.#verbose && !off.includes('x'))
  }

  #closeGroup(): void {
    const group = this.#open.pop()
    if (group === undefined) throw new PatternError('has an unmatched )')
    this.#pieces.push(...group.end)
    if (group.end.length === 0) this.#makeAtomic(group.begin.piece)
    if (group.id !== undefined) this.#closed.add(group.id)
    this.#verbose = group.verbose
    this.#last = group.begin
  }

  #refer(id: string | undefined): void {
    if (id === undefined || !this.#closed.has(id)) throw new PatternError('refers to an undefined group')
    this.#backtracks = true
    this.#atom({ refersTo: id })
  }

  #escape(): void {
    const character = this.#characters[this.#at++]
    if (character === undefined) throw new PatternError('ends with a backslash')
    if (character === 'A') this.#mark({ re2: '\\A', js: '(?<![\\s\\S])' })
    else if (character === 'Z' || character === 'z') this.#mark({ re2: '\\z', js: '(?![\\s\\S])' })
    else if (character === 'b' || character === 'B') this.#mark(both(`\\${character}`))
    else if ('dDsSwW'.includes(character)) this.#atom(both(`\\${character}`))
    else if (/[1-9]/.test(character)) this.#digits(character)
    else this.#atom(literal(this.#escaped(character)))
  }

  /** A backreference of one or two digits, or an octal number of three. */
  #digits(first: string): void {
    const octal = /^[0-3][0-7]{2}/.exec(first + this.#characters.slice(this.#at, this.#at + 2).join(''))
    if (octal) {
      this.#at += 2
      this.#atom(literal(String.fromCharCode(Number.parseInt(octal[0], 8))))
      return
    }
    const second = /\d/.test(this.#next() ?? '') ? (this.#characters[this.#at++] as string) : ''
    this.#refer(first + second)
  }

  /** The character of an escape, inside or outside a class. */
  #escaped(character: string): string {
    const control = Object.hasOwn(CONTROLS, character) ? CONTROLS[character] : undefined
    if (control !== undefined) return control
    const length = Object.hasOwn(HEX_DIGITS, character) ? HEX_DIGITS[character] : undefined
    if (length !== undefined) {
      const hex = this.#characters.slice(this.#at, this.#at + length).join('')
      const code = Number.parseInt(hex, 16)
      if (hex.length !== length || /[^0-9a-fA-F]/.test(hex) || code > 0x10ffff)
        throw new PatternError(`has the impossible escape \\${character}${hex}`)
      this.#at += length
      return String.fromCodePoint(code)
    }
    if (character === '0') {
      const octal = /^[0-7]{0,2}/.exec(this.#characters.slice(this.#at, this.#at + 2).join(''))?.[0] ?? ''
      this.#at += octal.length
      return String.fromCharCode(Number.parseInt(`0${octal}`, 8))
    }
    if (/[A-Za-z1-9]/.test(character)) throw new PatternError(`has the unsupported escape \\${character}`)
    return character
  }

  #characterClass(): void {
    const pieces = [both(this.#take('^') ? '[^' : '[')]
    const first = this.#at
    while (this.#next() !== ']' || this.#at === first) {
      const low = this.#classMember()
      if (this.#next() !== '-' || this.#characters[this.#at + 1] === ']') {
        pieces.push(typeof low === 'string' ? literal(low) : low)
        continue
      }
      this.#at++
      const high = this.#classMember()
      if (typeof low !== 'string' || typeof high !== 'string' || high < low)
        throw new PatternError('has an impossible range of characters')
      pieces.push(literal(low), both('-'), literal(high))
    }
    this.#at++
    this.#atom(...pieces, both(']'))
  }

  /** A character, or a class like \d. */
  #classMember(): string | Piece {
    const character = this.#characters[this.#at++]
    if (character === undefined) throw new PatternError('has an unmatched [')
    if (character !== '\\') return character
    const escaped = this.#characters[this.#at++]
    if (escaped === undefined) throw new PatternError('has an unmatched [')
    if (escaped === 'b') return '\b'
    return 'dDsSwW'.includes(escaped) ? both(`\\${escaped}`) : this.#escaped(escaped)
  }
}

/** @throws PatternError */
export function translate(source: string): TranslatedPattern {
  return new Reader(source).read()
}
