/** The fields that requests for text share: OpenAI's, and those that vLLM adds. */
import { z } from 'zod'
import type { GenerateOptions } from '../../generation/sampling-options'
import { invalidRequest } from '../request-error'

/** A field that may be left out or null. */
export const field = <Schema extends z.ZodType>(schema: Schema) =>
  schema.nullish().transform((value) => value ?? undefined)

/** Choices of a prompt. */
export const MAX_CHOICES = 16
const MAX_SALT = 1024

export const samplingFields = {
  model: field(z.string()),
  temperature: field(z.number().min(0).max(2)),
  top_p: field(z.number().gt(0).max(1)),
  top_k: field(z.int().min(-1)),
  min_p: field(z.number().min(0).max(1)),
  max_tokens: field(z.int().min(1)),
  min_tokens: field(z.int().min(0)),
  n: field(z.int().min(1).max(MAX_CHOICES)),
  seed: field(z.int()),
  stop: field(z.union([z.string().min(1), z.array(z.string().min(1))])),
  stop_token_ids: field(z.array(z.int().min(0))),
  ignore_eos: field(z.boolean()),
  presence_penalty: field(z.number().min(-2).max(2)),
  frequency_penalty: field(z.number().min(-2).max(2)),
  repetition_penalty: field(z.number().gt(0)),
  cache_salt: field(z.string().min(1).max(MAX_SALT)),
  logit_bias: field(z.record(z.string().regex(/^\d+$/, 'must be token ids'), z.number().min(-100).max(100))),
  stream: field(z.boolean()),
  stream_options: field(z.looseObject({ include_usage: field(z.boolean()) })),
}

type Fields = z.output<z.ZodObject<typeof samplingFields>>

/** What is sampled for a choice. Choices of a request with a seed have seeds of their own. */
export function generateOptions(
  fields: Omit<Fields, 'model' | 'n' | 'stream' | 'stream_options' | 'cache_salt'>,
  choice: number,
): GenerateOptions {
  const { top_k, seed } = fields
  return {
    temperature: fields.temperature,
    topP: fields.top_p,
    topK: top_k === -1 ? 0 : top_k,
    minP: fields.min_p,
    maxNewTokens: fields.max_tokens,
    minNewTokens: fields.min_tokens,
    seed: seed === undefined ? undefined : BigInt.asUintN(64, BigInt(seed) + BigInt(choice)),
    stop: fields.stop,
    stopTokenIds: fields.stop_token_ids,
    ignoreEos: fields.ignore_eos,
    presencePenalty: fields.presence_penalty,
    frequencyPenalty: fields.frequency_penalty,
    repetitionPenalty: fields.repetition_penalty,
    logitBias: fields.logit_bias,
  }
}

/**
 * @param at where the value is in the request's body; empty for the body itself
 * @throws RequestError 400 naming the field
 */
export function parseRequest<Schema extends z.ZodType>(schema: Schema, body: unknown, at = ''): z.output<Schema> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const path = (issue?.path ?? []).reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`),
    at,
  )
  if (path === '') throw invalidRequest('The body must be a JSON object.')
  throw invalidRequest(`${path}: ${issue?.message}`, path)
}

/** @throws RequestError 400 for fields that contradict each other */
export function checkFields({ stream, stream_options }: Fields): void {
  if (stream_options !== undefined && !stream) {
    throw invalidRequest('stream_options is given without stream: true.', 'stream_options')
  }
}
