/** POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API. */
import { randomUUID } from 'node:crypto'
import { templateMessages } from '../../generation/chat-messages'
import type { Call } from '../endpoint'
import { parseRequest } from '../openai/fields'
import { invalidRequest } from '../request-error'
import { messageEvents, messageOf } from './answer'
import { anthropicStream } from './errors'
import { chatOptions, messagesFields, promptFields, promptOf } from './fields'

export async function messages({ models, body, cacheSalt, signal, stream }: Call): Promise<Response> {
  const request = parseRequest(messagesFields, body)
  const served = models.admit(request.model)
  const { model, name, formats } = served
  const prompt = promptOf(request, served)
  const options = chatOptions(request, prompt, formats)
  const chat = model.chat(prompt.messages, { ...options, cacheSalt: cacheSalt(undefined), signal })
  const head = { id: `msg_${randomUUID().replaceAll('-', '')}`, model: name }
  if (!request.stream) return Response.json(messageOf(head, await chat.result()))
  return stream(messageEvents(head, chat), anthropicStream)
}

export async function countTokens({ models, body, signal }: Call): Promise<Response> {
  const request = parseRequest(promptFields, body)
  const served = models.find(request.model)
  const { model, name } = served
  if (model.tokenizer === undefined) throw invalidRequest(`The model '${name}' has no tokenizer.`, 'model')
  const { messages, tools, variables } = promptOf(request, served)
  const tokens = await model.tokenizer.applyChatTemplate(templateMessages(messages, undefined), {
    tools,
    addGenerationPrompt: true,
    chatTemplateKwargs: variables,
    signal,
  })
  return Response.json({ input_tokens: tokens.length })
}
