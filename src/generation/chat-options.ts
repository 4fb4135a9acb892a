import { z } from 'zod'
import { REASONING_FORMAT_NAMES, type ReasoningFormat, TOOL_FORMAT_NAMES, type ToolFormat } from '../chat/formats'
import { BillfishError } from '../common/errors'
import { invalidOption } from '../options/printed'
import { optionsOf } from '../options/read-options'
import { flag, members } from '../options/values'
import type { ChatTemplateOptions } from './chat-template'
import { continueFinalMessageOption } from './final-message'
import { type GenerateOptions, generateOptions } from './sampling-options'

/** A function that the model may call, in OpenAI's shape. */
export interface Tool {
  readonly type: 'function'
  readonly function: {
    readonly name: string
    readonly description?: string | undefined
    /** JSON schema of the arguments, an object. */
    readonly parameters?: Readonly<Record<string, unknown>> | undefined
    readonly [member: string]: unknown
  }
  readonly [member: string]: unknown
}

/**
 * Whether the model calls tools: if it wants to (`auto`), in any case (`required`), this one (`{ name }`), or not at all
 * (`none`), in which case it is told of none. Calls that must come are held to the tools' schemas.
 */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string }

/** How much the model shall think before it answers. */
export type ReasoningEffort = 'none' | 'minimal' | 'low' | 'medium' | 'high' | 'xhigh' | 'max'

export const REASONING_EFFORTS: readonly ReasoningEffort[] = [
  'none',
  'minimal',
  'low',
  'medium',
  'high',
  'xhigh',
  'max',
]

/** Options of {@link Model.chat}: those of {@link Model.generate}, and what makes an answer more than text. */
export interface ChatOptions extends Omit<GenerateOptions, 'addSpecialTokens' | 'chatTemplate'> {
  /** Functions that the model may call. The caller calls them, and adds the results as messages of the role `tool`. */
  readonly tools?: readonly Tool[] | undefined
  /** Default `auto`. */
  readonly toolChoice?: ToolChoice | undefined
  /** Whether an answer may have several calls; false ends it after the first one. Default true. */
  readonly parallelToolCalls?: boolean | undefined
  /**
   * JSON schema of the answer's text, as `structuredOutput: { json: schema }`. Beside tools, an answer is either such a text
   * or calls, held to the tools' schemas.
   */
  readonly schema?: Readonly<Record<string, unknown>> | undefined
  /** How the model writes tool calls. Default: as its chat template shows. */
  readonly toolFormat?: ToolFormat | undefined
  /** How the model writes its reasoning. Default: as its chat template shows. */
  readonly reasoningFormat?: ReasoningFormat | undefined
  /**
   * Sets the template's variables `reasoning_effort` and, to false for `none` and to true otherwise, `enable_thinking`,
   * unless `chatTemplate.variables` has them. What that changes depends on the template. Default: as the template has it.
   */
  readonly reasoningEffort?: ReasoningEffort | undefined
  /** Template options. */
  readonly chatTemplate?: Omit<ChatTemplateOptions, 'tools'> | undefined
}

const { addSpecialTokens: _, ...shared } = generateOptions.schemas

export const chatOptions = optionsOf<ChatOptions>('model.chat()', {
  ...shared,
  tools: z
    .array(
      z.looseObject({
        type: z.literal('function'),
        function: z.looseObject({
          name: z.string().min(1).describe('a name'),
          description: z.string().optional(),
          parameters: z.record(z.string(), z.unknown()).optional(),
        }),
      }),
    )
    .min(1)
    .describe("an array of { type: 'function', function: { name, description, parameters } }, at least one"),
  toolChoice: z
    .union([z.enum(['auto', 'none', 'required']), z.strictObject({ name: z.string() })])
    .describe("'auto', 'none', 'required' or { name: string }"),
  parallelToolCalls: flag(),
  schema: z.record(z.string(), z.unknown()).describe('a JSON schema, an object'),
  toolFormat: z.enum(TOOL_FORMAT_NAMES).describe(oneOf(TOOL_FORMAT_NAMES)),
  reasoningFormat: z.enum(REASONING_FORMAT_NAMES).describe(oneOf(REASONING_FORMAT_NAMES)),
  reasoningEffort: z.enum(REASONING_EFFORTS).describe(oneOf(REASONING_EFFORTS)),
  chatTemplate: members({
    addGenerationPrompt: flag().optional(),
    continueFinalMessage: continueFinalMessageOption.optional(),
    variables: z.record(z.string(), z.unknown()).describe('an object of names and values').optional(),
  }).describe(
    'an object { addGenerationPrompt?: boolean, continueFinalMessage?: boolean | string, variables?: object }',
  ),
})

/**
 * The tools that the model is told of; undefined if there are none.
 * @throws BillfishError INVALID_OPTION for a choice among none, and for names given twice
 */
export function usableTools({ tools, toolChoice, parallelToolCalls }: ChatOptions): readonly Tool[] | undefined {
  if (tools === undefined) {
    const given =
      toolChoice !== undefined && toolChoice !== 'none'
        ? { toolChoice }
        : parallelToolCalls === undefined
          ? {}
          : { parallelToolCalls }
    const [entry] = Object.entries(given)
    if (entry !== undefined) throw invalidOption(entry[0], entry[1], 'left out without the option tools')
    return undefined
  }
  const names = tools.map((tool) => tool.function.name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new BillfishError('INVALID_OPTION', `tools has two functions named ${twice}.`)
  const chosen = toolChoiceName(toolChoice)
  if (chosen !== undefined && !names.includes(chosen)) {
    throw invalidOption('toolChoice', toolChoice, `the name of one of the tools (${names.slice(0, 20).join(', ')})`)
  }
  return toolChoice === 'none' ? undefined : tools
}

/** The function that must be called, if one is named. */
export function toolChoiceName(choice: ToolChoice | undefined): string | undefined {
  return typeof choice === 'object' ? choice.name : undefined
}

/** The template's variables that a {@link ReasoningEffort} sets. */
export function effortVariables(effort: ReasoningEffort | undefined): Readonly<Record<string, unknown>> {
  return effort === undefined ? {} : { reasoning_effort: effort, enable_thinking: effort !== 'none' }
}

function oneOf(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`)
  return `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`
}
