import { findTag, skipSpace, TextMachine, type TextState, tagAt } from '../text-machine'
import { ParameterTypes } from './parameter-types'
import { ParameterValue } from './parameter-value'
import { TOOL_CALL_TAGS, type ToolCallSink, type ToolFunction, type ToolParser } from './tool-parser'

const [OPEN, CLOSE] = TOOL_CALL_TAGS
const FUNCTION = '<function='
const END_FUNCTION = '</function>'
const PARAMETER = '<parameter='

/**
 * Tool calls as Qwen3-Coder and Qwen3.5 write them:
 *
 *     <tool_call>
 *     <function=f>
 *     <parameter=city>
 *     Oslo
 *     </parameter>
 *     </function>
 *     </tool_call>
 *
 * Values are plain text, which the function's schema gives a type. Models forget tags, repeat them and misspell them; where
 * the next tag shows what was meant, the call is read as if it were right.
 */
export class Qwen3CoderParser extends TextMachine implements ToolParser {
  protected override state: TextState
  readonly #sink: ToolCallSink
  readonly #tools: ReadonlyMap<string, ToolFunction>
  /** What may still turn out to be text. */
  #raw = ''
  /** Whether the text so far ends with a new line, where a function's tag may stand alone. */
  #atLineStart = true
  #isTagged = false
  #name = ''
  #types = new ParameterTypes(undefined)
  #hasParameters = false
  #value: ParameterValue | undefined

  constructor(sink: ToolCallSink, tools: readonly ToolFunction[]) {
    super()
    this.#sink = sink
    this.#tools = new Map(tools.map((tool) => [tool.name, tool]))
    this.state = this.#text
  }

  end(isCut: boolean): void {
    this.finish()
    if (this.state === this.#tagged || this.state === this.#functionName) this.#sink.text(this.#raw)
    const isInside = this.state === this.#inValue || this.state === this.#parameterName || this.state === this.#body
    if (!isInside || isCut) return
    this.#value?.end()
    this.#endCall(this.#text)
  }

  readonly #text: TextState = (text, at, isEnd) => {
    const { at: end, tag } = findTag(text, at, [OPEN, FUNCTION], isEnd)
    this.#passOn(text.slice(at, end))
    if (tag === undefined) return end
    if (tag === FUNCTION && !this.#atLineStart) {
      this.#passOn(tag)
      return end + tag.length
    }
    this.#raw = tag
    this.#isTagged = tag === OPEN
    this.#name = ''
    this.state = this.#isTagged ? this.#tagged : this.#functionName
    return end + tag.length
  }

  /** Behind the tag of a call: that of a function, or it is no call. */
  readonly #tagged: TextState = (text, at, isEnd) => {
    const start = skipSpace(text, at)
    this.#raw += text.slice(at, start)
    if (start === text.length) return start
    const tag = tagAt(text, start, [FUNCTION], isEnd)
    if (tag === 'perhaps') return start
    if (tag === undefined) return this.#giveUp(start)
    this.#raw += tag
    this.#name = ''
    this.state = this.#functionName
    return start + tag.length
  }

  readonly #functionName: TextState = (text, at) => {
    const end = endOfName(text, at)
    this.#name += text.slice(at, end)
    this.#raw += text.slice(at, end)
    if (end === text.length) return end
    const isClosed = text[end] === '>'
    const isCall = this.#isTagged ? text[end] !== '<' : isClosed && this.#tools.has(this.#name)
    if (!isCall || this.#name === '') return this.#giveUp(end)
    this.#beginCall()
    return end + 1
  }

  /** Between parameters, where nothing but tags has a meaning. */
  readonly #body: TextState = (text, at, isEnd) => {
    const { at: end, tag } = findTag(text, at, [PARAMETER, END_FUNCTION, CLOSE, OPEN, FUNCTION], isEnd)
    if (tag === undefined) return end
    if (tag === PARAMETER) {
      this.#name = ''
      this.state = this.#parameterName
      return end + tag.length
    }
    this.#endCall(tag === END_FUNCTION ? this.#ended : this.#text)
    return tag === END_FUNCTION || tag === CLOSE ? end + tag.length : end
  }

  readonly #parameterName: TextState = (text, at) => {
    const start = this.#name === '' ? skipSpace(text, at) : at
    const end = endOfName(text, start, ':=')
    this.#name += text.slice(start, end)
    if (end === text.length) return end
    const isRight = text[end] === '>'
    const isMeant = text[end] !== '<' && this.#types.has(this.#name) // misspelled: `<parameter=ids: [1]`
    if (this.#name === '' || !(isRight || isMeant)) {
      this.state = this.#body
      return end
    }
    this.#sink.callArguments(`${this.#hasParameters ? ', ' : ''}${JSON.stringify(this.#name)}: `)
    this.#hasParameters = true
    this.#value = new ParameterValue(this.#types.of(this.#name), this.#types, (json) => this.#sink.callArguments(json))
    this.state = this.#inValue
    return isRight || text[end] !== '\n' ? end + 1 : end
  }

  readonly #inValue: TextState = (text, at, isEnd) => {
    const value = this.#value as ParameterValue
    const end = value.read(text, at, isEnd)
    if (value.isComplete) this.state = this.#body
    return end
  }

  /** Behind a function. */
  readonly #ended: TextState = (text, at, isEnd) => {
    const start = skipSpace(text, at)
    if (start === text.length) return start
    const tag = tagAt(text, start, [CLOSE], isEnd)
    if (tag === 'perhaps') return start
    this.state = this.#text
    return tag === undefined ? start : start + tag.length
  }

  #passOn(text: string): void {
    let start = text.length
    while (start > 0 && (text[start - 1] === ' ' || text[start - 1] === '\t')) start--
    if (start > 0) this.#atLineStart = text[start - 1] === '\n'
    this.#sink.text(text)
  }

  #giveUp(at: number): number {
    this.#passOn(this.#raw)
    this.state = this.#text
    return at
  }

  #beginCall(): void {
    this.#types = new ParameterTypes(this.#tools.get(this.#name)?.parameters)
    this.#hasParameters = false
    this.#sink.beginCall(this.#name)
    this.#sink.callArguments('{')
    this.state = this.#body
  }

  #endCall(next: TextState): void {
    this.#sink.callArguments('}')
    this.#sink.endCall()
    this.#atLineStart = true
    this.state = next
  }
}

function endOfName(text: string, at: number, others = ''): number {
  let end = at
  while (end < text.length && !`> <\n\r\t${others}`.includes(text[end] as string)) end++
  return end
}
