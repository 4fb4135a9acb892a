import type { Answer, AnswerEvent } from './answer-events'
import { AnswerWriter } from './answer-writer'
import { ReasoningSplitter, type ReasoningStart } from './reasoning'
import type { ToolCallSink, ToolParser } from './tools/tool-parser'

export interface AnswerParserOptions {
  /** Where the answer starts; undefined of models that do not reason. */
  readonly reasoning: ReasoningStart | undefined
  /** Makes the parser of tool calls; undefined where there are no tools, and all is text. */
  readonly tools: ((sink: ToolCallSink) => ToolParser) | undefined
  readonly maxCalls: number
  /** Whether a grammar takes care of calls, so that they come behind the reasoning, and only in answers that start with one. */
  readonly isConstrained: boolean
  newId(): string
}

/**
 * Reads an answer's text, tags included, as it is generated. The events, put together, do not depend on the parts in
 * which the text comes.
 */
export class AnswerParser {
  readonly #writer: AnswerWriter
  readonly #reasoning: ReasoningSplitter
  readonly #tools: ToolParser | undefined
  readonly #isConstrained: boolean
  #isText: boolean | undefined

  constructor({ reasoning, tools, maxCalls, isConstrained, newId }: AnswerParserOptions) {
    const writer = new AnswerWriter(newId, maxCalls)
    this.#writer = writer
    this.#isConstrained = isConstrained
    this.#reasoning = new ReasoningSplitter(reasoning ?? 'closed', {
      reasoning: (text) => writer.reasoning(text),
      content: (text) => (isConstrained ? this.#pushConstrained(text) : writer.content(text)),
    })
    this.#tools = tools?.({
      text: (text) => (isConstrained ? writer.content(text) : this.#reasoning.push(text)),
      beginCall: (name) => {
        this.#reasoning.end() // some models call a tool without closing their reasoning
        writer.beginCall(name)
      },
      callArguments: (text) => writer.callArguments(text),
      endCall: () => writer.endCall(),
    })
  }

  /** Whether the text so far ends in reasoning. */
  get isReasoning(): boolean {
    return this.#reasoning.isReasoning
  }

  /** Whether whatever follows is ignored: there are as many calls as wanted. */
  get isComplete(): boolean {
    return this.#writer.isComplete
  }

  /** Whether the answer ends with complete calls, whose results are to come next. */
  get callsTools(): boolean {
    return this.#writer.callsTools
  }

  get answer(): Answer {
    return this.#writer.answer
  }

  push(text: string): AnswerEvent[] {
    if (this.#tools && !this.#isConstrained) this.#tools.push(text)
    else this.#reasoning.push(text)
    return this.#writer.take()
  }

  /** @param isCut whether the answer was cut off, by its length or a stop string, rather than ended by the model */
  end(isCut: boolean): AnswerEvent[] {
    if (this.#isConstrained) this.#reasoning.end()
    this.#tools?.end(isCut)
    this.#reasoning.end()
    this.#writer.end()
    return this.#writer.take()
  }

  /** A tag inside a text of another form, such as in a string of JSON, begins no call. */
  #pushConstrained(text: string): void {
    if (text === '') return
    this.#isText ??= !text.startsWith('<')
    if (this.#isText || !this.#tools) this.#writer.content(text)
    else this.#tools.push(text)
  }
}
