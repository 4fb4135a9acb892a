/** What a conversation shows, and how an answer grows out of its parts. */
import { formatCount, formatRate } from '../common/format'
import type { AnswerPart } from './answer-parts'

export interface Turn {
  readonly role: 'user' | 'assistant'
  readonly content: string
  readonly reasoning?: string
  /** How many tokens it took, how fast, and why it ended if not by itself. */
  readonly note?: string
}

const ENDS: Readonly<Record<string, string>> = { length: 'cut off: no tokens were left', stopped: 'stopped' }

export class Answer {
  readonly #report: (turn: Turn) => void
  readonly #times: number[] = []
  #turn: Turn = { role: 'assistant', content: '' }
  #reason = 'stop'
  #tokens: number | undefined

  /** @param report is given the answer so far, whenever there is more of it */
  constructor(report: (turn: Turn) => void) {
    this.#report = report
  }

  get isEmpty(): boolean {
    return this.#turn.content === '' && !this.#turn.reasoning
  }

  add(part: AnswerPart): void {
    switch (part.type) {
      case 'end':
        this.end(part.reason)
        break
      case 'usage':
        this.#tokens = part.completionTokens
        this.#show({})
        break
      default:
        this.#times.push(performance.now())
        this.#show({ [part.type]: (this.#turn[part.type] ?? '') + part.text })
    }
  }

  /** @param reason the server's finish_reason, or stopped */
  end(reason: string): void {
    this.#reason = reason
    this.#show({})
  }

  #show(more: Partial<Turn>): void {
    const notes = [this.#speed(), ENDS[this.#reason]].filter((note) => note !== undefined)
    this.#turn = { ...this.#turn, ...more, ...(notes.length > 0 && { note: notes.join(', ') }) }
    this.#report(this.#turn)
  }

  /** Known once the server has counted; from the first token on, so that waiting for it does not count. */
  #speed(): string | undefined {
    if (this.#tokens === undefined) return undefined
    const seconds = ((this.#times.at(-1) ?? 0) - (this.#times[0] ?? 0)) / 1000
    const count = `${formatCount(this.#tokens)} ${this.#tokens === 1 ? 'token' : 'tokens'}`
    return seconds > 0 ? `${count}, ${formatRate((this.#tokens - 1) / seconds)} tokens/s` : count
  }
}
