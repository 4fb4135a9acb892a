/** What callers hand to objects of billfish, and what these hand out: neither may break the object. */
import { resolve } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BillfishError, loadModel, loadTokenizer, type Model } from '../../../src'
import { modelDirectory } from '../../support/fixtures'
import { refusal } from '../../support/refusals'

const directory = modelDirectory('qwen2-gptq-int4-g128')
const demo = resolve(__dirname, '../../../examples/demo-model')
let model: Model
beforeAll(async () => {
  model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64 })
})
afterAll(() => model.dispose())

const thrower = () => {
  throw new RangeError('not today')
}

describe('a method that was taken out of its object', () => {
  test('is refused by name, and not with the TypeError of a private field', async () => {
    const tokenizer = await loadTokenizer(demo)
    const generation = model.generate([1], { maxNewTokens: 1 })
    for (const [called, object] of Object.entries({ model, tokenizer, generation, trace: model.trace() })) {
      const prototype = Object.getPrototypeOf(object)
      for (const key of Reflect.ownKeys(prototype).filter(
        (name) => name !== 'constructor' && name !== inspect.custom,
      )) {
        const { get, value } = Object.getOwnPropertyDescriptor(prototype, key) as PropertyDescriptor
        for (const other of [undefined, null, 7, {}, Object.create(null), prototype]) {
          const error = await (async () => (get ?? value).call(other, 'x'))().catch((thrown: unknown) => thrown)
          expect(error, `${called}.${String(key)}`).toBeInstanceOf(BillfishError)
          expect(error).toMatchObject({ code: 'INVALID_STATE', message: expect.stringContaining(called) })
        }
      }
      expect(inspect(Object.create(object))).toBeTypeOf('string')
      expect(inspect(new Proxy(object, {}))).toBeTypeOf('string')
    }
    await expect(Promise.all(['a'].map(tokenizer.encode as never))).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await generation.result()
    await tokenizer.dispose()
  })
})

describe('an object that was handed out', () => {
  test('can be modified without any effect on the model', async () => {
    await using own = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64 })
    const { vocabulary } = own.limits
    const { tokenIds } = await own.generate([1, 2], { maxNewTokens: 4, temperature: 0 }).result()
    Object.assign(own.limits, { maxModelLength: 1e9, vocabulary: 1e9, blockSize: 1, hiddenSize: 1 })
    Object.assign(own.deviceMap, { 'model.embed_tokens': 'cuda:9' })
    Object.assign(own.config, { vocab_size: 1, model_type: 'other' })
    const many = Array.from({ length: 500 }, () => 1)
    expect((await refusal(() => own.forward(many))).message).toContain('but 64 is maxModelLength')
    expect((await refusal(() => own.generate(many).result())).message).toContain('63 is the most')
    expect((await refusal(() => own.forward([123456789]))).message).toContain('token ids of this model are')
    expect((await own.generate([1, 2], { maxNewTokens: 4, temperature: 0 }).result()).tokenIds).toEqual(tokenIds)
    expect((await own.forward([1])).logits).toHaveLength(vocabulary)
  })
})

describe('token ids and texts of other kinds', () => {
  test('are refused by the tokenizer, not converted', async () => {
    await using tokenizer = await loadTokenizer(demo)
    for (const id of [undefined, null, '12', [1], 5n, 1.5, -1, Number.NaN, new Proxy({}, { get: thrower })]) {
      expect((await refusal(() => tokenizer.idToToken(id as never))).message).toMatch(/^The id is .*a whole number/)
      if (typeof id === 'string') continue
      expect((await refusal(() => tokenizer.tokenToId(id as never))).message).toMatch(/^The token is .*a string/)
    }
    expect([tokenizer.idToToken(1e9), tokenizer.tokenToId('no such token')]).toEqual([undefined, undefined])
    for (const ids of [Buffer.from('abc'), Float32Array.of(1), BigInt64Array.of(1n), new DataView(new ArrayBuffer(4))])
      expect((await refusal(() => tokenizer.decode(ids as never))).message).toContain('must be an array')
    expect(tokenizer.decode(Int32Array.of(5))).toBe(tokenizer.decode([5]))
  })

  test('are refused as keys of logitBias', async () => {
    for (const key of ['', ' 5', '0x10', '1e1', '5.0', '05', '-1', 'x'])
      expect((await refusal(() => model.generate([1], { logitBias: { [key]: 1 } as never }))).message).toContain(
        `logitBias has the key ${JSON.stringify(key)}, but`,
      )
    expect((await refusal(() => model.generate([1], { logitBias: new Map([[null, 1]]) as never }))).message).toContain(
      'logitBias has the key null, but',
    )
  })
})

describe('messages', () => {
  test('are refused if they are endless or cannot be read', async () => {
    await using tokenizer = await loadTokenizer(demo)
    const endless = Object.assign([{ role: 'user', content: 'x' }], { length: 4_000_000_000 })
    const circle: Record<string, unknown> = { role: 'user', content: 'x' }
    circle.me = circle
    const { proxy, revoke } = Proxy.revocable([], {})
    revoke()
    const wrong = [
      new Array(4_000_000_000),
      endless,
      [{ role: 'user', content: new Array(4_000_000_000) }],
      [{ role: 'user', content: 'x', name: new Array(4_000_000_000) }],
      [circle],
      proxy,
      [proxy],
      new Proxy([], { get: thrower }),
      Promise.resolve([]),
      undefined,
    ]
    for (const messages of wrong) {
      const { message } = await refusal(() => tokenizer.applyChatTemplate(messages as never))
      expect(message).not.toContain('[object')
      expect(message.length).toBeLessThan(400)
    }
  })

  test('may only have members that JSON can represent', async () => {
    await using tokenizer = await loadTokenizer(demo)
    const shown = (x: unknown) =>
      tokenizer.applyChatTemplate([{ role: 'user', content: '' }], {
        chatTemplate: '{{ x }}',
        chatTemplateKwargs: { x },
        tokenize: false,
      })
    for (const x of [Promise.resolve(1), new Map([['a', 1]]), new Set([1]), /x/, new Error('x'), Int32Array.of(1)])
      expect((await refusal(() => shown(x))).message).toMatch(/x is an? \w+; templates take what JSON can hold/)
    expect(await shown(Object('boxed'))).toBe('boxed')
    expect(await shown(new URL('https://example.org/a'))).toBe('https://example.org/a')
    expect(await shown({ a: { toJSON: () => [1, null] } })).toBe("{'a': [1, None]}")
  })
})

test('messages that are too long are blamed, not their template', async () => {
  await using tokenizer = await loadTokenizer(demo)
  const messages = [{ role: 'user', content: 'word '.repeat(4e6) }]
  expect((await refusal(() => tokenizer.applyChatTemplate(messages))).message).toMatch(
    /20000\d\d\d characters.*Shorten/,
  )
})

describe("a template's variables", () => {
  test('that have their own option are not ignored', async () => {
    await using tokenizer = await loadTokenizer(demo)
    await using own = await loadModel(demo, { deviceMap: 'cpu' })
    const messages = [{ role: 'user', content: 'Hi' }]
    for (const [name, instead] of Object.entries({
      messages: 'an argument',
      tools: 'the option tools',
      add_generation_prompt: 'the option addGenerationPrompt',
    })) {
      const variables = { [name]: true }
      for (const call of [
        () => tokenizer.applyChatTemplate(messages, { chatTemplateKwargs: variables }),
        () => own.generate(messages, { chatTemplate: { variables } }),
      ])
        expect((await refusal(call)).message).toContain(instead)
    }
    const chatTemplate = '{{ documents }}'
    const render = (chatTemplateKwargs: Record<string, unknown>) =>
      tokenizer.applyChatTemplate(messages, { chatTemplate, chatTemplateKwargs, tokenize: false })
    expect([await render({}), await render({ documents: [1] })]).toEqual(['None', '[1]'])
  })

  test('a path is refused as the text of a template', async () => {
    await using tokenizer = await loadTokenizer(demo)
    for (const chatTemplate of ['./chat_template.jinja', 'some words', 'tool_use'])
      expect((await refusal(() => tokenizer.applyChatTemplate([], { chatTemplate }))).message).toContain(
        `chatTemplate is "${chatTemplate}"`,
      )
  })
})
