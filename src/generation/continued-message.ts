import { BillfishError } from '../errors'
import { printed } from '../options/printed'
import { type ChatMessage, normalizeMessages } from './chat-template'

/** Appended to the text to be continued and searched for in the prompt, as in transformers. */
const MARK = 'CONTINUE_FINAL_MESSAGE_TAG '

/**
 * Renders the prompt for messages; with continueFinalMessage it ends with the text of the last one. A template cannot
 * be told to omit what it adds after a message, so the text is marked and the prompt cut at the mark.
 * @param render renders messages to a prompt
 * @throws BillfishError INVALID_OPTION
 */
export async function applyTemplate(
  messages: readonly ChatMessage[],
  render: (messages: readonly ChatMessage[]) => Promise<string>,
  options: { readonly continueFinalMessage?: boolean | string | undefined; readonly addGenerationPrompt: boolean },
): Promise<string> {
  const { continueFinalMessage = false } = options
  if (continueFinalMessage === false) return render(messages)
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
  const prompt = await render([
    ...normalized.slice(0, -1),
    { ...last, [member]: text + MARK },
  ] as unknown as ChatMessage[])
  const end = prompt.lastIndexOf(MARK.trimEnd())
  if (end < 0 || !prompt.includes(text.trim())) {
    const message = 'The chat template omits or changes the text of the last message'
    throw new BillfishError('INVALID_OPTION', `${message}, so it cannot be continued with this template.`)
  }
  // A template that trims messages has removed the space of the mark, and would have trimmed the text.
  return prompt.startsWith(MARK, end) ? prompt.slice(0, end) : prompt.slice(0, end).trimEnd()
}
