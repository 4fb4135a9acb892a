/** The object `response`, whose members repeat those of the request. */
import { randomUUID } from 'node:crypto'
import type { ChatUsage } from '../../../generation/chat-generation'
import type { ResponseRequest } from './fields'

export type ResponseObject = ReturnType<typeof responseOf>

/** An answer that has just begun. What was not given, and is the model's own, is null. */
export function responseOf(request: ResponseRequest, model: string) {
  return {
    id: newId('resp'),
    object: 'response',
    created_at: Math.floor(Date.now() / 1000),
    status: 'in_progress',
    error: null as object | null,
    incomplete_details: null as object | null,
    model,
    output: [] as readonly object[],
    usage: null as object | null,
    background: false,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: request.temperature ?? null,
    text: { format: request.text?.format ?? { type: 'text' } },
    tool_choice: request.tool_choice ?? 'auto',
    tools: request.tools ?? [],
    top_logprobs: request.top_logprobs ?? 0,
    top_p: request.top_p ?? null,
    truncation: 'disabled',
  }
}

export function usageOf({ promptTokens, cachedTokens, completionTokens, reasoningTokens, totalTokens }: ChatUsage) {
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: cachedTokens },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens },
    total_tokens: totalTokens,
  }
}

/** @param kind what ids of such objects begin with */
export function newId(kind: 'resp' | 'rs' | 'msg' | 'fc'): string {
  return `${kind}_${randomUUID().replaceAll('-', '')}`
}
