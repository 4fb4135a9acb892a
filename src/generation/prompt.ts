import { BillfishError } from '../errors'
import type { GenerationAssets } from './assets'
import type { ChatMessage } from './chat-template'
import { isLong, type LongText } from './long-text'
import type { GenerateOptions } from './sampling-options'
import type { Tokenizer } from './types'

/** What an answer is generated for: a text, chat messages, or token ids. */
export type GenerateInput = string | readonly ChatMessage[] | readonly number[] | Int32Array | Uint32Array

/**
 * The prompt as token ids, at least one; or as the text (rendered, if it is messages) that it comes to, if that is too
 * long to be encoded on the event loop: its token ids are then still to be checked.
 * @throws BillfishError INVALID_OPTION for an input that cannot be one
 */
export function readPrompt(
  input: GenerateInput,
  assets: Pick<GenerationAssets, 'tokenizer' | 'chatTemplate' | 'vocabulary' | 'missingTokenizer'>,
  options: Pick<GenerateOptions, 'addSpecialTokens' | 'chatTemplate'>,
): readonly number[] | LongText {
  const prompt = idsOrText(input, assets, options)
  return 'text' in prompt ? prompt : checkTokens(prompt, assets.vocabulary)
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

function idsOrText(
  input: GenerateInput,
  { tokenizer, chatTemplate, missingTokenizer }: Parameters<typeof readPrompt>[1],
  options: Parameters<typeof readPrompt>[2],
): readonly number[] | LongText {
  if (typeof input === 'string') {
    if (tokenizer === undefined) throw missingTokenizer('a prompt of text')
    return encodeShort({ text: input, addSpecialTokens: options.addSpecialTokens ?? true }, tokenizer)
  }
  if (input instanceof Int32Array || input instanceof Uint32Array) return Array.from(input)
  if (!Array.isArray(input)) {
    throw new BillfishError('INVALID_OPTION', `The prompt must be a text, messages or token ids, not ${typeof input}.`)
  }
  if (!input.some((entry) => typeof entry === 'object')) return input as readonly number[]
  if (tokenizer === undefined) throw missingTokenizer('messages')
  if (chatTemplate === undefined) {
    const message = 'The checkpoint has no chat template (neither chat_template.jinja nor one in tokenizer_config.json)'
    throw new BillfishError('INVALID_OPTION', `${message}; write the prompt as text.`)
  }
  const text = chatTemplate.render(input as readonly ChatMessage[], options.chatTemplate)
  return encodeShort({ text, addSpecialTokens: false }, tokenizer)
}

function encodeShort(input: LongText, tokenizer: Tokenizer): readonly number[] | LongText {
  return isLong(input.text) ? input : tokenizer.encode(input.text, input)
}
