import { findTag, skipSpace, tagAt } from '../text-machine'
import { jsonOfText, type ParameterType, type ParameterTypes } from './parameter-types'

const END = '</parameter>'
const PARAMETER = '<parameter='
const END_FUNCTION = '</function>'
const FUNCTION = '<function='
const OPEN = '<tool_call>'
const CLOSE = '</tool_call>'
/** The start of the end tag, which models also write as `</parameter1>` or `</parameter/>`. */
const ANY_END = '</parameter'
const MISSPELLED_END = /<\/parameter[^>\s<]{0,8}>/y
const LONGEST_END = ANY_END.length + 9

const MAX_NAME_LENGTH = 128

type State = 'start' | 'line' | 'lineStart' | 'afterEnd' | 'afterFunction' | 'complete'

/**
 * The value of a parameter, as text between tags that the text may contain, too. A tag ends the value if it stands at the
 * start of a line, or in the line of a value of one line, and if what follows is what follows a value. A whole call
 * inside the text belongs to it.
 */
export class ParameterValue {
  readonly #type: ParameterType
  readonly #siblings: Pick<ParameterTypes, 'has'>
  readonly #send: (json: string) => void
  #state: State = 'start'
  #isFirstLine = true
  /** A line break that belongs to the value only if more of it follows. */
  #newline = ''
  /** Tags that belong to the value if nothing follows them that may follow a value. */
  #pending = ''
  /** Calls inside the text that are open. */
  #depth = 0
  #collected = ''
  #hasStarted = false

  /** @param send takes parts of the value's JSON */
  constructor(type: ParameterType, siblings: Pick<ParameterTypes, 'has'>, send: (json: string) => void) {
    this.#type = type
    this.#siblings = siblings
    this.#send = send
  }

  get isComplete(): boolean {
    return this.#state === 'complete'
  }

  /** Reads on, like a state of a TextMachine; stops behind the value, in front of the tag that follows. */
  read(text: string, at: number, isEnd: boolean): number {
    let position = at
    while (!this.isComplete) {
      const state = this.#state
      const next = this.#step(text, position, isEnd)
      if (next === position && state === this.#state) break
      position = next
    }
    return position
  }

  /** The value ends here, whatever is missing. */
  end(): void {
    if (this.isComplete) return
    if (this.#streams) this.#send(this.#hasStarted ? '"' : '""')
    else this.#send(jsonOfText(this.#collected, this.#type))
    this.#state = 'complete'
  }

  #step(text: string, at: number, isEnd: boolean): number {
    switch (this.#state) {
      case 'start':
        return this.#start(text, at)
      case 'line':
        return this.#line(text, at, isEnd)
      case 'lineStart':
        return this.#lineStart(text, at, isEnd)
      case 'afterEnd':
        return this.#afterEnd(text, at, isEnd)
      case 'afterFunction':
        return this.#afterFunction(text, at, isEnd)
      case 'complete':
        return at
    }
  }

  #start(text: string, at: number): number {
    if (at === text.length) return at
    this.#isFirstLine = text[at] !== '\n'
    this.#state = this.#isFirstLine ? 'line' : 'lineStart'
    return this.#isFirstLine ? at : at + 1
  }

  #line(text: string, at: number, isEnd: boolean): number {
    const newline = text.indexOf('\n', at)
    const end = newline < 0 ? text.length : newline
    if (this.#isFirstLine) {
      const found = findTag(text.slice(at, end), 0, [END], isEnd || newline >= 0)
      if (found.tag !== undefined || at + found.at < end) {
        this.#add(text.slice(at, at + found.at))
        if (found.tag === undefined) return at + found.at
        return this.#suspend(END, 'afterEnd', at + found.at)
      }
    }
    this.#add(text.slice(at, end))
    if (newline < 0) return end
    this.#flushNewline()
    this.#newline = '\n'
    this.#isFirstLine = false
    this.#state = 'lineStart'
    return end + 1
  }

  #lineStart(text: string, at: number, isEnd: boolean): number {
    if (at === text.length) return at
    const tags = this.#depth > 0 ? [OPEN, CLOSE] : [ANY_END, PARAMETER, END_FUNCTION, CLOSE, OPEN]
    const tag = tagAt(text, at, tags, isEnd)
    switch (tag) {
      case 'perhaps':
        return at
      case OPEN:
        return this.#openCall(text, at, isEnd)
      case CLOSE:
        if (this.#depth === 0) return this.#endBefore(at)
        this.#depth--
        break
      case ANY_END:
        return this.#endTag(text, at, isEnd)
      case PARAMETER:
        return this.#nextParameter(text, at, isEnd)
      case END_FUNCTION:
        return this.#suspend(tag, 'afterFunction', at)
    }
    return this.#literal(at)
  }

  /** A call inside the text, whose tags mean nothing here; alone, its tag is any text. */
  #openCall(text: string, at: number, isEnd: boolean): number {
    const call = tagAt(text, at, [`${OPEN}\n${FUNCTION}`], isEnd)
    if (call === 'perhaps') return at
    if (call !== undefined) this.#depth++
    return this.#literal(at)
  }

  #endTag(text: string, at: number, isEnd: boolean): number {
    MISSPELLED_END.lastIndex = at
    const [tag] = MISSPELLED_END.exec(text) ?? []
    if (tag !== undefined) return this.#suspend(tag, 'afterEnd', at)
    if (!isEnd && text.length - at < LONGEST_END) return at
    return this.#state === 'lineStart' ? this.#literal(at) : this.#resume(at)
  }

  /** The next parameter, without the end of this one: if there is one of that name. */
  #nextParameter(text: string, at: number, isEnd: boolean): number {
    const start = at + PARAMETER.length
    let end = start
    while (end < text.length && end - start < MAX_NAME_LENGTH && !'> <\n\t'.includes(text[end] as string)) end++
    if (end === text.length && !isEnd) return at
    const name = text.slice(start, end)
    return text[end] === '>' && name !== '' && this.#siblings.has(name) ? this.#endBefore(at) : this.#literal(at)
  }

  #afterEnd(text: string, at: number, isEnd: boolean): number {
    const start = this.#skipSpace(text, at)
    if (start === text.length) return start
    const tag = tagAt(text, start, [ANY_END, PARAMETER, END_FUNCTION, CLOSE, OPEN, FUNCTION], isEnd)
    if (tag === 'perhaps') return start
    if (tag === ANY_END) return this.#endTag(text, start, isEnd)
    return tag === undefined ? this.#resume(start) : this.#endBefore(start)
  }

  #afterFunction(text: string, at: number, isEnd: boolean): number {
    const start = this.#skipSpace(text, at)
    if (start === text.length) return start
    const tag = tagAt(text, start, [CLOSE, OPEN, FUNCTION], isEnd)
    if (tag === 'perhaps') return start
    return tag === undefined ? this.#resume(start) : this.#endBefore(start)
  }

  #suspend(tag: string, state: State, at: number): number {
    this.#pending += this.#newline + tag
    this.#newline = ''
    this.#state = state
    return at + tag.length
  }

  /** What looked like the end was none. */
  #resume(at: number): number {
    this.#add(this.#pending)
    this.#pending = ''
    this.#state = 'line'
    return at
  }

  /** What is at the start of a line is no tag of the call. */
  #literal(at: number): number {
    this.#state = 'line'
    return at
  }

  #endBefore(at: number): number {
    this.end()
    return at
  }

  #skipSpace(text: string, at: number): number {
    const end = skipSpace(text, at)
    this.#pending += text.slice(at, end)
    return end
  }

  #flushNewline(): void {
    const newline = this.#newline
    this.#newline = ''
    this.#add(newline)
  }

  get #streams(): boolean {
    return this.#type.type === 'string' && !this.#type.isNullable
  }

  #add(text: string): void {
    if (text === '') return
    this.#flushNewline()
    if (!this.#streams) {
      this.#collected += text
      return
    }
    this.#send((this.#hasStarted ? '' : '"') + JSON.stringify(text).slice(1, -1))
    this.#hasStarted = true
  }
}
