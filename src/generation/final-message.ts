/**
 * Prompts that end with the text of the last message. A template cannot be told to omit what it adds after a message, so
 * the text is marked and the prompt cut at the mark.
 */
import { z } from 'zod'
import { BillfishError } from '../common/errors'
import { printed } from '../options/printed'
import type { ChatMessage } from './chat-message'
import { normalizeMessages } from './normalize-messages'

/** Appended to the text to be continued and searched for in the prompt, as in transformers. */
const MARK = 'CONTINUE_FINAL_MESSAGE_TAG '

export const continueFinalMessageOption = z
  .union([z.boolean(), z.string().min(1)])
  .describe("true, false or a message's member")

/** Messages to render, and the text that is marked in the last one. */
export interface OpenMessage {
  readonly messages: readonly ChatMessage[]
  readonly text: string
}

/**
 * Marks the end of the last message.
 * @param options `continueFinalMessage`: whether to, or a member of the message to continue instead of its content
 * @returns undefined if nothing is to be continued
 * @throws BillfishError INVALID_OPTION
 */
export function openMessage(
  messages: readonly ChatMessage[],
  options: {
    readonly continueFinalMessage?: boolean | string | undefined
    readonly addGenerationPrompt?: boolean | undefined
  },
): OpenMessage | undefined {
  const { continueFinalMessage = false } = options
  if (continueFinalMessage === false) return undefined
  if (options.addGenerationPrompt) {
    const message = 'continueFinalMessage and addGenerationPrompt are mutually exclusive'
    throw new BillfishError('INVALID_OPTION', `${message}: either continue an answer or start a new one.`)
  }
  const member = continueFinalMessage === true ? 'content' : continueFinalMessage
  const normalized = normalizeMessages(messages)
  const last = normalized.at(-1)
  const text = last?.[member]
  if (typeof text !== 'string') {
    throw new BillfishError(
      'INVALID_OPTION',
      `continueFinalMessage requires the last message to have a text as its ${printed(member)}.`,
    )
  }
  const marked = [...normalized.slice(0, -1), { ...last, [member]: text + MARK }]
  return { messages: marked as unknown as ChatMessage[], text }
}

/**
 * What of a prompt comes before the mark.
 * @param text the text that was marked
 * @throws BillfishError INVALID_OPTION if the template has left it out
 */
export function cutAtMark(prompt: string, text: string): string {
  const end = prompt.lastIndexOf(MARK.trimEnd())
  if (end < 0 || !prompt.includes(text.trim())) {
    const message = 'The chat template omits or changes the text of the last message'
    throw new BillfishError('INVALID_OPTION', `${message}, so it cannot be continued with this template.`)
  }
  // A template that trims messages has removed the space of the mark, and would have trimmed the text.
  return prompt.startsWith(MARK, end) ? prompt.slice(0, end) : prompt.slice(0, end).trimEnd()
}
