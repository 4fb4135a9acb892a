import { join } from 'node:path'
import { z } from 'zod'
import { fromJavaScript } from '../chat/jinja/values/from-javascript'
import type { Value } from '../chat/jinja/values/values'
import { readTextFile } from '../checkpoint/files'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError, type ErrorCode } from '../common/errors'
import { invalidOption, printed } from '../options/printed'
import { guarded, snapshot } from '../options/snapshot'
import { MAX_TEXT_BYTES } from './long-text'
import {
  checkRendered,
  EVENT_LOOP_LIMITS,
  maxRenderedLength,
  type Rendering,
  SYNCHRONOUS_LIMITS,
  TemplateCache,
  type TemplateSource,
  toRendering,
  WARM_UP_LIMITS,
} from './template-rendering'
import { readJsonObject } from './text-file'
import type { Tokenizer } from './types'

const MAX_TEMPLATE_BYTES = 4 * 1024 * 1024
const MAX_CONFIG_BYTES = 16 * 1024 * 1024

/** A message of a conversation. Additional members (`tool_calls`, `name`, ...) are passed to the template unchanged. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool`, or another role the template supports. */
  readonly role: string
  /** The text; parts of type `text` are concatenated. May be null or absent in a message with `tool_calls`. */
  readonly content?: string | null | readonly { readonly type: 'text'; readonly text: string }[] | undefined
  readonly [member: string]: unknown
}

/** Options for rendering messages to a prompt. */
export interface ChatTemplateOptions {
  /** Ends the prompt with the start of an assistant turn; default true. */
  readonly addGenerationPrompt?: boolean | undefined
  /** Tools the model may call, as JSON schemas in OpenAI format. */
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | undefined
  /** Additional template variables, such as `{ enable_thinking: false }`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined
}

/** Reserved variables, and how to set them instead. */
const RESERVED_VARIABLES: Readonly<Record<string, string>> = {
  messages: 'pass the messages as an argument',
  tools: 'use the option tools',
  add_generation_prompt: 'use the option addGenerationPrompt',
}

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

/** Total characters of all strings in a value, plus a constant for anything else; the value must be a tree. */
function charactersOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 8
  return Object.entries(value).reduce((sum, [name, member]) => sum + name.length + charactersOf(member), 0)
}

/** The chat template of a checkpoint: a Jinja template that renders messages to a prompt. */
export class ChatTemplate {
  readonly #sources: ReadonlyMap<string, string>
  readonly #path: string
  readonly #fault: ErrorCode
  readonly #specialTokens: ReadonlyMap<string, string>
  readonly #templates = new TemplateCache()

  /** @param fault error code for errors in the template itself @internal */
  constructor(
    sources: ReadonlyMap<string, string>,
    path: string,
    tokenizer: Tokenizer,
    fault: ErrorCode = 'INVALID_CHECKPOINT',
  ) {
    this.#fault = fault
    this.#sources = sources
    this.#path = path
    this.#specialTokens = new Map(
      Object.entries(tokenizer.specialTokens).map(([name, text]) => [`${name}_token`, text]),
    )
  }

  /** A template given by the caller, whose errors are INVALID_OPTION. */
  static ofCaller(source: string, tokenizer: Tokenizer): ChatTemplate {
    return new ChatTemplate(new Map([['default', source]]), 'options.chatTemplate', tokenizer, 'INVALID_OPTION')
  }

  /** Names of its variants. */
  get names(): string[] {
    return [...this.#sources.keys()]
  }

  /** The text of the template that {@link render} uses with tools or without. @throws BillfishError INVALID_CHECKPOINT */
  source(options: Pick<ChatTemplateOptions, 'tools'> = {}): string {
    return this.#template(options, undefined).source
  }

  /**
   * Renders the prompt for `messages`, including special tokens: encode it with `addSpecialTokens: false`. Blocks the
   * event loop, which is fine for ordinary templates; see {@link begin} for others.
   * @throws BillfishError INVALID_OPTION for malformed messages and errors raised by the template; INVALID_CHECKPOINT
   *   if the template cannot be parsed or takes too much time or memory
   * @param name variant to use; the default one if undefined
   */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}, name?: string): string {
    return this.#templates.render(this.#template(options, name), this.#variables(messages, options), SYNCHRONOUS_LIMITS)
  }

  /**
   * Renders a greeting and discards it, so that the template is compiled before the first conversation. Templates that
   * take more than a few milliseconds, or raise an error, are skipped.
   */
  warmUp(): void {
    try {
      const variables = this.#variables([{ role: 'user', content: 'Hello' }], {})
      this.#templates.tryRender(this.#template({}, undefined), variables, WARM_UP_LIMITS)
    } catch {
      // Reported when the template is used.
    }
  }

  /**
   * Renders the prompt for `messages` like {@link render} if that takes a few milliseconds at most; otherwise returns
   * the input for a TextWorker.
   * @throws BillfishError like render()
   */
  begin(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}, name?: string): string | Rendering {
    const template = this.#template(options, name)
    const variables = this.#variables(messages, options)
    const text = this.#templates.tryRender(template, variables, EVENT_LOOP_LIMITS)
    if (text !== undefined && text.length <= maxRenderedLength(0)) return text
    const characters = guarded('messages', () => charactersOf([messages, options.tools, options.variables]))
    if (characters > MAX_TEXT_BYTES) {
      const message = `Messages, tools and variables have ${characters} characters in total`
      throw new BillfishError(
        'INVALID_OPTION',
        `${message}, but at most ${MAX_TEXT_BYTES} can be encoded at once. Shorten them.`,
      )
    }
    const longest = maxRenderedLength(characters)
    return text === undefined ? toRendering(template, variables, longest) : checkRendered(text, longest, template)
  }

  /** @throws BillfishError INVALID_OPTION for values that JSON cannot represent */
  #variables(messages: readonly ChatMessage[], options: ChatTemplateOptions): ReadonlyMap<string, Value> {
    for (const [name, instead] of Object.entries(RESERVED_VARIABLES)) {
      if (options.variables?.[name] === undefined) continue
      const message = `The chat template's variable ${name} cannot be set by that name`
      throw new BillfishError('INVALID_OPTION', `${message}: ${instead}.`)
    }
    const given = Object.entries({
      documents: null,
      ...options.variables,
      messages: normalizeMessages(messages),
      tools: options.tools ?? null, // None as in transformers, not undefined
      add_generation_prompt: options.addGenerationPrompt ?? true,
    })
    const variables = new Map<string, Value>(this.#specialTokens)
    try {
      for (const [name, value] of given) {
        if (value !== undefined) variables.set(name, fromJavaScript(value, name))
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw new BillfishError('INVALID_OPTION', `The variables of the chat template are invalid: ${message}`, {
        cause: error,
      })
    }
    return variables
  }

  #template(options: ChatTemplateOptions, wanted: string | undefined): TemplateSource {
    const name = wanted ?? (options.tools !== undefined && this.#sources.has('tool_use') ? 'tool_use' : 'default')
    const source = this.#sources.get(name)
    if (source === undefined) {
      throw invalidCheckpoint(`${this.#path} has chat templates named ${this.names.join(', ')}, but none named ${name}`)
    }
    return { source, path: this.#path, fault: this.#fault }
  }
}

/**
 * Finds the chat template of a checkpoint: `chat_template.jinja`, else `chat_template` in tokenizer_config.json (a
 * string, or a list of named variants), else the default of the tokenizer.
 * @returns undefined if there is none
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function loadChatTemplate(directory: string, tokenizer: Tokenizer): Promise<ChatTemplate | undefined> {
  const found = await findSources(directory, tokenizer)
  if (found === undefined) return undefined
  return new ChatTemplate(found.sources, found.path, tokenizer)
}

async function findSources(
  directory: string,
  tokenizer: Tokenizer,
): Promise<{ path: string; sources: ReadonlyMap<string, string> } | undefined> {
  const one = (path: string, source: string) => ({ path, sources: new Map([['default', source]]) })
  const jinjaPath = join(directory, 'chat_template.jinja')
  const jinja = await readTextFile(jinjaPath, MAX_TEMPLATE_BYTES)
  if (jinja !== undefined) return one(jinjaPath, jinja.join(''))

  const path = join(directory, 'tokenizer_config.json')
  const template = (await readJsonObject(path, MAX_CONFIG_BYTES))?.chat_template ?? undefined
  if (typeof template === 'string') return one(path, template)
  if (template !== undefined) return { path, sources: namedSources(template, path) }
  if (tokenizer.defaultChatTemplate === undefined) return undefined
  return one(`${directory} (the default of its tokenizer)`, tokenizer.defaultChatTemplate)
}

/** `[{ "name": "default", "template": "..." }, { "name": "tool_use", "template": "..." }]` */
function namedSources(templates: unknown, path: string): ReadonlyMap<string, string> {
  const sources = new Map<string, string>()
  for (const entry of Array.isArray(templates) ? templates : [templates]) {
    if (!isObject(entry) || typeof entry.name !== 'string' || typeof entry.template !== 'string') {
      throw invalidCheckpoint(
        `${path}: chat_template must be a string or a list of { name, template }, but holds ${shown(entry)}`,
      )
    }
    sources.set(entry.name, entry.template)
  }
  return sources
}

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
