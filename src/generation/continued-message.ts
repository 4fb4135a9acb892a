import { BillfishError } from '../errors'
import { printed } from '../options/printed'
import { type ChatMessage, normalizeMessages } from './chat-template'

/** Put behind the text that is to be continued, and looked for in the prompt. As in transformers. */
const MARK = 'CONTINUE_FINAL_MESSAGE_TAG '

/**
 * The prompt for messages; one that the last of them is to be continued in ends with its text. Nothing of the template
 * can be told to leave out what it puts behind a message, so the text is marked, and the prompt cut at the mark.
 * @param render makes a prompt of messages
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
    const message = 'continueFinalMessage and addGenerationPrompt exclude each other'
    throw new BillfishError('INVALID_OPTION', `${message}: an answer is continued, or a new one begun.`)
  }
  const member = continueFinalMessage === true ? 'content' : continueFinalMessage
  const normalized = normalizeMessages(messages)
  const last = normalized.at(-1)
  const text = last?.[member]
  if (typeof text !== 'string') {
    throw new BillfishError(
      'INVALID_OPTION',
      `continueFinalMessage needs a last message with a text as its ${printed(member)}.`,
    )
  }
  const prompt = await render([
    ...normalized.slice(0, -1),
    { ...last, [member]: text + MARK },
  ] as unknown as ChatMessage[])
  const end = prompt.lastIndexOf(MARK.trimEnd())
  if (end < 0 || !prompt.includes(text.trim())) {
    const message = "The chat template leaves out the last message's text, or changes it"
    throw new BillfishError('INVALID_OPTION', `${message}: with this template it cannot be continued.`)
  }
  // A template that trims messages has taken the mark's space, and would have taken those of the text.
  return prompt.startsWith(MARK, end) ? prompt.slice(0, end) : prompt.slice(0, end).trimEnd()
}
