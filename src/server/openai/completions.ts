/** POST /v1/completions */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { Generation } from '../../generation/generation'
import type { GenerationResult } from '../../generation/results'
import type { Call } from '../endpoint'
import { merged } from '../event-stream'
import { invalidRequest } from '../request-error'
import type { ServedModel } from '../served-models'
import { checkFields, field, generateOptions, MAX_CHOICES, parseRequest, samplingFields } from './fields'
import { CompletionLogprobs } from './logprobs'
import { structuredFields, structuredOutputOf } from './response-format'
import { resultsOf, usageOf } from './results'

const MAX_PROMPTS = 1024
/** As OpenAI's. */
const DEFAULT_MAX_TOKENS = 16

const tokenIds = z.array(z.int().min(0)).min(1)
export const completionFields = z.looseObject({
  ...samplingFields,
  ...structuredFields,
  prompt: z.union([
    z.string(),
    z.array(z.string()).min(1).max(MAX_PROMPTS),
    tokenIds,
    z.array(tokenIds).min(1).max(MAX_PROMPTS),
  ]),
  logprobs: field(z.int().min(0).max(20)),
  echo: field(z.boolean()),
  suffix: field(z.string()),
  best_of: field(z.int().min(1).max(MAX_CHOICES)),
  add_special_tokens: field(z.boolean()),
})
type CompletionRequest = z.output<typeof completionFields>

/** What all parts of an answer say. */
interface Head {
  readonly id: string
  readonly object: 'text_completion'
  readonly created: number
  readonly model: string
}

/** A choice being generated. */
interface Choice {
  readonly generation: Generation
  /** The prompt's text, if it is to be repeated. */
  readonly echoed: string
  readonly logprobs: CompletionLogprobs | undefined
}

export async function completions({ models, body, cacheSalt, signal, stream }: Call): Promise<Response> {
  const request = parseRequest(completionFields, body)
  checkFields(request)
  refuseOthers(request)
  const served = models.admit(request.model)
  const choices = start(served, request, cacheSalt(request.cache_salt), signal)
  const head: Head = {
    id: `cmpl-${randomUUID()}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: served.name,
  }
  if (!request.stream) return Response.json(await completion(head, choices, request.n ?? 1))
  return stream(chunks(head, choices, request.n ?? 1, request.stream_options?.include_usage === true))
}

function refuseOthers({ suffix, best_of, n = 1, echo, logprobs }: CompletionRequest): void {
  if (suffix) throw invalidRequest('suffix is not supported; write the prompt with the tokens of the model.', 'suffix')
  if (best_of !== undefined && best_of !== n) {
    throw invalidRequest(`best_of is ${best_of}, but only n answers (${n}) are generated; leave it out.`, 'best_of')
  }
  if (echo && logprobs !== undefined) {
    throw invalidRequest("echo with logprobs is not supported: the prompt's tokens have none.", 'logprobs')
  }
}

/** Generates n choices for each prompt. */
function start(
  { model, name }: ServedModel,
  request: CompletionRequest,
  cacheSalt: string | undefined,
  signal: AbortSignal,
): Choice[] {
  const { logprobs, n = 1 } = request
  const { tokenizer } = model
  if (tokenizer === undefined) throw invalidRequest(`The model '${name}' has no tokenizer.`, 'model')
  const structuredOutput = structuredOutputOf(request)
  const choices: Choice[] = []
  try {
    for (const prompt of promptsOf(request)) {
      const echoed = !request.echo ? '' : typeof prompt === 'string' ? prompt : tokenizer.decode(prompt)
      for (let index = 0; index < n; index++) {
        const generation = model.generate(prompt, {
          ...generateOptions({ ...request, max_tokens: request.max_tokens ?? DEFAULT_MAX_TOKENS }, index),
          logprobs,
          cacheSalt,
          structuredOutput,
          ...(typeof prompt === 'string' && { addSpecialTokens: request.add_special_tokens }),
          signal,
        })
        const reported = logprobs === undefined ? undefined : new CompletionLogprobs(tokenizer, echoed.length)
        choices.push({ generation, echoed, logprobs: reported })
      }
    }
    return choices
  } catch (error) {
    for (const { generation } of choices) generation.cancel(error)
    throw error
  }
}

/** One or many texts, or token ids of one or many. */
function promptsOf({ prompt, n = 1 }: CompletionRequest): readonly (string | readonly number[])[] {
  const isOne = typeof prompt === 'string' || typeof prompt[0] === 'number'
  const prompts = (isOne ? [prompt] : prompt) as readonly (string | readonly number[])[]
  if (prompts.length * n > MAX_PROMPTS) {
    throw invalidRequest(
      `${prompts.length} prompts of n = ${n} choices are more than ${MAX_PROMPTS} at once.`,
      'prompt',
    )
  }
  return prompts
}

async function completion(head: Head, choices: readonly Choice[], n: number) {
  const results = await resultsOf(choices.map(({ generation }) => generation))
  return {
    ...head,
    choices: choices.map(({ echoed, logprobs }, index) => {
      const result = results[index] as GenerationResult
      return {
        index,
        text: echoed + result.text,
        logprobs: logprobs?.next(result.logprobs ?? []) ?? null,
        finish_reason: result.finishReason,
      }
    }),
    usage: usageOf(results, n),
  }
}

/** The parts of a streamed answer. An echoed prompt comes with the first tokens. */
async function* chunks(head: Head, choices: readonly Choice[], n: number, includeUsage: boolean) {
  const chunk = (index: number, text: string, logprobs: object | null, finishReason: string | null) => ({
    ...head,
    choices: [{ index, text, logprobs, finish_reason: finishReason }],
    ...(includeUsage && { usage: null }),
  })
  async function* choice({ generation, echoed, logprobs }: Choice, index: number) {
    let before = echoed
    for await (const { text, logprobs: sampled = [] } of generation) {
      const reported = logprobs?.next(sampled) ?? null
      if (before + text !== '' || reported !== null) yield chunk(index, before + text, reported, null)
      before = ''
    }
    yield chunk(index, '', null, await generation.finishReason)
  }
  yield* merged(choices.map(choice))
  if (!includeUsage) return
  const results = await resultsOf(choices.map(({ generation }) => generation))
  yield { ...head, choices: [], usage: usageOf(results, n) }
}
