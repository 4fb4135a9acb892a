import { BillfishError } from '../errors'
import type { GenerationAssets } from './assets'
import type { ChatMessage } from './chat-template'
import { checkOptions, type GenerateOptions } from './sampling-options'

/** What an answer is generated for: a text, chat messages, or token ids. */
export type GenerateInput = string | readonly ChatMessage[] | readonly number[] | Int32Array | Uint32Array

/**
 * The prompt as token ids, at least one.
 * @throws BillfishError INVALID_OPTION for an input that cannot be one
 */
export function promptTokens(
  input: GenerateInput,
  assets: Pick<GenerationAssets, 'tokenizer' | 'chatTemplate' | 'vocabulary' | 'missingTokenizer'>,
  options: Pick<GenerateOptions, 'addSpecialTokens' | 'chatTemplate'>,
): readonly number[] {
  checkOptions(options)
  const ids = idsOf(input, assets, options)
  if (ids.length === 0)
    throw new BillfishError('INVALID_OPTION', 'The prompt is empty; it must have at least one token.')
  for (const [position, id] of ids.entries()) {
    if (!Number.isInteger(id) || id < 0 || id >= assets.vocabulary) {
      const range = `the model's token ids are whole numbers from 0 to ${assets.vocabulary - 1}`
      throw new BillfishError('INVALID_OPTION', `Token ${position} of the prompt is ${String(id)}; ${range}.`)
    }
  }
  return ids
}

function idsOf(
  input: GenerateInput,
  { tokenizer, chatTemplate, missingTokenizer }: Parameters<typeof promptTokens>[1],
  options: Parameters<typeof promptTokens>[2],
): readonly number[] {
  if (typeof input === 'string') {
    if (tokenizer === undefined) throw missingTokenizer('a prompt of text')
    return tokenizer.encode(input, { addSpecialTokens: options.addSpecialTokens ?? true })
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
  return tokenizer.encode(chatTemplate.render(input as readonly ChatMessage[], options.chatTemplate), {
    addSpecialTokens: false,
  })
}
