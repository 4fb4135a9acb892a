/** POST /v1/responses: OpenAI's Responses API. Nothing is stored. */
import type { TokenLogprob } from '../../../generation/results'
import type { Tokenizer } from '../../../tokenizer'
import type { Call } from '../../endpoint'
import { templateVariables } from '../../template-variables'
import { parseRequest } from '../fields'
import { chatLogprobs } from '../logprobs'
import { answerEvents, responseStream, streamedEvents } from './events'
import { chatOptions, checkResponse, responseFields } from './fields'
import { chatMessages } from './input'
import { responseOf } from './response'

export async function responses({ models, body, cacheSalt, signal, stream }: Call): Promise<Response> {
  const request = parseRequest(responseFields, body)
  checkResponse(request)
  const served = models.admit(request.model)
  const { model, name, formats } = served
  const messages = chatMessages(request.input, request.instructions)
  const options = {
    ...chatOptions(request, formats),
    chatTemplate: { variables: templateVariables(served.templateVariables, undefined, request.reasoning?.effort) },
  }
  const chat = model.chat(messages, { ...options, cacheSalt: cacheSalt(request.cache_salt), signal })
  const response = responseOf(request, name)
  const logprobsOf = (tokens: readonly TokenLogprob[]) => chatLogprobs(tokens, model.tokenizer as Tokenizer).content
  if (request.stream) return stream(streamedEvents(response, chat, logprobsOf), responseStream)
  return Response.json(await wholeAnswer(answerEvents(response, chat, logprobsOf)))
}

/** What the last event has. */
async function wholeAnswer(events: AsyncIterable<object>): Promise<unknown> {
  let last: object = {}
  for await (const event of events) last = event
  return (last as { readonly response?: unknown }).response
}
