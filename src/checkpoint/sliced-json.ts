import { SLICE_SIZE, yieldToEventLoop } from '../common/event-loop'
import { quoted } from './invalid'

/** What no file of a checkpoint comes near, unless options say less. Each level is a frame on the stack. */
const MAX_DEPTH = 128
/** Members and items by default: half as many again as the largest vocabulary in use and its merges have. */
const MAX_VALUES = 3_000_000
/** Of an object that does not become a Map: what is made in one go must not hold the event loop. */
const MAX_MEMBERS = 32_768
/** Of the object that becomes one: twice the largest vocabulary in use. */
const MAX_MAP_MEMBERS = 524_288
/** Of an array that is not beside that object, where merges are; other texts have a limit on their values. */
const MAX_ITEMS = 131_072
const MAX_STRING_LENGTH = 2 * 1024 * 1024
/** A slice also ends after so many characters, however few values they hold. */
const SLICE_CHARACTERS = 512 * 1024
/** From this length on, String.prototype.slice() gives a view that keeps the whole text in memory. */
const VIEW_LENGTH = 13
/** Characters of white space in a row. */
const MAX_SPACE = 1024 * 1024
/** Characters of the longest number or word that the patterns below match, and one more. */
const SCALAR_WINDOW = 2048
/** No number has more digits, and without bounds a pattern takes memory for each. */
const NUMBER = /-?(?:0|[1-9]\d{0,400})(?:\.\d{1,400})?(?:[eE][+-]?\d{1,400})?|true|false|null/y
const NUMBER_OR_NOT_FINITE = new RegExp(`${NUMBER.source}|NaN|-?Infinity`, 'y')

export interface JsonOptions {
  /**
   * Path of an object that becomes a Map (`model.vocab`; `''` is the whole text): an object with so many members would
   * take longer to be built and walked than the text to be read.
   */
  readonly mapAt?: string | undefined
  /** Nested arrays and objects; 128 by default, and at most. */
  readonly maxDepth?: number | undefined
  /** Members and items together; 3,000,000 by default. */
  readonly maxValues?: number | undefined
  /** Whether an object may not name a key twice; by default the last one counts, as for JSON.parse. */
  readonly uniqueKeys?: boolean | undefined
  /** Whether NaN, Infinity and -Infinity are read, which Python's json module writes. */
  readonly nonFinite?: boolean | undefined
}

/** For JSON that is refused for what it holds; the message goes on where the name of the text ends. */
export class RefusedJson extends SyntaxError {}

const QUOTE = 0x22
const COMMA = 0x2c
const DIGIT_NINE = 0x39
const COLON = 0x3a
const CAPITAL_I = 0x49
const CAPITAL_N = 0x4e
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/**
 * As JSON.parse, but other events have their turn every few thousand values: a vocabulary of 150,000 tokens takes
 * JSON.parse more than a tenth of a second.
 * @throws SyntaxError, also for a text that holds more than it may
 */
export async function parseJsonInSlices(text: string | readonly string[], options: JsonOptions = {}): Promise<unknown> {
  const reading = new Reader(typeof text === 'string' ? [text] : text, options).document()
  for (;;) {
    const { done, value } = reading.next()
    if (done) return value
    await yieldToEventLoop()
  }
}

/**
 * Walks through a window of the text: what has been read is left behind, and the next piece put on, where the window ends.
 * So no string is made of tens of megabytes, which takes as many milliseconds.
 *
 * Methods that are generators yield between slices; what reads a single string, number or word is not one, for speed.
 */
class Reader {
  /** The window; nothing outside of refill() may keep an index of it where that may have been called. */
  #text = ''
  #at = 0
  /** Characters that have been left behind. */
  #before = 0
  #nextPiece = 0
  #values = 0
  #sliceEnd = SLICE_CHARACTERS
  readonly #scalar: RegExp
  readonly #pieces: readonly string[]
  readonly #options: JsonOptions
  readonly #maxDepth: number
  readonly #maxValues: number
  /** How paths begin into the object that holds the one at `mapAt`, where that is not the whole text. */
  readonly #bulk: string | undefined

  constructor(pieces: readonly string[], options: JsonOptions) {
    this.#pieces = pieces
    this.#options = options
    this.#scalar = new RegExp(options.nonFinite ? NUMBER_OR_NOT_FINITE : NUMBER)
    this.#maxDepth = Math.min(MAX_DEPTH, options.maxDepth ?? MAX_DEPTH)
    this.#maxValues = options.maxValues ?? MAX_VALUES
    const dot = options.mapAt?.lastIndexOf('.') ?? -1
    this.#bulk = dot < 0 ? undefined : options.mapAt?.slice(0, dot + 1)
  }

  *document(): Generator<void, unknown> {
    const code = this.#skipSpace()
    const value = isContainer(code) ? yield* this.#container('', 1) : this.#leaf(code)
    this.#skipSpace()
    if (this.#at < this.#text.length) throw this.#unexpected()
    return value
  }

  *#container(path: string, depth: number): Generator<void, unknown> {
    if (depth > this.#maxDepth) throw new RefusedJson(`has more than ${this.#maxDepth} levels of arrays and objects`)
    const isObject = this.#text.charCodeAt(this.#at++) === OPEN_BRACE
    return isObject ? yield* this.#object(path, depth) : yield* this.#array(path, depth)
  }

  *#object(path: string, depth: number): Generator<void, unknown> {
    const members = new Map<string, unknown>()
    for (let more = !this.#closes(CLOSE_BRACE); more; more = this.#continues(CLOSE_BRACE)) {
      if (this.#skipSpace() !== QUOTE) throw this.#unexpected()
      const key = this.#string()
      if (this.#skipSpace() !== COLON) throw this.#unexpected()
      this.#at++
      const code = this.#skipSpace()
      if (this.#options.uniqueKeys && members.has(key)) {
        throw new RefusedJson(`names ${quoted(key)} twice; which one is meant cannot be known`)
      }
      const inner = path === '' ? key : `${path}.${key}`
      members.set(key, isContainer(code) ? yield* this.#container(inner, depth + 1) : this.#leaf(code))
      const most = path === this.#options.mapAt ? MAX_MAP_MEMBERS : MAX_MEMBERS
      if (members.size > most) throw new RefusedJson(`has an object of more than ${most} members`)
      if (this.#endsSlice()) yield
    }
    return path === this.#options.mapAt ? members : Object.fromEntries(members)
  }

  *#array(path: string, depth: number): Generator<void, unknown[]> {
    const items: unknown[] = []
    for (let more = !this.#closes(CLOSE_BRACKET); more; more = this.#continues(CLOSE_BRACKET)) {
      const code = this.#skipSpace()
      if (items.length === MAX_ITEMS && this.#bulk !== undefined && !path.startsWith(this.#bulk)) {
        throw new RefusedJson(`has an array of more than ${MAX_ITEMS} items`)
      }
      items.push(isContainer(code) ? yield* this.#container(`${path}[]`, depth + 1) : this.#leaf(code))
      if (this.#endsSlice()) yield
    }
    return items
  }

  /** Counts a value; true if other events are due. */
  #endsSlice(): boolean {
    if (++this.#values > this.#maxValues) throw new RefusedJson(`has more than ${this.#maxValues} values`)
    const position = this.#before + this.#at
    if (this.#values % SLICE_SIZE !== 0 && position < this.#sliceEnd) return false
    this.#sliceEnd = position + SLICE_CHARACTERS
    return true
  }

  /** Puts the next piece on the window, which then begins at `at`; false if there is none. */
  #refill(): boolean {
    const piece = this.#pieces[this.#nextPiece++]
    if (piece === undefined) return false
    this.#text = this.#text.slice(this.#at) + piece
    this.#before += this.#at
    this.#at = 0
    return true
  }

  /** Takes `close`, if it comes next: the container is empty. */
  #closes(close: number): boolean {
    if (this.#skipSpace() !== close) return false
    this.#at++
    return true
  }

  /** Takes what comes after a member: a comma, and another member, or `close`. */
  #continues(close: number): boolean {
    const code = this.#skipSpace()
    if (code !== COMMA && code !== close) throw this.#unexpected()
    this.#at++
    return code === COMMA
  }

  #leaf(code: number): unknown {
    if (code === QUOTE) return this.#string()
    while (this.#text.length - this.#at < SCALAR_WINDOW && this.#refill());
    this.#scalar.lastIndex = this.#at
    const word = this.#scalar.exec(this.#text)?.[0]
    if (word === undefined) throw this.#unexpected()
    this.#at += word.length
    return code <= DIGIT_NINE || code === CAPITAL_I || code === CAPITAL_N ? Number(word) : JSON.parse(word)
  }

  #string(): string {
    let end = this.#closingQuote()
    while (end < 0) {
      this.#checkStringLength(this.#text.length - this.#at)
      if (!this.#refill()) throw new SyntaxError(`a string without an end at position ${this.#before + this.#at}`)
      end = this.#closingQuote()
    }
    const from = this.#at
    const length = end - from - 1
    this.#checkStringLength(length)
    this.#at = end + 1
    if (length < VIEW_LENGTH) {
      const raw = this.#text.slice(from + 1, end)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what JSON wants escaped
      if (!/[\\\u0000-\u001f]/.test(raw)) return raw
    }
    return JSON.parse(this.#text.slice(from, this.#at))
  }

  /** Where the string at `at` ends; -1 if not within the window. */
  #closingQuote(): number {
    let end = this.#text.indexOf('"', this.#at + 1)
    while (end >= 0 && this.#isEscaped(end)) end = this.#text.indexOf('"', end + 1)
    return end
  }

  #checkStringLength(length: number): void {
    if (length > MAX_STRING_LENGTH) throw new RefusedJson(`has a string of more than ${MAX_STRING_LENGTH} characters`)
  }

  /** Whether an odd number of backslashes stands before a quote: the others escape each other. */
  #isEscaped(quote: number): boolean {
    let first = quote
    while (this.#text.charCodeAt(first - 1) === BACKSLASH) first--
    return (quote - first) % 2 === 1
  }

  /** Goes to the next character that is not white space, and returns it; NaN at the end. */
  #skipSpace(): number {
    for (let spaces = 0; spaces <= MAX_SPACE; ) {
      const code = this.#text.charCodeAt(this.#at)
      if (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) {
        this.#at++
        spaces++
      } else if (!Number.isNaN(code) || !this.#refill()) {
        return code
      }
    }
    throw new RefusedJson(`has more than ${MAX_SPACE} characters of white space in a row`)
  }

  #unexpected(): SyntaxError {
    const found = this.#at < this.#text.length ? JSON.stringify(this.#text.slice(this.#at, this.#at + 20)) : 'the end'
    return new SyntaxError(`unexpected ${found} at position ${this.#before + this.#at}`)
  }
}

function isContainer(code: number): boolean {
  return code === OPEN_BRACE || code === OPEN_BRACKET
}
