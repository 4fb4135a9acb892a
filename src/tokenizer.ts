import { type InspectOptions, inspect } from 'node:util'
import { z } from 'zod'
import { BillfishError } from './common/errors'
import { loadTextAssets, type TextAssets } from './generation/assets'
import type { ChatMessage } from './generation/chat-message'
import { ChatTemplate } from './generation/chat-template'
import { continueFinalMessageOption } from './generation/final-message'
import { isLong, type LongText } from './generation/long-text'
import type { Work } from './generation/text-worker'
import { rejectOtherTypedArrays } from './generation/token-ids'
import { noTokenizerMessage } from './generation/tokenizer'
import { checkpointDirectory } from './hub/checkpoint-directory'
import { guardMethods } from './options/method-guard'
import { readPath } from './options/path'
import { invalidOption, printed } from './options/printed'
import { optionsOf, readOptions } from './options/read-options'
import { cancelledBy, withOwnSignal } from './options/signal'
import { guarded } from './options/snapshot'
import { abortSignal, flag } from './options/values'

/** Options of {@link loadTokenizer}. */
export interface LoadTokenizerOptions {
  /** Cancels the call, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

/** Options of {@link Tokenizer.encode} and {@link Tokenizer.count}. */
export interface EncodeTextOptions {
  /**
   * Adds the special tokens that the checkpoint puts around plain text (a leading `<s>`); default true. Pass false for
   * a rendered chat template, which already contains them.
   */
  readonly addSpecialTokens?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

/** Options of {@link Tokenizer.decode}. */
export interface DecodeOptions {
  /** Omits special tokens; default false. */
  readonly skipSpecialTokens?: boolean | undefined
}

/** Options of {@link Tokenizer.applyChatTemplate}, with the names and defaults of transformers' apply_chat_template(). */
export interface ApplyChatTemplateOptions {
  /** Tools the model may call, as JSON schemas in OpenAI format. */
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | undefined
  /** Ends the prompt with the start of an answer. Default false, unlike in generate(). */
  readonly addGenerationPrompt?: boolean | undefined
  /**
   * Ends the prompt with the text of the last message, without what the template adds after it, so that the model
   * continues it. A string names the member to continue instead of `content`.
   */
  readonly continueFinalMessage?: boolean | string | undefined
  /** The name of one of the checkpoint's templates, or the text of another one. */
  readonly chatTemplate?: string | undefined
  /** Additional template variables, such as `{ enable_thinking: false }`. */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>> | undefined
  /** Whether to return token ids or the text. Default true. */
  readonly tokenize?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

const loadOptions = optionsOf<LoadTokenizerOptions>('loadTokenizer()', { signal: abortSignal() })
const encodeOptions = optionsOf<EncodeTextOptions>('tokenizer.encode()', {
  addSpecialTokens: flag(),
  signal: abortSignal(),
})
const decodeOptions = optionsOf<DecodeOptions>('tokenizer.decode()', { skipSpecialTokens: flag() })
const templateOptions = optionsOf<ApplyChatTemplateOptions>('tokenizer.applyChatTemplate()', {
  tools: z.array(z.record(z.string(), z.unknown())).describe('an array of objects'),
  addGenerationPrompt: flag(),
  continueFinalMessage: continueFinalMessageOption,
  chatTemplate: z.string().min(1).describe("a template's name or text"),
  chatTemplateKwargs: z.record(z.string(), z.unknown()).describe('an object of names and values'),
  tokenize: flag(),
  signal: abortSignal(),
})

type Assets = TextAssets & { readonly tokenizer: NonNullable<TextAssets['tokenizer']> }

/** Longer than any template name; anything longer or with a tag is template text. */
const MAX_NAME_LENGTH = 64

/**
 * Loads the tokenizer of a checkpoint without its weights: `tokenizer.json`, `vocab.json` with `merges.txt`, or
 * `qwen.tiktoken`, and the chat template.
 * @param directory path or file: URL, or a model's name on the Hub, of which all but the weights is downloaded
 * @throws BillfishError INVALID_CHECKPOINT, INVALID_OPTION, DOWNLOAD_FAILED; the reason of the signal if it aborts
 */
export async function loadTokenizer(directory: string | URL, options: LoadTokenizerOptions = {}): Promise<Tokenizer> {
  const given = readOptions(loadOptions, options)
  const path = readPath(directory, 'directory')
  return withOwnSignal(given.signal, async (signal) => {
    const local = await checkpointDirectory(path, 'settings', { signal })
    const assets = await loadTextAssets(local, signal)
    const { tokenizer } = assets
    if (tokenizer === undefined) throw new BillfishError('INVALID_CHECKPOINT', await noTokenizerMessage(local))
    return new Tokenizer({ ...assets, tokenizer }, true)
  })
}

/**
 * A checkpoint's tokenizer: `model.tokenizer`, or made by {@link loadTokenizer}.
 *
 * Methods that encode or render return promises: long texts, and texts that the checkpoint's files make slow, are encoded
 * on a worker thread, which an abort ends. The thread does not keep the process alive.
 */
export class Tokenizer {
  readonly #assets: Assets
  readonly #ownsWorker: boolean

  static {
    guardMethods(Tokenizer, (value) => #assets in value, 'tokenizer')
  }

  /** @param ownsWorker whether dispose() ends the thread @internal */
  constructor(assets: Assets, ownsWorker: boolean) {
    this.#assets = assets
    this.#ownsWorker = ownsWorker
  }

  /** Highest token id plus one. The vocabulary of a model is often larger, padded for the hardware. */
  get vocabularySize(): number {
    return this.#assets.tokenizer.vocabularySize
  }

  /** The special tokens that the checkpoint names, such as `{ eos: '<|im_end|>' }`. */
  get specialTokens(): { readonly bos?: string; readonly eos?: string; readonly pad?: string; readonly unk?: string } {
    return { ...this.#assets.tokenizer.specialTokens }
  }

  /** Whether the checkpoint has a chat template. */
  get hasChatTemplate(): boolean {
    return this.#assets.chatTemplate !== undefined
  }

  /** Id of a token in vocabulary spelling; undefined if there is none. @throws BillfishError INVALID_OPTION */
  tokenToId(token: string): number | undefined {
    if (typeof token !== 'string') throw invalidOption('The token', token, 'a string')
    return this.#assets.tokenizer.tokenToId(token)
  }

  /**
   * Token in vocabulary spelling: `Ġhello` for " hello" in a byte-level vocabulary; undefined for an unknown id.
   * @throws BillfishError INVALID_OPTION
   */
  idToToken(id: number): string | undefined {
    if (!isId(id)) throw invalidOption('The id', id, 'a whole number')
    return this.#assets.tokenizer.idToToken(id)
  }

  /**
   * The bytes that a token adds to a text, often an incomplete character; undefined for an unknown id.
   * @throws BillfishError INVALID_OPTION
   */
  idToBytes(id: number): Uint8Array | undefined {
    if (!isId(id)) throw invalidOption('The id', id, 'a whole number')
    return this.#assets.tokenizer.idToBytes(id)?.slice()
  }

  /**
   * The token ids of a text. Special tokens spelled out in it (`<|im_end|>`) become their ids.
   * @throws BillfishError INVALID_OPTION, INVALID_CHECKPOINT if the tokenizer's files make it take too long or too much
   *   memory, DISPOSED; the signal's reason once it aborts
   */
  async encode(text: string, options: EncodeTextOptions = {}): Promise<number[]> {
    return Array.from(await this.#encode(text, options))
  }

  /** The number of tokens that {@link encode} would return. @throws BillfishError as {@link encode} does */
  async count(text: string, options: EncodeTextOptions = {}): Promise<number> {
    return (await this.#encode(text, options)).length
  }

  /**
   * The text of token ids; synchronous, since it takes linear time. Bytes that are not UTF-8 become U+FFFD, and ids
   * outside the vocabulary are skipped.
   * @throws BillfishError INVALID_OPTION
   */
  decode(ids: ArrayLike<number> | number, options: DecodeOptions = {}): string {
    const { skipSpecialTokens = false } = readOptions(decodeOptions, options)
    return this.#assets.tokenizer.decode(readIds(ids), { skipSpecialTokens })
  }

  /**
   * Renders messages with the checkpoint's chat template: to token ids, or with `tokenize: false` to text.
   * @throws BillfishError INVALID_OPTION for malformed messages and what the template refuses; INVALID_CHECKPOINT,
   *   DISPOSED; the signal's reason once it aborts
   */
  async applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ApplyChatTemplateOptions & { readonly tokenize: false },
  ): Promise<string>
  async applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: ApplyChatTemplateOptions & { readonly tokenize?: true | undefined },
  ): Promise<number[]>
  async applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: ApplyChatTemplateOptions,
  ): Promise<number[] | string>
  async applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ApplyChatTemplateOptions = {},
  ): Promise<number[] | string> {
    const given = readOptions(templateOptions, options)
    const { tools, addGenerationPrompt = false, chatTemplateKwargs: variables, tokenize = true } = given
    this.#checkOpen()
    return withOwnSignal(given.signal, async (signal) => {
      const { template, name } = this.#templateFor(given.chatTemplate)
      const { continueFinalMessage } = given
      const rendered = template.begin(messages, { tools, addGenerationPrompt, continueFinalMessage, variables }, name)
      const text =
        typeof rendered === 'string' ? rendered : await this.#outputOf(this.#assets.worker.render(rendered), signal)
      return tokenize ? Array.from(await this.#idsOf({ text, addSpecialTokens: false }, signal)) : text
    })
  }

  /** Ends its thread and pending work. No effect on the tokenizer of a model, which is disposed of with the model. */
  async dispose(): Promise<void> {
    if (!this.#ownsWorker) return
    const advice = 'Load it again to use it.'
    await this.#assets.worker.close(new BillfishError('DISPOSED', `The tokenizer has been disposed. ${advice}`))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  /** For console.log(). @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { vocabularySize, specialTokens, hasChatTemplate } = this
    return `Tokenizer ${inspect({ vocabularySize, specialTokens, hasChatTemplate }, options)}`
  }

  async #encode(text: string, options: EncodeTextOptions): Promise<ArrayLike<number>> {
    const given = readOptions(encodeOptions, options)
    if (typeof text !== 'string') throw invalidOption('The text', text, 'a string')
    const input = { text, addSpecialTokens: given.addSpecialTokens ?? true }
    return withOwnSignal(given.signal, (signal) => this.#idsOf(input, signal))
  }

  async #idsOf(input: LongText, signal: AbortSignal): Promise<ArrayLike<number>> {
    const { tokenizer, worker } = this.#assets
    signal.throwIfAborted()
    this.#checkOpen()
    if (tokenizer.encode !== undefined && !isLong(input.text)) return tokenizer.encode(input.text, input)
    return this.#outputOf(worker.encode(input), signal)
  }

  async #outputOf<Output>({ output, cancel }: Work<Output>, signal: AbortSignal): Promise<Output> {
    return cancelledBy(signal, cancel, output)
  }

  #checkOpen(): void {
    const { closed } = this.#assets.worker
    if (closed) throw closed
  }

  /** The template to use: the given one, or that of the checkpoint, with its name. */
  #templateFor(given: string | undefined): { readonly template: ChatTemplate; readonly name?: string } {
    const { chatTemplate, tokenizer } = this.#assets
    if (given === undefined) {
      if (chatTemplate !== undefined) return { template: chatTemplate }
      const advice = 'pass one as options.chatTemplate'
      throw new BillfishError('INVALID_OPTION', `The checkpoint has no chat template; ${advice}.`)
    }
    if (chatTemplate?.names.includes(given)) return { template: chatTemplate, name: given }
    if (chatTemplate !== undefined && /^\w+$/.test(given) && given.length <= MAX_NAME_LENGTH) {
      const names = chatTemplate.names.join(', ')
      throw new BillfishError(
        'INVALID_OPTION',
        `chatTemplate is ${printed(given)}, but the checkpoint's templates are: ${names}.`,
      )
    }
    if (!given.includes('{')) {
      const message = `chatTemplate is ${printed(given)}, which contains no template tag`
      throw new BillfishError(
        'INVALID_OPTION',
        `${message}: pass the text of a template, or the name of one in the checkpoint.`,
      )
    }
    return { template: ChatTemplate.ofCaller(given, tokenizer) }
  }
}

/** @throws BillfishError INVALID_OPTION */
function readIds(given: ArrayLike<number> | number): number[] {
  return guarded('The token ids', () => copiedIds(given))
}

function copiedIds(given: ArrayLike<number> | number): number[] {
  const ids = typeof given === 'number' ? [given] : given
  if (typeof ids !== 'object' || ids === null || !Number.isSafeInteger(ids.length) || ids.length < 0) {
    throw new BillfishError('INVALID_OPTION', `The token ids are ${printed(ids)}, but must be an array of numbers.`)
  }
  rejectOtherTypedArrays(ids)
  const copy: number[] = []
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] as unknown
    if (!isId(id)) throw invalidOption(`Token id ${i}`, id, 'a whole number')
    copy.push(id)
  }
  return copy
}

function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0
}
