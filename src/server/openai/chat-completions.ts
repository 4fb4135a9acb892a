/** POST /v1/chat/completions */
import { randomUUID } from 'node:crypto'
import type { ChatGeneration } from '../../generation/chat-generation'
import type { ChatFinishReason } from '../../generation/chat-reader'
import type { TokenLogprob } from '../../generation/results'
import type { Tokenizer } from '../../tokenizer'
import type { Call } from '../endpoint'
import { merged } from '../event-stream'
import { templateVariables } from '../template-variables'
import { chatUsageOf, deltaOf, messageOf } from './chat-answer'
import { chatFields, chatOptions, checkChat } from './chat-fields'
import { chatMessages } from './chat-messages'
import { parseRequest } from './fields'
import { chatLogprobs } from './logprobs'
import { resultsOf } from './results'

/** What all parts of an answer have in common. */
interface Head {
  readonly id: string
  readonly created: number
  readonly model: string
}

/** How an answer is shown. */
interface View {
  readonly includeReasoning: boolean
  readonly includeUsage: boolean
  logprobs(tokens: readonly TokenLogprob[] | undefined): object | null
  finishReason(reason: ChatFinishReason): ChatFinishReason
}

/** @throws RequestError, and what `model.chat()` throws */
export async function chatCompletions({ models, body, cacheSalt, signal, stream }: Call): Promise<Response> {
  const request = parseRequest(chatFields, body)
  checkChat(request)
  const served = models.admit(request.model)
  const { model, name, formats } = served
  const own = templateVariables(served.templateVariables, request.chat_template_kwargs, request.reasoning_effort)
  const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: name }
  const messages = chatMessages(request.messages)
  const shared = { cacheSalt: cacheSalt(request.cache_salt), signal }
  const chats = Array.from({ length: request.n ?? 1 }, (_, choice) =>
    model.chat(messages, { ...chatOptions({ ...request, chat_template_kwargs: own }, choice, formats), ...shared }),
  )
  const view: View = {
    includeReasoning: request.include_reasoning ?? true,
    includeUsage: request.stream_options?.include_usage === true,
    logprobs: (tokens) => (tokens === undefined ? null : chatLogprobs(tokens, model.tokenizer as Tokenizer)),
    // As OpenAI has it: a call that the client has named is no decision of the model.
    finishReason: (reason) => (reason === 'tool_calls' && typeof request.tool_choice === 'object' ? 'stop' : reason),
  }
  if (!request.stream) return Response.json(await completion(head, chats, view))
  return stream(chunks(head, chats, view))
}

async function completion(head: Head, chats: readonly ChatGeneration[], view: View) {
  const results = await resultsOf(chats)
  return {
    ...head,
    object: 'chat.completion',
    choices: results.map((result, index) => ({
      index,
      message: messageOf(result, view.includeReasoning),
      logprobs: view.logprobs(result.logprobs),
      finish_reason: view.finishReason(result.finishReason),
    })),
    usage: chatUsageOf(results),
  }
}

/** The parts of a streamed answer. */
async function* chunks(head: Head, chats: readonly ChatGeneration[], view: View) {
  const { includeUsage } = view
  const part = (choices: readonly object[], usage: object | null = null) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices,
    ...(includeUsage && { usage }),
  })
  for await (const choice of merged(chats.map((chat, index) => choiceParts(chat, index, view)))) yield part([choice])
  if (includeUsage) yield part([], chatUsageOf(await resultsOf(chats)))
}

/**
 * The parts of a streamed choice. Its role comes with what it says first: nothing is said before. Log-probabilities come
 * with what follows them.
 */
async function* choiceParts(chat: ChatGeneration, index: number, view: View) {
  const part = (delta: object, tokens: readonly TokenLogprob[], finishReason: string | null = null) => ({
    index,
    delta,
    logprobs: view.logprobs(tokens.length > 0 ? tokens : undefined),
    finish_reason: finishReason,
  })
  let isFirst = true
  let tokens: TokenLogprob[] = []
  for await (const event of chat) {
    if (event.type === 'logprobs') tokens.push(...event.logprobs)
    const delta = deltaOf(event, view.includeReasoning)
    if (delta === undefined) continue
    if (isFirst) yield part({ role: 'assistant', content: '' }, [])
    isFirst = false
    yield part(delta, tokens)
    tokens = []
  }
  if (isFirst) yield part({ role: 'assistant', content: '' }, [])
  const { finishReason } = await chat.result()
  yield part({}, tokens, view.finishReason(finishReason))
}
