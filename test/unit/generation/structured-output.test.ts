// Answers of a given form, from a model that knows nothing of it.
import { resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type GenerateOptions, type LoadOptions, loadModel, type Model } from '../../../src/index'

const directory = resolve(__dirname, '../../../examples/demo-model')
const question = [{ role: 'user' as const, content: 'Who are you?' }]
const schema = {
  type: 'object',
  properties: {
    kind: { enum: ['fish', 'bird'] },
    count: { type: 'integer', minimum: 3, maximum: 17 },
    colors: { type: 'array', items: { enum: ['red', 'blue'] }, minItems: 1, maxItems: 3 },
  },
  required: ['kind', 'count', 'colors'],
}
let model: Model

beforeAll(async () => {
  model = await loadModel(directory, { maxModelLength: 512 })
})
afterAll(() => model.dispose())

const answer = (options: GenerateOptions) => model.generate(question, { temperature: 0, ...options }).result()

function expectFish(text: string): void {
  expect(JSON.parse(text)).toEqual({
    kind: expect.stringMatching(/^(fish|bird)$/),
    count: expect.toSatisfy((count: number) => Number.isInteger(count) && count >= 3 && count <= 17),
    colors: expect.toSatisfy(
      (colors: string[]) => colors.length <= 3 && colors.every((color) => ['red', 'blue'].includes(color)),
    ),
  })
}

const places: Record<string, LoadOptions> = {
  'the CPU': { deviceMap: 'cpu' },
  'an emulated device': { deviceMap: 'emulated:0' },
  'two ranks on the CPU': { deviceMap: 'cpu', tensorParallelSize: 2 },
}

describe.each(Object.keys(places))('on %s', (place) => {
  test('answers have their forms, beside others that have none', async () => {
    await using placed = await loadModel(directory, { maxModelLength: 256, maxSequences: 8, ...places[place] })
    const free = { maxNewTokens: 5, temperature: 0 }
    const alone = await placed.generate('Hi', free).result()
    const [one, other, unbound] = await Promise.all(
      [
        { structuredOutput: { choice: ['yes', 'no, never'] }, temperature: 0 },
        { structuredOutput: { regex: '(ab|cd){2}!' }, temperature: 1.5, topK: 20, topP: 0.95, seed: 1 },
        free,
      ].map((options) => placed.generate('Hi', options).result()),
    )
    expect(one?.text).toMatch(/^(yes|no, never)$/)
    expect(other?.text).toMatch(/^(ab|cd){2}!$/)
    expect(unbound?.tokenIds).toEqual(alone.tokenIds)
    expect(one).toMatchObject({ finishReason: 'stop' })
  })
})

test.each<[string, GenerateOptions]>([
  ['ignoreEos', { ignoreEos: true }],
  ['minNewTokens', { minNewTokens: 200 }],
  ['a bias for what is not allowed', { logitBias: { 5: 100, 6: 100 } }],
  ['a bias against what must come', { logitBias: Object.fromEntries([...Array(300).keys()].map((id) => [id, -100])) }],
  ['penalties', { repetitionPenalty: 2, presencePenalty: 2, frequencyPenalty: 2 }],
])('the form goes before %s', async (_, options) => {
  const { text, finishReason } = await answer({ structuredOutput: { json: schema }, ...options })
  expectFish(text)
  expect(finishReason).toBe('stop')
})

test('an answer whose form has no end goes on to its length, or to an end token', async () => {
  const { text, finishReason } = await answer({ structuredOutput: { regex: '[ab]*' }, maxNewTokens: 9, temperature: 2 })
  expect(text).toMatch(/^[ab]*$/)
  const cut = await answer({ structuredOutput: { regex: '[ab]{200}' }, maxNewTokens: 9 })
  expect(cut).toMatchObject({ text: expect.stringMatching(/^[ab]{9,}$/), finishReason: 'length' })
  expect(['stop', 'length']).toContain(finishReason)
})

test('stop strings cut it off, and log-probabilities are those of the unmodified distribution', async () => {
  const cut = await answer({ structuredOutput: { choice: ['one, two'] }, stop: ',' })
  expect(cut).toMatchObject({ text: 'one', stoppedBy: ',' })
  const { logprobs = [] } = await answer({ structuredOutput: { choice: ['xyzzy'] }, logprobs: 1 })
  expect(logprobs[0]?.alternatives[0]?.logprob).toBeGreaterThan(logprobs[0]?.logprob as number)
})

test('EBNF, any JSON object, and the same form again', async () => {
  const grammar = 'root ::= digits ("," digits)*\ndigits ::= [0-9]{2}\n# the end'
  for (let i = 0; i < 2; i++) {
    const { text } = await answer({ structuredOutput: { grammar }, maxNewTokens: 5, temperature: 1, seed: 3 })
    expect(text).toMatch(/^[0-9]{2}(,[0-9]{2})*,?[0-9]?$/)
  }
  const { text } = await answer({ structuredOutput: { json: true }, maxNewTokens: 40 })
  expect(text).toMatch(/^\{/)
})

test('preempted answers go on where they were', async () => {
  await using small = await loadModel(directory, { maxModelLength: 128, maxSequences: 8, maxCacheTokens: 160 })
  const generate = (seed: number) => {
    const structuredOutput = { regex: '[0-9]{1000}' }
    return small.generate('Hello', { structuredOutput, maxNewTokens: 100, temperature: 1, topK: 0, seed }).result()
  }
  const seeds = [1, 2, 3, 4, 5, 6, 7, 8]
  const together = await Promise.all(seeds.map(generate))
  expect(small.activity().preemptions).toBeGreaterThan(0)
  for (const [i, seed] of seeds.slice(0, 3).entries()) {
    expect(together[i]?.text).toMatch(/^[0-9]+$/)
    expect((await generate(seed)).tokenIds).toEqual(together[i]?.tokenIds)
  }
})

test('an abort ends it while its form is compiled, and later', async () => {
  const reason = new Error('enough')
  for (const wait of [0, 30]) {
    const abort = new AbortController()
    const generation = model.generate(question, {
      structuredOutput: { regex: `[a-z]{${wait + 300}}` },
      signal: abort.signal,
    })
    setTimeout(() => abort.abort(reason), wait)
    await expect(generation.result()).rejects.toBe(reason)
  }
  expect(model.activity()).toMatchObject({ running: 0, waiting: 0 })
})

test.each<[string, GenerateOptions['structuredOutput'], RegExp]>([
  ['no schema', { json: { type: 'strng' } }, /^structuredOutput\.json: #\/type of the schema must be one of object, /],
  ['a contradiction', { json: { allOf: [{ type: 'string' }, { type: 'null' }] } }, /no text matches it/],
  ['a broken pattern', { regex: '(' }, /^structuredOutput\.regex: /],
  ['a grammar without root', { grammar: 'a ::= "b"' }, /rule root is not defined \(line 1, column 10\)/],
])('refuses %s', async (_, structuredOutput, message) => {
  const outcome = await answer({ structuredOutput }).catch((error: unknown) => error)
  expect(outcome).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringMatching(message) })
})

test('a form is one of four', () => {
  for (const wrong of [{}, { json: {}, regex: 'a' }, { choice: [] }, { json: false }, { xml: 'a' }, 'json']) {
    expect(() => model.generate(question, { structuredOutput: wrong as never })).toThrow(/structuredOutput/)
  }
})

test('a grammar that is too ambiguous ends its own answer alone', async () => {
  // Each "a" doubles what the rest may be.
  const grammar = 'root ::= "a" root "b" | "a" root "c" | "d"'
  const [a] = (await model.tokenizer?.encode('a', { addSpecialTokens: false })) ?? []
  const [good, bad] = await Promise.allSettled([
    answer({ structuredOutput: { choice: ['fine'] } }),
    answer({ structuredOutput: { grammar }, logitBias: { [a as number]: 100 } }),
  ])
  expect(good).toMatchObject({ status: 'fulfilled', value: { text: 'fine' } })
  expect(bad).toMatchObject({ reason: { code: 'INVALID_OPTION', message: expect.stringMatching(/too ambiguous/) } })
})
