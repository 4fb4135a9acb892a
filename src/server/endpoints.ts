/** Every endpoint that serves models. A new one is a file with its handler, and a line here. */
import type { Endpoint } from './endpoint'
import { chatCompletions } from './openai/chat-completions'
import { completions } from './openai/completions'
import { embeddings } from './openai/embeddings'
import { describeModel, listModels } from './openai/models'
import { detokenize, tokenize } from './tokenize'

export const endpoints: readonly Endpoint[] = [
  {
    method: 'POST',
    path: '/v1/chat/completions',
    handle: ({ models, body, signal }) => chatCompletions(models, body, signal),
  },
  { method: 'POST', path: '/v1/completions', handle: completions },
  { method: 'POST', path: '/v1/embeddings', handle: embeddings },
  { method: 'GET', path: '/v1/models', handle: ({ models }) => Response.json(listModels(models)) },
  {
    method: 'GET',
    path: '/v1/models/:name{.+}',
    handle: ({ models, param }) => Response.json(describeModel(models, param('name'))),
  },
  { method: 'POST', path: '/tokenize', handle: tokenize },
  { method: 'POST', path: '/detokenize', handle: detokenize },
]
