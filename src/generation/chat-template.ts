import { join } from 'node:path'
import { fromJavaScript } from '../chat/jinja/values/from-javascript'
import type { Value } from '../chat/jinja/values/values'
import { readTextFile } from '../checkpoint/files'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError, type ErrorCode } from '../common/errors'
import { guarded } from '../options/snapshot'
import type { ChatMessage } from './chat-message'
import { cutAtMark, openMessage } from './final-message'
import { MAX_TEXT_BYTES } from './long-text'
import { normalizeMessages } from './normalize-messages'
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

/** Options for rendering messages to a prompt. */
export interface ChatTemplateOptions {
  /** Ends the prompt with the start of an assistant turn. Default true, unless `continueFinalMessage` is. */
  readonly addGenerationPrompt?: boolean | undefined
  /**
   * Ends the prompt with the text of the last message, or of this member of it, so that the answer goes on from there.
   * Default false.
   */
  readonly continueFinalMessage?: boolean | string | undefined
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
    const open = openMessage(messages, options)
    const variables = this.#variables(open?.messages ?? messages, options)
    const text = this.#templates.render(this.#template(options, name), variables, SYNCHRONOUS_LIMITS)
    return open === undefined ? text : cutAtMark(text, open.text)
  }

  /** @throws BillfishError with the code of the template's faults if the default one cannot be parsed */
  check(): void {
    this.#templates.check(this.#template({}, undefined), SYNCHRONOUS_LIMITS)
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
    const open = openMessage(messages, options)
    const variables = this.#variables(open?.messages ?? messages, options)
    const text = this.#templates.tryRender(template, variables, EVENT_LOOP_LIMITS)
    const finished = (text: string) => (open === undefined ? text : cutAtMark(text, open.text))
    if (text !== undefined && text.length <= maxRenderedLength(0)) return finished(text)
    const characters = guarded('messages', () => charactersOf([messages, options.tools, options.variables]))
    if (characters > MAX_TEXT_BYTES) {
      const message = `Messages, tools and variables have ${characters} characters in total`
      throw new BillfishError(
        'INVALID_OPTION',
        `${message}, but at most ${MAX_TEXT_BYTES} can be encoded at once. Shorten them.`,
      )
    }
    const longest = maxRenderedLength(characters)
    if (text === undefined) return { ...toRendering(template, variables, longest), continued: open?.text }
    return finished(checkRendered(text, longest, template))
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
      add_generation_prompt: options.addGenerationPrompt ?? (options.continueFinalMessage ?? false) === false,
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
