/** The events of an answer: the last one has all of it. */
import type { ChatGeneration } from '../../../generation/chat-generation'
import type { TokenLogprob } from '../../../generation/results'
import { type StreamFormat, typedEvent } from '../../event-stream'
import { asRequestError } from '../../request-error'
import { Items } from './items'
import { type ResponseObject, usageOf } from './response'

type LogprobsOf = (tokens: readonly TokenLogprob[]) => readonly object[]

/** A failure before the first event is an event, too; one behind it is `response.failed`. */
export const responseStream: StreamFormat = {
  event: typedEvent,
  error: ({ message, details: { param = null, code = null } }) =>
    typedEvent({ type: 'error', message, param, code, sequence_number: 0 }),
  ping: ': ping',
}

/**
 * Nothing is said before the first token.
 * @param response what it is before that
 * @throws what the model throws
 */
export async function* answerEvents(
  response: ResponseObject,
  chat: ChatGeneration,
  logprobsOf: LogprobsOf,
): AsyncGenerator<object, void> {
  const items = new Items()
  let tokens: TokenLogprob[] = []
  let isFirst = true
  for await (const event of chat) {
    if (isFirst) yield* begin(response)
    isFirst = false
    if (event.type === 'logprobs') {
      tokens.push(...event.logprobs)
      continue
    }
    yield* items.of(event, event.type === 'content' ? logprobsOf(tokens) : [])
    tokens = []
  }
  if (isFirst) yield* begin(response)
  const { finishReason, usage } = await chat.result()
  const status = finishReason === 'length' ? 'incomplete' : 'completed'
  yield* items.end(status)
  const answer = {
    ...response,
    status,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    output: items.closed,
    usage: usageOf(usage),
  }
  yield { type: `response.${status}`, response: answer }
}

function begin(response: ResponseObject): object[] {
  return ['response.created', 'response.in_progress'].map((type) => ({ type, response }))
}

/** With their numbers, and with a failure as the last one. @throws what fails before the first one */
export async function* streamedEvents(response: ResponseObject, chat: ChatGeneration, logprobsOf: LogprobsOf) {
  let count = 0
  try {
    for await (const event of answerEvents(response, chat, logprobsOf)) yield { ...event, sequence_number: count++ }
  } catch (error) {
    if (count === 0) throw error
    const failure = { code: 'server_error', message: asRequestError(error).message }
    const failed = { ...response, status: 'failed', error: failure }
    yield { type: 'response.failed', response: failed, sequence_number: count }
  }
}
