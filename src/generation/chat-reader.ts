import { randomBytes } from 'node:crypto'
import type { Answer, AnswerEvent } from '../chat/answer-events'
import { AnswerParser } from '../chat/answer-parser'
import { type ReasoningFormat, reasoningTags, startOf, TOOL_FORMATS, type ToolFormat } from '../chat/formats'
import { reasoningStart } from '../chat/reasoning'
import type { AnswerForm } from '../chat/structured/spec'
import { TOOL_CALL_TAGS, type ToolFunction } from '../chat/tools/tool-parser'
import type { AnswerReader } from './answer-reader'
import type { FinishReason } from './results'
import type { Tokenizer } from './types'

/** Tokens at the end of a prompt in which its last turn is looked for. */
const MAX_TURN_TOKENS = 4096

/** Why an answer ended: as {@link FinishReason}, or so that tools are called. */
export type ChatFinishReason = FinishReason | 'tool_calls'

export interface ChatReaderOptions {
  /** Undefined if the model knows of none. */
  readonly tools:
    | {
        readonly format: ToolFormat
        readonly functions: readonly ToolFunction[]
        /** Whether there may be more than one call. */
        readonly isParallel: boolean
      }
    | undefined
  readonly reasoning: ReasoningFormat
  /** What the answer must be behind its reasoning; undefined if it may be anything. */
  readonly form: AnswerForm | undefined
}

/** Reads an answer into content, reasoning and tool calls. */
export class ChatReader implements AnswerReader {
  readonly tags: readonly string[]
  readonly #tokenizer: Pick<Tokenizer, 'decode' | 'specialIds' | 'tokenToId'>
  readonly #options: ChatReaderOptions
  #parser: AnswerParser
  #reasoningTokens = 0

  constructor(tokenizer: Pick<Tokenizer, 'decode' | 'specialIds' | 'tokenToId'>, options: ChatReaderOptions) {
    const { tools, reasoning } = options
    this.tags = [...reasoningTags(reasoning), ...(tools === undefined ? [] : TOOL_CALL_TAGS)]
    this.#tokenizer = tokenizer
    this.#options = options
    this.#parser = this.#parserAfter([])
  }

  get form(): AnswerForm | undefined {
    return this.#options.form
  }

  begin(prompt: readonly number[]): void {
    this.#parser = this.#parserAfter(prompt)
  }

  read(text: string): AnswerEvent[] {
    const parser = this.#parser
    const wasReasoning = parser.isReasoning
    const events = parser.push(text)
    if (wasReasoning || parser.isReasoning) this.#reasoningTokens++
    return events
  }

  get isReasoning(): boolean {
    return this.#parser.isReasoning
  }

  get isComplete(): boolean {
    return this.#parser.isComplete
  }

  end(finishReason: FinishReason, stoppedBy: string | number | undefined): AnswerEvent[] {
    return this.#parser.end(finishReason === 'length' || typeof stoppedBy === 'string')
  }

  get answer(): Answer {
    return this.#parser.answer
  }

  /** Tokens of reasoning, tags included. */
  get reasoningTokens(): number {
    return this.#reasoningTokens
  }

  /** An answer that is cut off is no request to call anything. */
  finishReason(reason: FinishReason): ChatFinishReason {
    return reason === 'stop' && this.#parser.callsTools ? 'tool_calls' : reason
  }

  #parserAfter(prompt: readonly number[]): AnswerParser {
    const { tools, reasoning, form } = this.#options
    return new AnswerParser({
      reasoning: startOf(reasoning, reasoningStart(this.#lastTurn(prompt))),
      tools: tools && ((sink) => TOOL_FORMATS[tools.format].parser(sink, tools.functions)),
      maxCalls: tools?.isParallel === false ? 1 : Number.POSITIVE_INFINITY,
      isConstrained: form !== undefined,
      newId: () => `call_${randomBytes(12).toString('hex')}`,
    })
  }

  /** The text of a prompt after its last special token, which starts the answer's turn. Tags may be special, too. */
  #lastTurn(prompt: readonly number[]): string {
    const { specialIds } = this.#tokenizer
    const tagIds = this.tags.map((tag) => this.#tokenizer.tokenToId(tag))
    const least = Math.max(0, prompt.length - MAX_TURN_TOKENS)
    let start = prompt.length
    while (start > least) {
      const id = prompt[start - 1] as number
      if (specialIds.has(id) && !tagIds.includes(id)) break
      start--
    }
    return this.#tokenizer.decode(prompt.slice(start), { skipSpecialTokens: false })
  }
}
