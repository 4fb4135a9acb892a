import { join } from 'node:path'
import { z } from 'zod'
import { fromJavaScript } from '../chat/jinja/values/from-javascript'
import type { Value } from '../chat/jinja/values/values'
import { readTextFile } from '../checkpoint/files'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError, type ErrorCode } from '../errors'
import { invalidOption, printed } from '../options/printed'
import { guarded, snapshot } from '../options/snapshot'
import { MAX_TEXT_BYTES } from './long-text'
import {
  checkRendered,
  EVENT_LOOP_LIMITS,
  maxRenderedLength,
  type Rendering,
  TemplateCache,
  type TemplateSource,
  toRendering,
  WAITING_LIMITS,
  WARM_UP_LIMITS,
} from './template-rendering'
import { readJsonObject } from './text-file'
import type { Tokenizer } from './types'

const MAX_TEMPLATE_BYTES = 4 * 1024 * 1024
const MAX_CONFIG_BYTES = 16 * 1024 * 1024

/** One message of a conversation. Further members (`tool_calls`, `name`, ...) reach the checkpoint's template as they are. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool`, or what else the template knows. */
  readonly role: string
  /** The text; parts of type `text` are joined. May be null or absent in a message with `tool_calls`. */
  readonly content?: string | null | readonly { readonly type: 'text'; readonly text: string }[] | undefined
  readonly [member: string]: unknown
}

/** How messages are turned into a prompt. */
export interface ChatTemplateOptions {
  /** Ends the prompt with the beginning of the assistant's answer; true if not told. */
  readonly addGenerationPrompt?: boolean | undefined
  /** Functions that the model may call, as JSON schemas in the form of the OpenAI API. */
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | undefined
  /** Further variables for the template, such as `{ enable_thinking: false }`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined
}

/** Variables that every template gets from elsewhere, and from where. */
const OWN_VARIABLES: Readonly<Record<string, string>> = {
  messages: 'the messages come as an argument',
  tools: 'give the option tools',
  add_generation_prompt: 'give the option addGenerationPrompt',
}

const messageSchema = z.looseObject({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(z.strictObject({ type: z.literal('text'), text: z.string() }))]).nullish(),
})

/**
 * Messages as a template expects them: every content a string.
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
          "must have as content a string, or parts { type: 'text', text: string }, since images are not read",
        )
      throw refuse('must be an object { role, content }')
    }
    const { content } = parsed.data
    if (Array.isArray(content)) return { ...parsed.data, content: content.map(({ text }) => text).join('') }
    if (typeof content === 'string') return parsed.data
    if (!Array.isArray(parsed.data.tool_calls)) throw refuse('must have a content, having no tool_calls')
    return { ...parsed.data, content: '' }
  })
}

/** Characters of all strings in a value, and some for all else; the value is known to be a tree. */
function charactersOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 8
  return Object.entries(value).reduce((sum, [name, member]) => sum + name.length + charactersOf(member), 0)
}

/** A checkpoint's chat template: Jinja text that turns messages into a prompt. */
export class ChatTemplate {
  readonly #sources: ReadonlyMap<string, string>
  readonly #path: string
  readonly #fault: ErrorCode
  readonly #specialTokens: ReadonlyMap<string, string>
  readonly #templates = new TemplateCache()

  /** @param fault the code of errors in the template itself @internal */
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

  /** A template that a caller brings: what is wrong with it is INVALID_OPTION. */
  static ofCaller(source: string, tokenizer: Tokenizer): ChatTemplate {
    return new ChatTemplate(new Map([['default', source]]), 'options.chatTemplate', tokenizer, 'INVALID_OPTION')
  }

  /** The names of its templates. */
  get names(): string[] {
    return [...this.#sources.keys()]
  }

  /**
   * The prompt for `messages`, special tokens written out: encode it with `addSpecialTokens: false`. Everything else waits
   * meanwhile, which is no matter for ordinary templates; see {@link begin} for others.
   * @throws BillfishError INVALID_OPTION for malformed messages and for what the template itself refuses;
   * INVALID_CHECKPOINT if the template cannot be parsed, or takes too much time or memory
   * @param name which of its templates; the usual one if not told
   */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}, name?: string): string {
    return this.#templates.render(this.#template(options, name), this.#variables(messages, options), WAITING_LIMITS)
  }

  /**
   * Renders a greeting and forgets it, so that the first conversation need not wait for the template to be compiled. A
   * template that cannot do it in a few milliseconds, or refuses it, is left to that conversation.
   */
  warmUp(): void {
    try {
      const variables = this.#variables([{ role: 'user', content: 'Hello' }], {})
      this.#templates.tryRender(this.#template({}, undefined), variables, WARM_UP_LIMITS)
    } catch {
      // What is wrong is told to whoever needs the template.
    }
  }

  /**
   * The prompt for `messages`, as {@link render} makes it, if that takes a few milliseconds at most; else what a
   * TextWorker needs to make it.
   * @throws BillfishError as render() does
   */
  begin(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}, name?: string): string | Rendering {
    const template = this.#template(options, name)
    const variables = this.#variables(messages, options)
    const text = this.#templates.tryRender(template, variables, EVENT_LOOP_LIMITS)
    if (text !== undefined && text.length <= maxRenderedLength(0)) return text
    const characters = guarded('messages', () => charactersOf([messages, options.tools, options.variables]))
    if (characters > MAX_TEXT_BYTES) {
      const message = `Messages, tools and variables have ${characters} characters together`
      throw new BillfishError(
        'INVALID_OPTION',
        `${message}, but at most ${MAX_TEXT_BYTES} can be encoded at once. Shorten them.`,
      )
    }
    const longest = maxRenderedLength(characters)
    return text === undefined ? toRendering(template, variables, longest) : checkRendered(text, longest, template)
  }

  /** @throws BillfishError INVALID_OPTION for what JSON cannot hold */
  #variables(messages: readonly ChatMessage[], options: ChatTemplateOptions): ReadonlyMap<string, Value> {
    for (const [name, instead] of Object.entries(OWN_VARIABLES)) {
      if (options.variables?.[name] === undefined) continue
      const message = `The chat template's variable ${name} cannot be set by that name`
      throw new BillfishError('INVALID_OPTION', `${message}: ${instead}.`)
    }
    const given = Object.entries({
      documents: null,
      ...options.variables,
      messages: normalizeMessages(messages),
      tools: options.tools ?? null, // None, as transformers has it, and not undefined
      add_generation_prompt: options.addGenerationPrompt ?? true,
    })
    const variables = new Map<string, Value>(this.#specialTokens)
    try {
      for (const [name, value] of given) {
        if (value !== undefined) variables.set(name, fromJavaScript(value, name))
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw new BillfishError('INVALID_OPTION', `The chat template cannot be given its variables: ${message}`, {
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
 * Finds a checkpoint's chat template: `chat_template.jinja`, else `chat_template` in tokenizer_config.json (one, or a
 * list of named ones), else the one that goes with the tokenizer.
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
