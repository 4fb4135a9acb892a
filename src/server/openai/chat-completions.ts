/** POST /v1/chat/completions */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { Generation } from '../../generation/generation'
import type { Call } from '../endpoint'
import { eventStream, merged } from '../event-stream'
import { invalidRequest } from '../request-error'
import { messagesField, templateMessage } from './chat-messages'
import { checkFields, field, generateOptions, parseRequest, samplingFields } from './fields'
import { resultsOf, usageOf } from './results'

export const chatFields = z.looseObject({
  ...samplingFields,
  messages: messagesField,
  max_completion_tokens: field(z.int().min(1)),
  chat_template_kwargs: field(z.record(z.string(), z.unknown())),
  add_generation_prompt: field(z.boolean()),
})
type ChatRequest = z.output<typeof chatFields>

/** Fields that would change the answer, and are not understood yet. Others are ignored, as vLLM does. */
const REFUSED = [
  'tools',
  'functions',
  'structured_outputs',
  'logprobs',
  'top_logprobs',
  'continue_final_message',
  'echo',
]

/** What all parts of an answer say. */
interface Head {
  readonly id: string
  readonly created: number
  readonly model: string
}

/** @throws RequestError, and what `generate()` throws */
export async function chatCompletions({ models, body, cacheSalt, signal }: Call): Promise<Response> {
  const request = parseRequest(chatFields, body)
  checkFields(request)
  refuseOthers(request)
  const { model, name } = models.admit(request.model)
  const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: name }
  const messages = request.messages.map(templateMessage)
  const generations = Array.from({ length: request.n ?? 1 }, (_, choice) =>
    model.generate(messages, {
      ...generateOptions({ ...request, max_tokens: request.max_completion_tokens ?? request.max_tokens }, choice),
      cacheSalt: cacheSalt(request.cache_salt),
      chatTemplate: { variables: request.chat_template_kwargs, addGenerationPrompt: request.add_generation_prompt },
      signal,
    }),
  )
  if (!request.stream) return Response.json(await completion(head, generations))
  return eventStream(chunks(head, generations, request.stream_options?.include_usage === true))
}

function refuseOthers(request: ChatRequest): void {
  for (const name of REFUSED) {
    const value = request[name]
    if (value == null || value === false) continue
    throw invalidRequest(`${name} is not supported by this server yet; leave it out.`, name)
  }
  const { response_format } = request
  if (response_format == null || (response_format as { type?: unknown }).type === 'text') return
  throw invalidRequest('response_format: only the type text is supported by this server yet.', 'response_format')
}

async function completion(head: Head, generations: readonly Generation[]) {
  const results = await resultsOf(generations)
  return {
    ...head,
    object: 'chat.completion',
    choices: results.map(({ text, finishReason }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs: null,
      finish_reason: finishReason,
    })),
    usage: usageOf(results),
  }
}

/** The parts of a streamed answer. A choice's role comes with its first tokens: nothing is said before. */
async function* chunks(head: Head, generations: readonly Generation[], includeUsage: boolean) {
  const chunk = (index: number, delta: object, finishReason: string | null = null) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index, delta, logprobs: null, finish_reason: finishReason }],
    ...(includeUsage && { usage: null }),
  })
  async function* choice(generation: Generation, index: number) {
    let isFirst = true
    for await (const { text } of generation) {
      if (isFirst) yield chunk(index, { role: 'assistant', content: '' })
      isFirst = false
      if (text !== '') yield chunk(index, { content: text })
    }
    yield chunk(index, {}, await generation.finishReason)
  }
  yield* merged(generations.map(choice))
  if (!includeUsage) return
  const results = await resultsOf(generations)
  yield { ...head, object: 'chat.completion.chunk', choices: [], usage: usageOf(results) }
}
