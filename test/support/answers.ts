import type { AnswerEvent } from '../../src/chat/answer-events'
import { AnswerParser } from '../../src/chat/answer-parser'
import { TOOL_FORMATS, type ToolFormat } from '../../src/chat/formats'
import type { ReasoningStart } from '../../src/chat/reasoning'
import type { ToolFunction } from '../../src/chat/tools/tool-parser'

export interface Setting {
  readonly format?: ToolFormat
  readonly tools?: readonly ToolFunction[]
  readonly reasoning?: ReasoningStart
  readonly isCut?: boolean
  readonly maxCalls?: number
}

/** Reads an answer that comes in these parts; calls are numbered instead of given ids. */
export function read(parts: Iterable<string>, { format, tools = [], reasoning, isCut, maxCalls }: Setting = {}) {
  let calls = 0
  const parser = new AnswerParser({
    reasoning,
    tools: format && ((sink) => TOOL_FORMATS[format].parser(sink, tools)),
    maxCalls: maxCalls ?? Number.POSITIVE_INFINITY,
    isConstrained: false,
    newId: () => `call_${calls++}`,
  })
  const events: AnswerEvent[] = []
  for (const part of parts) events.push(...parser.push(part))
  events.push(...parser.end(isCut ?? false))
  return { events, answer: parser.answer, callsTools: parser.callsTools, isComplete: parser.isComplete }
}

/** The answer that events add up to, as a client would put them together. */
export function accumulated(events: readonly AnswerEvent[]) {
  let content = ''
  let reasoning = ''
  const calls: { id: string; name: string; arguments: string; isComplete: boolean }[] = []
  for (const event of events) {
    if (event.type === 'content') content += event.text
    else if (event.type === 'reasoning') reasoning += event.text
    else if (event.type === 'toolCallBegin') {
      calls[event.index] = { id: event.id, name: event.name, arguments: '', isComplete: false }
    } else {
      const call = calls[event.index] as (typeof calls)[number]
      if (event.type === 'toolCallArguments') call.arguments += event.text
      else call.isComplete = true
    }
  }
  return { content, reasoning, calls }
}
