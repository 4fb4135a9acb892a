/** POST /v1/embeddings */
import { z } from 'zod'
import type { Call } from '../endpoint'
import { field, parseRequest } from './fields'

/** As OpenAI allows. */
const MAX_INPUTS = 2048

const tokenIds = z.array(z.int().min(0)).min(1)
export const embeddingFields = z.looseObject({
  model: field(z.string()),
  input: z.union([
    z.string(),
    z.array(z.string()).min(1).max(MAX_INPUTS),
    tokenIds,
    z.array(tokenIds).min(1).max(MAX_INPUTS),
  ]),
  encoding_format: field(z.enum(['float', 'base64'])),
  dimensions: field(z.int().min(1)),
})

export async function embeddings({ models, body, cacheSalt, signal }: Call): Promise<Response> {
  const { model: asked, input, encoding_format, dimensions } = parseRequest(embeddingFields, body)
  const { model, name } = models.admit(asked)
  const { embeddings, usage } = await model.embed(input, { dimensions, cacheSalt: cacheSalt(undefined), signal })
  const encode = encoding_format === 'base64' ? base64 : (vector: Float32Array) => Array.from(vector)
  return Response.json({
    object: 'list',
    data: embeddings.map((vector, index) => ({ object: 'embedding', index, embedding: encode(vector) })),
    model: name,
    usage: { prompt_tokens: usage.promptTokens, total_tokens: usage.totalTokens },
  })
}

/** Of little-endian fp32 numbers, as OpenAI's clients decode it. They ask for it unless their caller asks for numbers. */
function base64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')
}
