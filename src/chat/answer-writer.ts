import type { Answer, AnswerEvent, ToolCall } from './answer-events'
import { trailingSpace } from './text-machine'

/** What parsers write an answer to: collects it as events and as a whole. */
export class AnswerWriter {
  readonly #newId: () => string
  readonly #maxCalls: number
  #events: AnswerEvent[] = []
  #content = ''
  #reasoning = ''
  /** White space that is dropped if a call follows it, or the end behind calls. */
  #space = ''
  readonly #calls: { id: string; name: string; arguments: string }[] = []
  #isOpen = false

  /**
   * @param newId makes the id of a tool call
   * @param maxCalls nothing is written after as many calls
   */
  constructor(newId: () => string, maxCalls: number) {
    this.#newId = newId
    this.#maxCalls = maxCalls
  }

  /** Whether nothing more is written: there are as many calls as wanted. */
  get isComplete(): boolean {
    return !this.#isOpen && this.#calls.length >= this.#maxCalls
  }

  /** Whether the answer ends with calls that are complete, so that their results are what comes next. */
  get callsTools(): boolean {
    return this.#calls.length > 0 && !this.#isOpen
  }

  get answer(): Answer {
    const calls: readonly ToolCall[] = this.#calls.map((call) => ({ ...call }))
    const isEmpty = this.#content === '' && (calls.length > 0 || this.#reasoning !== '')
    return {
      content: isEmpty ? null : this.#content,
      ...(this.#reasoning !== '' && { reasoning: this.#reasoning }),
      toolCalls: calls,
    }
  }

  /** The events since the last call. */
  take(): AnswerEvent[] {
    const events = this.#events
    this.#events = []
    return events
  }

  reasoning(text: string): void {
    if (text === '' || this.isComplete) return
    this.#reasoning += text
    this.#append('reasoning', text)
  }

  content(text: string): void {
    if (text === '' || this.isComplete) return
    const end = trailingSpace(text)
    if (end > 0) this.#sendContent(this.#space + text.slice(0, end))
    this.#space = end > 0 ? text.slice(end) : this.#space + text
  }

  beginCall(name: string): void {
    if (this.isComplete) return
    this.#space = ''
    const call = { id: this.#newId(), name, arguments: '' }
    this.#isOpen = true
    this.#events.push({ type: 'toolCallBegin', index: this.#calls.length, id: call.id, name })
    this.#calls.push(call)
  }

  callArguments(text: string): void {
    const call = this.#calls.at(-1)
    if (text === '' || !call || !this.#isOpen) return
    call.arguments += text
    this.#append('toolCallArguments', text)
  }

  endCall(): void {
    if (!this.#isOpen) return
    if (this.#calls.at(-1)?.arguments === '') this.callArguments('{}') // an empty text is no JSON
    this.#isOpen = false
    this.#events.push({ type: 'toolCallEnd', index: this.#calls.length - 1 })
  }

  /** The answer ends. */
  end(): void {
    if (this.#calls.length === 0) this.#sendContent(this.#space)
    else if (this.#calls.at(-1)?.arguments === '') this.callArguments('{}')
    this.#space = ''
  }

  #sendContent(text: string): void {
    if (text === '') return
    this.#content += text
    this.#append('content', text)
  }

  /** Appends to the last event, if it is of the same kind. */
  #append(type: 'reasoning' | 'content' | 'toolCallArguments', text: string): void {
    const last = this.#events.at(-1)
    const joined = last?.type === type ? last.text + text : text
    if (last?.type === type) this.#events.pop()
    const index = this.#calls.length - 1
    this.#events.push(type === 'toolCallArguments' ? { type, index, text: joined } : { type, text: joined })
  }
}
