/** Answers of `model.chat()` as Anthropic's clients read them. */
import type { ToolCall } from '../../chat/answer-events'
import type { ChatEvent, ChatGeneration, ChatResult } from '../../generation/chat-generation'

/** What all parts of an answer have in common. */
export interface Head {
  readonly id: string
  readonly model: string
}

/** A whole answer. */
export function messageOf({ id, model }: Head, result: ChatResult) {
  const { content, reasoning, toolCalls } = result
  return {
    id,
    type: 'message',
    role: 'assistant',
    model,
    content: [
      ...(reasoning === undefined ? [] : [{ type: 'thinking', thinking: reasoning, signature: '' }]),
      ...(content === null || content === '' ? [] : [{ type: 'text', text: content }]),
      ...toolCalls.map(toolUseOf),
    ],
    ...stopOf(result),
    usage: usageOf(result),
  }
}

function toolUseOf({ id, name, arguments: json }: ToolCall) {
  return { type: 'tool_use', id, name, input: inputOf(json) }
}

/** An answer may be cut off within a call's arguments: what is no object is none. */
function inputOf(json: string): object {
  try {
    const input: unknown = JSON.parse(json)
    return typeof input === 'object' && input !== null && !Array.isArray(input) ? input : {}
  } catch {
    return {}
  }
}

const STOP_REASONS = { stop: 'end_turn', length: 'max_tokens', tool_calls: 'tool_use' } as const

function stopOf({ finishReason, stoppedBy }: ChatResult) {
  if (typeof stoppedBy === 'string') return { stop_reason: 'stop_sequence', stop_sequence: stoppedBy }
  return { stop_reason: STOP_REASONS[finishReason], stop_sequence: null }
}

function usageOf({ usage }: ChatResult) {
  const { promptTokens, cachedTokens, completionTokens } = usage
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: completionTokens,
  }
}

/** The events of a streamed answer. Nothing is said before its first token; its prompt is counted at its end. */
export async function* messageEvents({ id, model }: Head, chat: ChatGeneration) {
  const blocks = new Blocks()
  let isFirst = true
  const start = {
    type: 'message_start',
    message: {
      ...{ id, type: 'message', role: 'assistant', model, content: [], stop_reason: null, stop_sequence: null },
      usage: { input_tokens: 0, output_tokens: 0 },
    },
  }
  for await (const event of chat) {
    if (isFirst) yield start
    isFirst = false
    yield* blocks.of(event)
  }
  if (isFirst) yield start
  yield* blocks.end()
  const result = await chat.result()
  yield { type: 'message_delta', delta: stopOf(result), usage: usageOf(result) }
  yield { type: 'message_stop' }
}

/** Opens a block for each kind of part, and closes it before the next one. */
class Blocks {
  #index = -1
  #open: 'text' | 'thinking' | 'tool_use' | undefined;

  *of(event: ChatEvent): Generator<object, void> {
    switch (event.type) {
      case 'content':
        if (this.#open !== 'text') yield* this.#begin('text', { text: '' })
        yield this.#delta({ type: 'text_delta', text: event.text })
        return
      case 'reasoning':
        if (this.#open !== 'thinking') yield* this.#begin('thinking', { thinking: '', signature: '' })
        yield this.#delta({ type: 'thinking_delta', thinking: event.text })
        return
      case 'toolCallBegin':
        yield* this.#begin('tool_use', { id: event.id, name: event.name, input: {} })
        return
      case 'toolCallArguments':
        yield this.#delta({ type: 'input_json_delta', partial_json: event.text })
        return
      case 'toolCallEnd':
        yield* this.end()
    }
  }

  *end(): Generator<object, void> {
    if (this.#open !== undefined) yield { type: 'content_block_stop', index: this.#index }
    this.#open = undefined
  }

  *#begin(type: 'text' | 'thinking' | 'tool_use', members: object): Generator<object, void> {
    yield* this.end()
    this.#index++
    this.#open = type
    yield { type: 'content_block_start', index: this.#index, content_block: { type, ...members } }
  }

  #delta(delta: object) {
    return { type: 'content_block_delta', index: this.#index, delta }
  }
}
