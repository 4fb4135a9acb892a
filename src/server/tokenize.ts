/** POST /tokenize and /detokenize, with vLLM's fields and llama-server's. */
import { z } from 'zod'
import { templateMessages } from '../generation/chat-messages'
import type { Tokenizer } from '../tokenizer'
import type { Call } from './endpoint'
import { chatMessages, messagesField } from './openai/chat-messages'
import { field, parseRequest } from './openai/fields'
import { invalidRequest } from './request-error'
import type { ServedModel } from './served-models'
import { templateVariables } from './template-variables'

export const tokenizeFields = z.looseObject({
  model: field(z.string()),
  prompt: field(z.string()),
  messages: field(messagesField),
  tools: field(z.array(z.record(z.string(), z.unknown()))),
  add_special_tokens: field(z.boolean()),
  add_generation_prompt: field(z.boolean()),
  continue_final_message: field(z.boolean()),
  chat_template_kwargs: field(z.record(z.string(), z.unknown())),
  return_token_strs: field(z.boolean()),
  // llama-server's
  content: field(z.string()),
  add_special: field(z.boolean()),
})

export const detokenizeFields = z.looseObject({ model: field(z.string()), tokens: z.array(z.int().min(0)) })

export async function tokenize({ models, body, signal }: Call): Promise<Response> {
  const request = parseRequest(tokenizeFields, body)
  const served = models.find(request.model)
  const tokenizer = tokenizerOf(served)
  const tokens = await tokensOf(served, request, signal)
  return Response.json({
    count: tokens.length,
    max_model_len: served.model.limits.maxModelLength,
    tokens,
    ...(request.return_token_strs && { token_strs: tokens.map((id) => tokenizer.idToToken(id) ?? '') }),
  })
}

/** Tokens of a chat are those of the prompt of an answer; texts get special tokens in vLLM, none in llama-server. */
function tokensOf(
  served: ServedModel,
  request: z.output<typeof tokenizeFields>,
  signal: AbortSignal,
): Promise<number[]> {
  const { prompt, content, messages } = request
  const tokenizer = tokenizerOf(served)
  if ([prompt, content, messages].filter((given) => given !== undefined).length !== 1) {
    throw invalidRequest('One of prompt, messages and content is needed.', 'prompt')
  }
  if (prompt !== undefined) {
    return tokenizer.encode(prompt, { addSpecialTokens: request.add_special_tokens ?? true, signal })
  }
  if (content !== undefined)
    return tokenizer.encode(content, { addSpecialTokens: request.add_special ?? false, signal })
  return tokenizer.applyChatTemplate(templateMessages(chatMessages(messages ?? []), undefined), {
    tools: request.tools,
    addGenerationPrompt: request.add_generation_prompt ?? request.continue_final_message !== true,
    continueFinalMessage: request.continue_final_message,
    chatTemplateKwargs: templateVariables(served.templateVariables, request.chat_template_kwargs),
    signal,
  })
}

export function detokenize({ models, body }: Call): Response {
  const { model, tokens } = parseRequest(detokenizeFields, body)
  const text = tokenizerOf(models.find(model)).decode(tokens)
  return Response.json({ prompt: text, content: text })
}

function tokenizerOf({ model, name }: ServedModel): Tokenizer {
  if (model.tokenizer === undefined) throw invalidRequest(`The model '${name}' has no tokenizer.`, 'model')
  return model.tokenizer
}
