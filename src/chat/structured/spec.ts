import { z } from 'zod'
import { members } from '../../options/values'
import type { ToolFunction } from '../tools/tool-parser'

/** The form that an answer must have: one of its properties. */
export interface StructuredOutput {
  /** A JSON schema; `true` for any JSON object. */
  readonly json?: object | boolean | undefined
  /** An ECMAScript regular expression of the whole answer. */
  readonly regex?: string | undefined
  /** The answers to choose from. */
  readonly choice?: readonly string[] | undefined
  /** A grammar in the notation of GBNF, whose rule `root` is the whole answer. */
  readonly grammar?: string | undefined
}

/** Tool calls that an answer is made of. */
export interface ToolCallForm {
  readonly format: 'hermes' | 'qwen3_coder'
  /** Those that may be called. */
  readonly functions: readonly ToolFunction[]
  /** Whether there may be more than one call. */
  readonly isParallel: boolean
}

/** What an answer must be: a text of a form, or tool calls, or one of both. */
export type AnswerForm =
  | StructuredOutput
  | {
      readonly calls: ToolCallForm
      /** Undefined if there must be a call. */
      readonly text: StructuredOutput | undefined
    }

const MAX_CHOICES = 10_000

const FORM = 'an object with one of { json: a schema or true, regex: string, choice: string[], grammar: string }'

export const structuredOutput = members({
  json: z.union([z.record(z.string(), z.unknown()), z.literal(true)]).optional(),
  regex: z.string().optional(),
  choice: z.array(z.string()).min(1).max(MAX_CHOICES).optional(),
  grammar: z.string().optional(),
})
  .refine((spec) => Object.values(spec).filter((value) => value !== undefined).length === 1)
  .describe(FORM)
