/** How models write tool calls and reasoning, and which of it a chat template is for. */
import { REASONING_TAGS, type ReasoningStart } from './reasoning'
import { HermesParser } from './tools/hermes'
import { Qwen3CoderParser } from './tools/qwen3-coder'
import type { ToolCallSink, ToolFunction, ToolParser } from './tools/tool-parser'

interface ToolFormatParts {
  parser(sink: ToolCallSink, tools: readonly ToolFunction[]): ToolParser
}

/**
 * By the names that vLLM gives its parsers.
 * - `hermes`: JSON between `<tool_call>` tags (Qwen2.5, Qwen3, Hermes).
 * - `qwen3_coder`: tags for function and parameters (Qwen3-Coder, Qwen3.5).
 */
export type ToolFormat = 'hermes' | 'qwen3_coder'

export const TOOL_FORMATS: Readonly<Record<ToolFormat, ToolFormatParts>> = {
  hermes: { parser: (sink) => new HermesParser(sink) },
  qwen3_coder: { parser: (sink, tools) => new Qwen3CoderParser(sink, tools) },
}

/**
 * - `qwen3`: between `<think>` tags, where the prompt has not opened or closed it already.
 * - `deepseek_r1`: the same, but an answer starts with reasoning where the prompt does not tell.
 * - `none`: no reasoning; such tags are text.
 */
export type ReasoningFormat = 'qwen3' | 'deepseek_r1' | 'none'

export const TOOL_FORMAT_NAMES = Object.keys(TOOL_FORMATS) as ToolFormat[]
export const REASONING_FORMAT_NAMES: readonly ReasoningFormat[] = ['qwen3', 'deepseek_r1', 'none']

/** The format that a chat template asks for; undefined if it shows none that is known. */
export function detectToolFormat(template: string): ToolFormat | undefined {
  if (template.includes('<function=')) return 'qwen3_coder'
  return template.includes('<tool_call>') ? 'hermes' : undefined
}

export function detectReasoningFormat(template: string): ReasoningFormat {
  return REASONING_TAGS.some((tag) => template.includes(tag)) ? 'qwen3' : 'none'
}

/** The tags that a format's parsers have to see. */
export function reasoningTags(format: ReasoningFormat): readonly string[] {
  return format === 'none' ? [] : REASONING_TAGS
}

/** Where an answer starts whose prompt says `start`. */
export function startOf(format: ReasoningFormat, start: ReasoningStart): ReasoningStart | undefined {
  if (format === 'none') return undefined
  return format === 'deepseek_r1' && start === 'tagged' ? 'open' : start
}
