import type { AnswerWriter } from './answer-writer'
import { findTag, skipSpace, TextMachine, type TextState, tagAt } from './text-machine'

const OPEN = '<think>'
const CLOSE = '</think>'

/** The tags around reasoning. */
export const REASONING_TAGS = [OPEN, CLOSE] as const

/** Where an answer starts: inside its reasoning, behind it, or with the tag if it has any. */
export type ReasoningStart = 'open' | 'closed' | 'tagged'

/**
 * Where the answer to a prompt starts. The prompt says so, and not the request: templates open and close reasoning by
 * rules of their own.
 * @param turn the end of the prompt, from the start of the answer's turn
 */
export function reasoningStart(turn: string): ReasoningStart {
  const [open, close] = [turn.lastIndexOf(OPEN), turn.lastIndexOf(CLOSE)]
  if (open < 0 && close < 0) return 'tagged'
  return open > close ? 'open' : 'closed'
}

/** Separates what a model thinks from what it answers. The newlines that templates put around the tags belong to neither. */
export class ReasoningSplitter extends TextMachine {
  protected override state: TextState
  readonly #out: Pick<AnswerWriter, 'content' | 'reasoning'>
  /** White space that a tag may follow. */
  #space = ''

  constructor(start: ReasoningStart, out: Pick<AnswerWriter, 'content' | 'reasoning'>) {
    super()
    this.#out = out
    this.state = { tagged: this.#untagged, open: this.#opened, closed: this.#content }[start]
  }

  get isReasoning(): boolean {
    return this.state === this.#opened || this.state === this.#reasoning
  }

  /** What comes next is no text: this also ends reasoning that is still open. */
  end(): void {
    this.finish()
    this.#space = ''
    this.state = this.#content
  }

  readonly #untagged: TextState = (text, at, isEnd) => {
    const start = skipSpace(text, at)
    this.#space += text.slice(at, start)
    if (start === text.length && !isEnd) return start
    const tag = tagAt(text, start, [OPEN], isEnd)
    if (tag === 'perhaps') return start
    if (tag === undefined) this.#out.content(this.#space)
    this.#space = ''
    this.state = tag === undefined ? this.#content : this.#opened
    return tag === undefined ? start : start + tag.length
  }

  /** Before the first letter. Some models repeat the tag that their prompt ends with. */
  readonly #opened: TextState = (text, at, isEnd) => {
    const start = skipSpace(text, at)
    if (start === text.length) return start
    const tag = tagAt(text, start, [OPEN], isEnd)
    if (tag === 'perhaps') return start
    if (tag === undefined) this.state = this.#reasoning
    return tag === undefined ? start : start + tag.length
  }

  readonly #reasoning: TextState = (text, at, isEnd) => {
    const { at: end, tag } = findTag(text, at, [CLOSE], isEnd)
    const last = endWithoutNewlines(text, at, end)
    if (last > at) {
      this.#out.reasoning(this.#space + text.slice(at, last))
      this.#space = ''
    }
    if (tag === undefined) {
      this.#space += text.slice(last, end)
      return end
    }
    this.#space = ''
    this.state = this.#closed
    return end + tag.length
  }

  readonly #closed: TextState = (text, at) => {
    let start = at
    while (text[start] === '\n') start++
    if (start < text.length) this.state = this.#content
    return start
  }

  readonly #content: TextState = (text, at) => {
    this.#out.content(text.slice(at))
    return text.length
  }
}

function endWithoutNewlines(text: string, from: number, to: number): number {
  let end = to
  while (end > from && text[end - 1] === '\n') end--
  return end
}
