/** Every endpoint that serves models. A new one is a file with its handler, and an entry here. */
import { countTokens, messages } from './anthropic/endpoints'
import { messagesFields, promptFields } from './anthropic/fields'
import type { Endpoint } from './endpoint'
import { chatCompletions } from './openai/chat-completions'
import { chatFields } from './openai/chat-fields'
import { completionFields, completions } from './openai/completions'
import { embeddingFields, embeddings } from './openai/embeddings'
import { describeModel, listModels } from './openai/models'
import { responses } from './openai/responses/endpoint'
import { responseFields } from './openai/responses/fields'
import { detokenize, detokenizeFields, tokenize, tokenizeFields } from './tokenize'

export const endpoints: readonly Endpoint[] = [
  {
    method: 'POST',
    path: '/v1/chat/completions',
    summary: 'An answer to messages',
    fields: chatFields,
    handle: chatCompletions,
  },
  {
    method: 'POST',
    path: '/v1/completions',
    summary: 'Continuations of texts or token ids',
    fields: completionFields,
    handle: completions,
  },
  {
    method: 'POST',
    path: '/v1/responses',
    summary: "An answer to items, as of OpenAI's Responses API",
    fields: responseFields,
    handle: responses,
  },
  {
    method: 'POST',
    path: '/v1/embeddings',
    summary: 'Vectors of texts or token ids',
    fields: embeddingFields,
    handle: embeddings,
  },
  {
    method: 'POST',
    path: '/v1/messages',
    summary: "An answer to messages, as of Anthropic's API",
    fields: messagesFields,
    handle: messages,
  },
  {
    method: 'POST',
    path: '/v1/messages/count_tokens',
    summary: 'How many tokens the prompt of such an answer has',
    fields: promptFields,
    handle: countTokens,
  },
  {
    method: 'GET',
    path: '/v1/models',
    summary: 'The models, by all of their names',
    handle: ({ models }) => Response.json(listModels(models)),
  },
  {
    method: 'GET',
    path: '/v1/models/:name{.+}',
    summary: 'A model',
    handle: ({ models, param }) => Response.json(describeModel(models, param('name'))),
  },
  {
    method: 'POST',
    path: '/tokenize',
    summary: 'Token ids of a text or a chat',
    fields: tokenizeFields,
    handle: tokenize,
  },
  {
    method: 'POST',
    path: '/detokenize',
    summary: 'The text of token ids',
    fields: detokenizeFields,
    handle: detokenize,
  },
]
