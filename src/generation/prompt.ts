import { BillfishError } from '../common/errors'
import { guarded } from '../options/snapshot'
import type { GenerationAssets } from './assets'
import type { ChatMessage } from './chat-message'
import { isLong, type LongText } from './long-text'
import type { GenerateOptions } from './sampling-options'
import type { Rendering } from './template-rendering'
import { readTokenIds } from './token-ids'

/** Input of generate(): text, chat messages, or token ids. */
export type GenerateInput = string | readonly ChatMessage[] | readonly number[] | Int32Array | Uint32Array

/** A prompt whose token ids are not known yet because tokenizing it would block the event loop. */
export type PendingPrompt = LongText | { readonly rendering: Rendering }

/**
 * Reads a prompt: its token ids (at least one); or its text (rendered, for messages) if that is too long to encode on
 * the event loop; or the rendering if the chat template is too slow for it. Token ids of the latter two remain to be
 * checked.
 * @throws BillfishError INVALID_OPTION for invalid input
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
    if (assets.tokenizer === undefined) throw assets.missingTokenizer('A text prompt')
    return checked({ text: input, addSpecialTokens: options.addSpecialTokens ?? true }, assets)
  }
  if (!guarded('The prompt', () => Array.isArray(input)) && !ArrayBuffer.isView(input)) {
    const what = input === null ? 'null' : typeof input
    throw new BillfishError('INVALID_OPTION', `The prompt must be a text, messages or token ids, not ${what}.`)
  }
  const why = 'the most that leaves room for one more; shorten it, or load the model with a larger maxModelLength'
  return readTokenIds(input, { vocabulary: assets.vocabulary, most: maxModelLength - 1, why })
}

/** @throws BillfishError INVALID_OPTION if it is empty or has an id outside the vocabulary */
export function checkTokens(ids: readonly number[], vocabulary: number): readonly number[] {
  if (ids.length === 0)
    throw new BillfishError('INVALID_OPTION', 'The prompt is empty; it must have at least one token.')
  const position = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary)
  if (position >= 0) {
    const range = `token ids of this model are integers from 0 to ${vocabulary - 1}`
    throw new BillfishError('INVALID_OPTION', `Token ${position} of the prompt is ${String(ids[position])}; ${range}.`)
  }
  return ids
}

/** Whether an input is a conversation, judged by its first member. */
function isMessages(input: unknown): input is readonly ChatMessage[] {
  try {
    return Array.isArray(input) && typeof input[0] === 'object' && input[0] !== null
  } catch {
    return false // a throwing getter: reading it as tokens will report it
  }
}

function messageText(
  messages: readonly ChatMessage[],
  { tokenizer, chatTemplate, missingTokenizer }: Parameters<typeof readPrompt>[1],
  options: Parameters<typeof readPrompt>[2],
): PendingPrompt {
  if (tokenizer === undefined) throw missingTokenizer('A prompt of messages')
  if (chatTemplate === undefined) {
    const message = 'The checkpoint has no chat template (neither chat_template.jinja nor one in tokenizer_config.json)'
    throw new BillfishError('INVALID_OPTION', `${message}; write the prompt as text.`)
  }
  const rendered = chatTemplate.begin(messages, options.chatTemplate)
  return typeof rendered === 'string' ? { text: rendered, addSpecialTokens: false } : { rendering: rendered }
}

/** Encodes a short text if that is allowed on the event loop. */
function checked(
  input: LongText,
  { tokenizer, vocabulary }: Parameters<typeof readPrompt>[1],
): readonly number[] | LongText {
  if (tokenizer?.encode === undefined || isLong(input.text)) return input
  return checkTokens(tokenizer.encode(input.text, input), vocabulary)
}
