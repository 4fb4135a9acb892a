import type { ToolFormat } from '../chat/formats'
import { isRecord, snapshot } from '../options/snapshot'
import type { ChatMessage } from './chat-message'

/**
 * Messages as templates expect them, from messages as clients send them back: arguments of tool calls are objects instead
 * of JSON, reasoning has the name that templates know, and a model's turn without a text has an empty one. A broken call
 * must not break every later turn: what is no JSON object stays text, in an object if the format has only those.
 * @throws BillfishError INVALID_OPTION for messages that cannot be read
 */
export function templateMessages(messages: unknown, format: ToolFormat | undefined): readonly ChatMessage[] {
  const copy = snapshot(messages, 'messages')
  if (!Array.isArray(copy)) return copy as readonly ChatMessage[] // the template refuses it
  return copy.map((message) => (isRecord(message) ? templateMessage(message, format) : message)) as ChatMessage[]
}

function templateMessage(message: Record<string, unknown>, format: ToolFormat | undefined): Record<string, unknown> {
  const { role, content, reasoning, tool_calls: calls, ...rest } = message
  const isAnswer = role === 'assistant' || role === 'tool'
  const thoughts = rest.reasoning_content ?? reasoning
  return {
    role,
    ...rest,
    content: isAnswer ? (content ?? '') : content,
    ...(typeof thoughts === 'string' && { reasoning_content: thoughts }),
    ...(Array.isArray(calls) && calls.length > 0 && { tool_calls: calls.map((call) => templateCall(call, format)) }),
  }
}

function templateCall(call: unknown, format: ToolFormat | undefined): unknown {
  if (!isRecord(call) || !isRecord(call.function)) return call
  const called = call.function
  return { ...call, function: { ...called, arguments: templateArguments(called.arguments, format) } }
}

function templateArguments(given: unknown, format: ToolFormat | undefined): unknown {
  const value = typeof given === 'string' ? parsedJson(given.trim() || 'null') : given
  if (isRecord(value)) return value
  if (value === null || given === undefined) return {}
  return format === 'qwen3_coder' ? { arguments: given } : given
}

/** Undefined if it is no JSON. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
