import { BillfishError } from '../errors'
import { guarded } from '../options/snapshot'
import type { GenerationAssets } from './assets'
import type { ChatMessage } from './chat-template'
import { isLong, type LongText } from './long-text'
import type { GenerateOptions } from './sampling-options'
import type { Rendering } from './template-rendering'
import { readTokenIds } from './token-ids'

/** What an answer is generated for: a text, chat messages, or token ids. */
export type GenerateInput = string | readonly ChatMessage[] | readonly number[] | Int32Array | Uint32Array

/** A prompt of which the token ids are not known yet, since they would take the event loop too long. */
export type PendingPrompt = LongText | { readonly rendering: Rendering }

/**
 * The prompt as token ids, at least one; or as the text (rendered, if it is messages) that it comes to, if that is too
 * long to be encoded on the event loop; or as a chat template that is too much for it. The token ids of these are then
 * still to be checked.
 * @throws BillfishError INVALID_OPTION for an input that cannot be one
 */
export function readPrompt(
  input: GenerateInput,
  assets: Pick<GenerationAssets, 'tokenizer' | 'chatTemplate' | 'vocabulary' | 'missingTokenizer'>,
  options: Pick<GenerateOptions, 'addSpecialTokens' | 'chatTemplate'>,
  maxModelLength: number,
): readonly number[] | PendingPrompt {
  if (isMessages(input)) {
    const prompt = messageText(input, assets, options)
    return 'rendering' in prompt ? prompt : checked(prompt, assets)
  }
  if (typeof input === 'string') {
    if (assets.tokenizer === undefined) throw assets.missingTokenizer('a prompt of text')
    return checked({ text: input, addSpecialTokens: options.addSpecialTokens ?? true }, assets)
  }
  if (!guarded('The prompt', () => Array.isArray(input)) && !ArrayBuffer.isView(input)) {
    const what = input === null ? 'null' : typeof input
    throw new BillfishError('INVALID_OPTION', `The prompt must be a text, messages or token ids, not ${what}.`)
  }
  const why = 'the most that leaves room for one more: shorten it, or load the model with a larger maxModelLength'
  return readTokenIds(input, { vocabulary: assets.vocabulary, most: maxModelLength - 1, why })
}

/** @throws BillfishError INVALID_OPTION if there is no token, or one that the model does not know */
export function checkTokens(ids: readonly number[], vocabulary: number): readonly number[] {
  if (ids.length === 0)
    throw new BillfishError('INVALID_OPTION', 'The prompt is empty; it must have at least one token.')
  const position = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary)
  if (position >= 0) {
    const range = `the model's token ids are whole numbers from 0 to ${vocabulary - 1}`
    throw new BillfishError('INVALID_OPTION', `Token ${position} of the prompt is ${String(ids[position])}; ${range}.`)
  }
  return ids
}

/** Whether an input is a conversation, by its first member. */
function isMessages(input: unknown): input is readonly ChatMessage[] {
  try {
    return Array.isArray(input) && typeof input[0] === 'object' && input[0] !== null
  } catch {
    return false // a getter that throws: whatever it is, its tokens cannot be read
  }
}

function messageText(
  messages: readonly ChatMessage[],
  { tokenizer, chatTemplate, missingTokenizer }: Parameters<typeof readPrompt>[1],
  options: Parameters<typeof readPrompt>[2],
): PendingPrompt {
  if (tokenizer === undefined) throw missingTokenizer('messages')
  if (chatTemplate === undefined) {
    const message = 'The checkpoint has no chat template (neither chat_template.jinja nor one in tokenizer_config.json)'
    throw new BillfishError('INVALID_OPTION', `${message}; write the prompt as text.`)
  }
  const rendered = chatTemplate.begin(messages, options.chatTemplate)
  return typeof rendered === 'string' ? { text: rendered, addSpecialTokens: false } : { rendering: rendered }
}

/** A short text as its token ids, where they may be found here. */
function checked(
  input: LongText,
  { tokenizer, vocabulary }: Parameters<typeof readPrompt>[1],
): readonly number[] | LongText {
  if (tokenizer?.encode === undefined || isLong(input.text)) return input
  return checkTokens(tokenizer.encode(input.text, input), vocabulary)
}
