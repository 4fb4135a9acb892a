import { join } from 'node:path'
import { z } from 'zod'
import { BudgetExhausted, type BudgetLimits } from '../chat/jinja/budget'
import { PythonError, TemplateSyntaxError } from '../chat/jinja/errors'
import { type CompiledTemplate, compileTemplate, renderTemplate } from '../chat/jinja/template'
import { fromJavaScript } from '../chat/jinja/values/from-javascript'
import type { Value } from '../chat/jinja/values/values'
import { readTextFile } from '../checkpoint/files'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError, type ErrorCode } from '../errors'
import { readJsonObject } from './text-file'
import type { Tokenizer } from './types'

const MAX_TEMPLATE_BYTES = 4 * 1024 * 1024
const MAX_CONFIG_BYTES = 16 * 1024 * 1024

/** What compiling and rendering may take while everything else waits: a hundred times what long conversations take. */
const LIMITS: BudgetLimits = { steps: 2_000_000, bytes: 64 * 1024 * 1024, depth: 150, milliseconds: 300 }

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

const messageSchema = z.looseObject({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(z.strictObject({ type: z.literal('text'), text: z.string() }))]).nullish(),
})

/**
 * Messages as a template expects them: every content a string.
 * @throws BillfishError INVALID_OPTION naming the message
 */
export function normalizeMessages(messages: readonly ChatMessage[]): Record<string, unknown>[] {
  return messages.map((message, index) => {
    const refuse = (what: string) =>
      new BillfishError('INVALID_OPTION', `messages[${index}] ${what}; it is ${shown(message)}`)
    const parsed = messageSchema.safeParse(message)
    if (!parsed.success) {
      const path = parsed.error.issues[0]?.path ?? []
      if (path[0] === 'role') throw refuse("must have a role, a string such as 'user'")
      if (path[0] === 'content') throw refuse("must have as content a string, or parts { type: 'text', text: string }")
      throw refuse('must be an object { role, content }')
    }
    const { content } = parsed.data
    if (Array.isArray(content)) return { ...parsed.data, content: content.map(({ text }) => text).join('') }
    if (typeof content === 'string') return parsed.data
    if (!Array.isArray(parsed.data.tool_calls)) throw refuse('must have a content, having no tool_calls')
    return { ...parsed.data, content: '' }
  })
}

/** A checkpoint's chat template: Jinja text that turns messages into a prompt. */
export class ChatTemplate {
  readonly #sources: ReadonlyMap<string, string>
  readonly #path: string
  readonly #fault: ErrorCode
  readonly #specialTokens: ReadonlyMap<string, string>
  readonly #compiled = new Map<string, CompiledTemplate>()

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
   * The prompt for `messages`, special tokens written out: encode it with `addSpecialTokens: false`.
   * @throws BillfishError INVALID_OPTION for malformed messages and for what the template itself refuses;
   * INVALID_CHECKPOINT if the template cannot be parsed, or takes too much time or memory
   * @param name which of its templates; the usual one if not told
   */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}, name?: string): string {
    const variables = this.#variables(messages, options)
    return this.#guarded(() => {
      const usual = options.tools !== undefined && this.#sources.has('tool_use') ? 'tool_use' : 'default'
      const template = this.#compile(name ?? usual)
      return renderTemplate(template, variables, LIMITS)
    })
  }

  /** @throws BillfishError INVALID_OPTION for what JSON cannot hold */
  #variables(messages: readonly ChatMessage[], options: ChatTemplateOptions): ReadonlyMap<string, Value> {
    const given = Object.entries({
      ...options.variables,
      messages: normalizeMessages(messages),
      tools: options.tools ?? null, // None, as transformers has it, and not undefined
      documents: null,
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

  /** Runs `work`, and says of its errors whose they are. */
  #guarded<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      if (error instanceof PythonError) {
        const message = `The chat template in ${this.#path} cannot render these messages: ${error.message}`
        throw new BillfishError('INVALID_OPTION', message, { cause: error })
      }
      if (error instanceof TemplateSyntaxError) {
        const message = `${this.#path}: the chat template is malformed: ${error.message}`
        throw new BillfishError(this.#fault, message, { cause: error })
      }
      if (error instanceof BudgetExhausted) {
        const advice = 'no conversation needs so much: compare the template with the released checkpoint'
        const message = `${this.#path}: the chat template takes ${error.message}; ${advice}`
        throw new BillfishError(this.#fault, message, { cause: error })
      }
      throw error
    }
  }

  /** Templates are compiled on first use, so that one that cannot be parsed does not stand in the way of plain text. */
  #compile(name: string): CompiledTemplate {
    let template = this.#compiled.get(name)
    if (template === undefined) {
      const source = this.#sources.get(name)
      if (source === undefined) {
        const names = [...this.#sources.keys()].join(', ')
        throw invalidCheckpoint(`${this.#path} has chat templates named ${names}, but none named ${name}`)
      }
      template = compileTemplate(source, LIMITS)
      this.#compiled.set(name, template)
    }
    return template
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
  if (jinja !== undefined) return one(jinjaPath, jinja)

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
