/** Answers of `model.chat()` as OpenAI's clients read them. */
import type { ToolCall } from '../../chat/answer-events'
import type { ChatEvent, ChatResult } from '../../generation/chat-generation'
import { usageOf } from './results'

/** The part of a streamed message that an event adds; undefined if it adds none. */
export function deltaOf(event: ChatEvent, includeReasoning: boolean): object | undefined {
  switch (event.type) {
    case 'content':
      return { content: event.text }
    case 'reasoning':
      return includeReasoning ? { reasoning: event.text } : undefined
    case 'toolCallBegin': {
      const { index, id, name } = event
      return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] }
    }
    case 'toolCallArguments':
      return { tool_calls: [{ index: event.index, function: { arguments: event.text } }] }
    default:
      return undefined
  }
}

/** A whole message. What it has none of is left out, since clients look whether it is there. */
export function messageOf({ content, reasoning, toolCalls }: ChatResult, includeReasoning: boolean) {
  return {
    role: 'assistant',
    content,
    refusal: null,
    ...(includeReasoning && reasoning !== undefined && { reasoning }),
    ...(toolCalls.length > 0 && { tool_calls: toolCalls.map(toolCallOf) }),
  }
}

function toolCallOf({ id, name, arguments: json }: ToolCall) {
  return { id, type: 'function', function: { name, arguments: json } }
}

/** The tokens of all choices, and how many of them are reasoning. */
export function chatUsageOf(results: readonly ChatResult[]) {
  const reasoning = results.reduce((sum, { usage }) => sum + usage.reasoningTokens, 0)
  return { ...usageOf(results), completion_tokens_details: { reasoning_tokens: reasoning } }
}
