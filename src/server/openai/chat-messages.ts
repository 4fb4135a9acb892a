/** Messages of chat requests. */
import { z } from 'zod'
import type { ChatMessage } from '../../generation/chat-message'

const MAX_MESSAGES = 10_000

export const messagesField = z
  .array(z.looseObject({ role: z.string().min(1) }))
  .min(1)
  .max(MAX_MESSAGES)

/** With the older name of the system's role, which is the one that chat templates know. */
export function chatMessages(messages: z.output<typeof messagesField>): ChatMessage[] {
  return messages.map(({ role, ...rest }) => ({ ...rest, role: role === 'developer' ? 'system' : role }))
}
