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

  constructor({ reasoning, tools, maxCalls, newId }: AnswerParserOptions) {
    const writer = new AnswerWriter(newId, maxCalls)
    const splitter = new ReasoningSplitter(reasoning ?? 'closed', writer)
    this.#writer = writer
    this.#reasoning = splitter
    this.#tools = tools?.({
      text: (text) => splitter.push(text),
      beginCall(name) {
        splitter.end() // some models call a tool without closing their reasoning
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
    if (this.#tools) this.#tools.push(text)
    else this.#reasoning.push(text)
    return this.#writer.take()
  }

  /** @param isCut whether the answer was cut off, by its length or a stop string, rather than ended by the model */
  end(isCut: boolean): AnswerEvent[] {
    this.#tools?.end(isCut)
    this.#reasoning.end()
    this.#writer.end()
    return this.#writer.take()
  }
}
