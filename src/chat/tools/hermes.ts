import { findTag, skipSpace, TextMachine, type TextState, tagAt } from '../text-machine'
import { JsonValue } from './json-value'
import { TOOL_CALL_TAGS, type ToolCallSink, type ToolParser } from './tool-parser'

const [OPEN, CLOSE] = TOOL_CALL_TAGS

/** A call that is being read. */
interface Call {
  /** All of it, for as long as it may turn out to be none. */
  raw: string
  hasBegun: boolean
  hasArguments: boolean
  /** Arguments that come before the name. */
  waiting: string
}

/**
 * Tool calls as Hermes, Qwen2.5 and Qwen3 write them:
 *
 *     <tool_call>
 *     {"name": "f", "arguments": {"city": "Oslo"}}
 *     </tool_call>
 *
 * Arguments are passed on as they come, so what breaks inside them stays part of them. What breaks before the name is
 * known is no call, but text. A tag alone is text, too: answers speak of tags.
 */
export class HermesParser extends TextMachine implements ToolParser {
  protected override state: TextState
  readonly #sink: ToolCallSink
  #call: Call = newCall('')
  #value = new JsonValue()
  /** The key that is being read, or the value, where that is not streamed. */
  #collected = ''
  #key = ''

  constructor(sink: ToolCallSink) {
    super()
    this.#sink = sink
    this.state = this.#text
  }

  end(isCut: boolean): void {
    this.finish()
    const call = this.#call
    if (this.state === this.#text || this.state === this.#closed) return
    if (!call.hasBegun) this.#sink.text(call.raw)
    else if (!isCut && call.hasArguments && this.state === this.#afterValue) this.#sink.endCall()
  }

  readonly #text: TextState = (text, at, isEnd) => {
    const { at: end, tag } = findTag(text, at, [OPEN], isEnd)
    this.#sink.text(text.slice(at, end))
    if (tag === undefined) return end
    this.#call = newCall(OPEN)
    this.state = this.#opened
    return end + OPEN.length
  }

  readonly #opened: TextState = (text, at) => {
    const start = this.#skipSpace(text, at)
    if (start === text.length) return start
    if (text[start] !== '{') return this.#giveUp(start)
    this.state = this.#object
    return this.#keep(text, start, start + 1)
  }

  /** Between members. */
  readonly #object: TextState = (text, at) => {
    const start = this.#skipSpace(text, at)
    if (start === text.length) return start
    switch (text[start]) {
      case '"':
        this.#read('', this.#inKey)
        return start
      case ',':
        return this.#keep(text, start, start + 1)
      case '}':
        return this.#closeObject(text, start)
      default:
        return this.#giveUp(start)
    }
  }

  readonly #inKey: TextState = (text, at) => {
    const { end, part } = this.#value.read(text, at)
    this.#collected += part
    this.#keep(text, at, end)
    if (!this.#value.isComplete) return end
    const key = parsed(this.#collected)
    if (typeof key !== 'string') return this.#giveUp(end)
    this.#key = key
    this.state = this.#colon
    return end
  }

  readonly #colon: TextState = (text, at) => {
    const start = this.#skipSpace(text, at)
    if (start === text.length) return start
    if (text[start] !== ':') return this.#giveUp(start)
    this.state = this.#beforeValue
    return this.#keep(text, start, start + 1)
  }

  readonly #beforeValue: TextState = (text, at) => {
    const start = this.#skipSpace(text, at)
    const first = text[start]
    if (first === undefined) return start
    if (',:}]'.includes(first)) return this.#giveUp(start)
    this.#read('', this.#isArguments && first === '{' ? this.#inArguments : this.#inValue)
    return start
  }

  readonly #inArguments: TextState = (text, at) => {
    const { end, part } = this.#value.read(text, at)
    this.#keep(text, at, end)
    this.#arguments(part)
    if (this.#value.isComplete) {
      this.#call.hasArguments = true
      this.state = this.#afterValue
    }
    return end
  }

  readonly #inValue: TextState = (text, at) => {
    const { end, part } = this.#value.read(text, at)
    this.#collected += part
    this.#keep(text, at, end)
    if (!this.#value.isComplete) return end
    const value = parsed(this.#collected)
    if (this.#key === 'name' && !this.#call.hasBegun) {
      if (typeof value !== 'string' || value === '') return this.#giveUp(end)
      this.#begin(value)
    } else if (this.#isArguments) {
      this.#arguments(argumentsOf(value, this.#collected))
      this.#call.hasArguments = true
    }
    this.state = this.#afterValue
    return end
  }

  readonly #afterValue: TextState = (text, at) => {
    const start = this.#skipSpace(text, at)
    if (start === text.length) return start
    if (text[start] === '}') return this.#closeObject(text, start)
    if (text[start] !== ',') return this.#giveUp(start)
    this.state = this.#object
    return this.#keep(text, start, start + 1)
  }

  /** Behind the call's object: its closing tag, and braces too many. */
  readonly #closed: TextState = (text, at, isEnd) => {
    let start = skipSpace(text, at)
    while (text[start] === '}') start = skipSpace(text, start + 1)
    if (start === text.length) return start
    const tag = tagAt(text, start, [CLOSE], isEnd)
    if (tag === 'perhaps') return start
    this.state = this.#text
    return tag === undefined ? start : start + CLOSE.length
  }

  /** A call whose JSON breaks when its name has been passed on: the rest is all that is known of its arguments. */
  readonly #broken: TextState = (text, at, isEnd) => {
    const { at: end, tag } = findTag(text, at, [CLOSE], isEnd)
    if (!this.#call.hasArguments) this.#sink.callArguments(text.slice(at, end))
    if (tag === undefined) return end
    this.#sink.endCall()
    this.state = this.#text
    return end + CLOSE.length
  }

  get #isArguments(): boolean {
    return (this.#key === 'arguments' || this.#key === 'parameters') && !this.#call.hasArguments
  }

  #read(collected: string, state: TextState): void {
    this.#value = new JsonValue()
    this.#collected = collected
    this.state = state
  }

  #begin(name: string): void {
    const call = this.#call
    this.#sink.beginCall(name)
    this.#sink.callArguments(call.waiting)
    call.hasBegun = true
    call.raw = ''
  }

  #arguments(text: string): void {
    if (this.#call.hasBegun) this.#sink.callArguments(text)
    else this.#call.waiting += text
  }

  #closeObject(text: string, at: number): number {
    const end = this.#keep(text, at, at + 1)
    if (!this.#call.hasBegun) return this.#giveUp(end)
    this.#sink.endCall()
    this.state = this.#closed
    return end
  }

  #giveUp(at: number): number {
    this.state = this.#call.hasBegun ? this.#broken : this.#text
    if (!this.#call.hasBegun) this.#sink.text(this.#call.raw)
    return at
  }

  #skipSpace(text: string, at: number): number {
    return this.#keep(text, at, skipSpace(text, at))
  }

  #keep(text: string, from: number, to: number): number {
    if (!this.#call.hasBegun) this.#call.raw += text.slice(from, to)
    return to
  }
}

function newCall(raw: string): Call {
  return { raw, hasBegun: false, hasArguments: false, waiting: '' }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

/** Arguments that are no object: some models write their JSON as a string, and null for none. */
function argumentsOf(value: unknown, json: string): string {
  if (value === null) return '{}'
  if (typeof value !== 'string') return json
  return value.trim() === '' ? '{}' : value
}
