/** Answers as parts of a stream. */
import type { LanguageModelV3StreamPart } from '@ai-sdk/provider'
import type { ChatEvent } from '../../generation/chat-generation'

interface OpenCall {
  readonly id: string
  readonly toolName: string
  input: string
}

/** Turns an answer's events into parts: blocks of text and reasoning that start and end, and tool calls. */
export class StreamParts {
  /** The block that the last text belongs to. */
  #block: { readonly type: 'text' | 'reasoning'; readonly id: string } | undefined
  #blocks = 0
  #call: OpenCall | undefined

  of(event: ChatEvent): LanguageModelV3StreamPart[] {
    switch (event.type) {
      case 'content':
        return this.#text('text', event.text)
      case 'reasoning':
        return this.#text('reasoning', event.text)
      case 'toolCallBegin': {
        const { id, name: toolName } = event
        this.#call = { id, toolName, input: '' }
        return [...this.#endBlock(), { type: 'tool-input-start', id, toolName }]
      }
      case 'toolCallArguments':
        return this.#arguments(event.text)
      case 'toolCallEnd':
        return this.#endCall(true)
      case 'logprobs':
        return []
    }
  }

  /** What ends with the answer. A call that was cut off is not made: its arguments are incomplete. */
  end(): LanguageModelV3StreamPart[] {
    return [...this.#endBlock(), ...this.#endCall(false)]
  }

  #text(type: 'text' | 'reasoning', delta: string): LanguageModelV3StreamPart[] {
    const parts: LanguageModelV3StreamPart[] = []
    if (this.#block?.type !== type) {
      parts.push(...this.#endBlock())
      this.#block = { type, id: `${type}-${this.#blocks++}` }
      parts.push({ type: `${type}-start`, id: this.#block.id })
    }
    return [...parts, { type: `${type}-delta`, id: this.#block.id, delta }]
  }

  #endBlock(): LanguageModelV3StreamPart[] {
    if (this.#block === undefined) return []
    const { type, id } = this.#block
    this.#block = undefined
    return [{ type: `${type}-end`, id }]
  }

  #arguments(delta: string): LanguageModelV3StreamPart[] {
    if (this.#call === undefined) return []
    this.#call.input += delta
    return [{ type: 'tool-input-delta', id: this.#call.id, delta }]
  }

  #endCall(isComplete: boolean): LanguageModelV3StreamPart[] {
    if (this.#call === undefined) return []
    const { id, toolName, input } = this.#call
    this.#call = undefined
    const end = { type: 'tool-input-end', id } as const
    return isComplete ? [end, { type: 'tool-call', toolCallId: id, toolName, input }] : [end]
  }
}
