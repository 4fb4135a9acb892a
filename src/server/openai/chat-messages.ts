/** Messages of chat requests as chat templates expect them. */
import { z } from 'zod'
import type { ChatMessage } from '../../generation/chat-template'

const MAX_MESSAGES = 10_000

export const messagesField = z
  .array(z.looseObject({ role: z.string().min(1) }))
  .min(1)
  .max(MAX_MESSAGES)

/** With the older name of the system's role, and arguments of tool calls as objects. */
export function templateMessage({ role, ...rest }: z.output<typeof messagesField>[number]): ChatMessage {
  const message = { ...rest, role: role === 'developer' ? 'system' : role }
  const { tool_calls: calls } = rest
  if (!Array.isArray(calls)) return message
  return { ...message, tool_calls: calls.map(withParsedArguments) }
}

/** What is not JSON stays a string: a model's broken call must not break every later turn. */
function withParsedArguments(call: unknown): unknown {
  const { function: called } = (call ?? {}) as { function?: { arguments?: unknown } }
  if (typeof called?.arguments !== 'string') return call
  try {
    return { ...(call as object), function: { ...called, arguments: JSON.parse(called.arguments) } }
  } catch {
    return call
  }
}
