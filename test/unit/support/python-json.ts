import { Dict } from '../../../src/chat/jinja/values/dict'
import { parseJsonNumber } from '../../../src/chat/jinja/values/from-javascript'
import { Float, type Value } from '../../../src/chat/jinja/values/values'

/** No conversation nests deeper. */
const MAX_DEPTH = 200

const TOKEN =
  /[ \t\r\n]*(?:([[\]{},:])|"([^"\\]*(?:\\.[^"\\]*)*)"|(-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?)|(true|false|null|NaN|-?Infinity))/y

const WORDS: ReadonlyMap<string, Value> = new Map<string, Value>([
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', new Float(Number.NaN)],
  ['Infinity', new Float(Number.POSITIVE_INFINITY)],
  ['-Infinity', new Float(Number.NEGATIVE_INFINITY)],
])

/**
 * JSON as Python's json.loads reads it: numbers written with a point or an exponent are floats, others are ints of any
 * size. `JSON.parse` knows neither.
 * @throws SyntaxError
 */
export function parseJsonValue(text: string): Value {
  const reader = new Reader(text)
  const value = reader.value(0)
  reader.end()
  return value
}

class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  value(depth: number): Value {
    if (depth > MAX_DEPTH) throw new SyntaxError(`more than ${MAX_DEPTH} levels of arrays and objects`)
    const [, mark, string, number, , , word] = this.#token()
    if (string !== undefined) return JSON.parse(`"${string}"`) as string
    if (number !== undefined) return parseJsonNumber(number)
    if (word !== undefined) return WORDS.get(word) ?? null
    if (mark === '[') return this.#list(depth)
    if (mark === '{') return this.#dict(depth)
    throw this.#unexpected()
  }

  end(): void {
    if (this.#text.slice(this.#at).trim() !== '') throw this.#unexpected()
  }

  #token(): RegExpExecArray {
    TOKEN.lastIndex = this.#at
    const match = TOKEN.exec(this.#text)
    if (!match) throw this.#unexpected()
    this.#at = TOKEN.lastIndex
    return match
  }

  #closes(mark: string): boolean {
    const before = this.#at
    if (this.#token()[1] === mark) return true
    this.#at = before
    return false
  }

  #list(depth: number): Value[] {
    const items: Value[] = []
    if (this.#closes(']')) return items
    for (;;) {
      items.push(this.value(depth + 1))
      if (this.#continues(']')) return items
    }
  }

  #dict(depth: number): Dict {
    const dict = new Dict()
    if (this.#closes('}')) return dict
    for (;;) {
      const [, , key] = this.#token()
      if (key === undefined || this.#token()[1] !== ':') throw this.#unexpected()
      dict.setText(JSON.parse(`"${key}"`) as string, this.value(depth + 1))
      if (this.#continues('}')) return dict
    }
  }

  /** Takes a comma, or `close`, in which case the container ends. */
  #continues(close: string): boolean {
    const [, mark] = this.#token()
    if (mark !== ',' && mark !== close) throw this.#unexpected()
    return mark === close
  }

  #unexpected(): SyntaxError {
    return new SyntaxError(`unexpected ${JSON.stringify(this.#text.slice(this.#at, this.#at + 20))} at ${this.#at}`)
  }
}
