import { z } from 'zod'
import { BillfishError } from '../common/errors'
import { invalidOption, printed } from '../options/printed'
import { snapshot } from '../options/snapshot'
import type { ChatMessage } from './chat-message'

const messageSchema = z.looseObject({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(z.strictObject({ type: z.literal('text'), text: z.string() }))]).nullish(),
})

/**
 * Normalizes messages for a template: every content becomes a string.
 * @throws BillfishError INVALID_OPTION naming the message
 */
export function normalizeMessages(messages: readonly ChatMessage[]): Record<string, unknown>[] {
  const copy = snapshot(messages, 'messages')
  if (Array.isArray(copy)) return normalized(copy)
  throw invalidOption('messages', copy, 'an array of messages')
}

function normalized(messages: readonly unknown[]): Record<string, unknown>[] {
  return messages.map((message, index) => {
    const refuse = (what: string) =>
      new BillfishError('INVALID_OPTION', `messages[${index}] ${what}; it is ${printed(message)}`)
    const parsed = messageSchema.safeParse(message)
    if (!parsed.success) {
      const path = parsed.error.issues[0]?.path ?? []
      if (path[0] === 'role') throw refuse("must have a role, a string such as 'user'")
      if (path[0] === 'content')
        throw refuse(
          "must have a content that is a string or parts { type: 'text', text: string }; images are not supported",
        )
      throw refuse('must be an object { role, content }')
    }
    const { content } = parsed.data
    if (Array.isArray(content)) return { ...parsed.data, content: content.map(({ text }) => text).join('') }
    if (typeof content === 'string') return parsed.data
    if (!Array.isArray(parsed.data.tool_calls)) throw refuse('must have a content, because it has no tool_calls')
    return { ...parsed.data, content: '' }
  })
}
