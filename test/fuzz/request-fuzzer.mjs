/**
 * Sends damaged requests to a server's endpoints. Whatever the damage, the answer is one that clients can read: a success, or
 * an error object with a status below 500 (503 where a model is gone). No refusal takes long; an answer takes as long as
 * what is asked for, such as hundreds of prompts.
 */
import { Outcomes, randomOf, Stopwatch } from './cases.mjs'
import { mutateBytes, mutateJson } from './mutations.mjs'

const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: [{ type: 'text', text: 'What is 17 + 25?' }] },
  {
    role: 'assistant',
    content: null,
    tool_calls: [{ id: 'a', type: 'function', function: { name: 'add', arguments: '{"a":17}' } }],
  },
  { role: 'tool', tool_call_id: 'a', content: '42' },
  { role: 'user', content: 'Thanks \u{1f600}' },
]
const sampling = {
  model: 'demo',
  max_tokens: 2,
  temperature: 0.7,
  top_p: 0.9,
  top_k: 5,
  min_p: 0.1,
  n: 2,
  seed: 1,
  stop: ['a'],
  stop_token_ids: [2],
  logit_bias: { 5: 1 },
  presence_penalty: 0.5,
  repetition_penalty: 1.1,
  min_tokens: 1,
  ignore_eos: true,
}

/** Requests that are answered, with as many fields as can be damaged. */
const REQUESTS = {
  '/v1/chat/completions': [
    { ...sampling, messages },
    { messages: messages.slice(1, 2), max_completion_tokens: 2, stream: true, stream_options: { include_usage: true } },
    { messages, max_tokens: 1, chat_template_kwargs: { enable_thinking: false }, add_generation_prompt: true },
  ],
  '/v1/completions': [
    { ...sampling, prompt: ['Hello', 'there'], logprobs: 2 },
    { prompt: [[1, 2], [3]], max_tokens: 2, stream: true, echo: true, best_of: 1 },
  ],
  '/v1/responses': [
    {
      model: 'demo',
      max_output_tokens: 2,
      instructions: 'Be brief.',
      input: [
        { role: 'user', content: [{ type: 'input_text', text: 'What is 17 + 25?' }] },
        { type: 'reasoning', summary: [], content: [{ type: 'reasoning_text', text: 'Hm' }] },
        { type: 'function_call', call_id: 'a', name: 'add', arguments: '{"a":17}' },
        { type: 'function_call_output', call_id: 'a', output: '42' },
      ],
      tools: [],
      tool_choice: 'auto',
      temperature: 0.5,
      top_p: 0.9,
      text: { format: { type: 'text' } },
      reasoning: { effort: 'low' },
      include: ['message.output_text.logprobs'],
      top_logprobs: 2,
      metadata: { a: 'b' },
      store: false,
    },
    { max_output_tokens: 2, input: 'Hello', stream: true },
  ],
  '/v1/messages': [
    {
      model: 'demo',
      max_tokens: 2,
      system: [{ type: 'text', text: 'Be brief.' }],
      messages: [
        { role: 'user', content: 'What is 17 + 25?' },
        { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'add', input: { a: 17 } }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: '42' }] },
      ],
      stop_sequences: ['a'],
      temperature: 0.5,
      top_k: 5,
      thinking: { type: 'disabled' },
      tool_choice: { type: 'none' },
    },
    { max_tokens: 2, messages: [{ role: 'user', content: 'Hello' }], stream: true },
  ],
  '/v1/messages/count_tokens': [{ messages: [{ role: 'user', content: 'Hello' }] }],
  '/v1/embeddings': [
    { model: 'demo', input: ['Hello'], encoding_format: 'base64', dimensions: 4 },
    { input: [[1, 2]] },
  ],
  '/tokenize': [{ prompt: 'Hello', add_special_tokens: true, return_token_strs: true }, { messages }],
  '/detokenize': [{ tokens: [1, 2, 3] }],
}

/**
 * @param {object} options
 * @param {(request: Request) => Promise<Response>} options.fetch a server's, with a model called demo
 * @param {number} options.seed
 * @param {number} [options.first] number of the first case
 * @param {(done: number) => boolean} options.more whether to run another case after `done` cases
 * @returns {Promise<Outcomes>} kinds are statuses with paths, and for errors their parameters
 * @throws {Error} that tells how to run the failing case again
 */
export async function fuzzRequests({ fetch, seed, first = 0, more }) {
  const outcomes = new Outcomes()
  for (let number = first; more(number - first); number++) {
    const random = randomOf(seed, number)
    const path = random.pick(Object.keys(REQUESTS))
    const body = damaged(JSON.stringify(random.pick(REQUESTS[path])), random)
    const watch = new Stopwatch()
    try {
      const kind = await kindOfAnswer(await fetch(new Request(`http://demo${path}`, { method: 'POST', body })))
      outcomes.add(`${path} ${kind}`, number, kind.startsWith('200') ? 0 : watch.read())
    } catch (error) {
      const what = `Case ${number} with seed ${seed} failed: ${String(error?.stack ?? error).slice(0, 2000)}`
      throw new Error(`${what}\n${path} ${JSON.stringify(String(body).slice(0, 4000))}`, { cause: error })
    }
  }
  return outcomes
}

/** Mostly JSON with other values, sometimes other bytes. */
function damaged(text, random) {
  if (random.chance(0.9)) return mutateJson(text, random).text
  const bytes = Buffer.from(text)
  return mutateBytes(bytes, bytes.length, random).bytes
}

/** Of a stream of OpenAI's APIs, or Anthropic's. */
const STREAM_END =
  /\ndata: (?:\[DONE\]|\{"type":"(?:message_stop|error|response\.(?:completed|incomplete|failed))".*)\n\n$/

/** @throws Error for an answer that no client can read */
async function kindOfAnswer(response) {
  const { status, headers } = response
  const text = await response.text()
  if (headers.get('content-type')?.startsWith('text/event-stream')) {
    if (status === 200 && STREAM_END.test(text)) return `200 stream${text.includes('"error"') ? ', error' : ''}`
  } else {
    const answer = JSON.parse(text)
    if (status === 200) return '200'
    const { message, type, param } = answer.error ?? {}
    if ((status < 500 || status === 503) && typeof message === 'string' && typeof type === 'string') {
      return `${status} ${String(param ?? '')
        .replaceAll(/\d+/g, '#')
        .slice(0, 40)}`
    }
  }
  throw new Error(`the answer is ${status} ${text.slice(0, 1000)}`)
}
