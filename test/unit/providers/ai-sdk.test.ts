/** `billfish/ai-sdk`, as the AI SDK uses it. */
import { join } from 'node:path'
import type { ProviderV3 } from '@ai-sdk/provider'
import { embed, embedMany, generateObject, generateText, streamObject, streamText, tool } from 'ai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { loadModel, type Model } from '../../../src'
import { type BillfishProvider, createBillfish, type Models } from '../../../src/providers/ai-sdk'

const prompt = 'What is the capital of France?'
const greedy = { prompt, temperature: 0, maxOutputTokens: 12 }
/** An answer of more tokens than are ever read. */
const endless = { prompt, temperature: 1, maxOutputTokens: 900, providerOptions: { billfish: { ignoreEos: true } } }

Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false }) // the tests read them

let model: Model
let billfish: BillfishProvider
beforeAll(async () => {
  model = await loadModel(join(__dirname, '../../../examples/demo-model'), { deviceMap: 'cpu' })
  billfish = createBillfish({ demo: model })
})
afterAll(() => model.dispose())

/** What the model generates without the AI SDK. */
const expected = () =>
  model.generate([{ role: 'user', content: prompt }], { temperature: 0, maxNewTokens: 12 }).result()

describe('the provider', () => {
  test('has models by name, and the first one without', () => {
    const provider: ProviderV3 = billfish
    expect(provider.languageModel('demo')).toMatchObject({ specificationVersion: 'v3', modelId: 'demo' })
    expect(billfish()).toMatchObject({ provider: 'billfish', modelId: 'demo' })
    expect(createBillfish(model)()).toMatchObject({ modelId: 'default' })
    expect(billfish.embeddingModel()).toMatchObject({ specificationVersion: 'v3', modelId: 'demo' })
  })

  test('says which models it has', () => {
    expect(() => billfish('gpt')).toThrow("There is no model 'gpt', but 'demo'.")
    expect(() => billfish.embeddingModel('gpt')).toThrow(expect.objectContaining({ name: 'AI_NoSuchModelError' }))
    expect(() => billfish.imageModel('demo')).toThrow(expect.objectContaining({ name: 'AI_NoSuchModelError' }))
    expect(() => createBillfish({} as Models)).toThrow(/^models is empty/)
  })
})

describe('generateText()', () => {
  test('answers as generate() does', async () => {
    const { text, usage, finishReason, stoppedBy } = await expected()
    const answer = await generateText({ model: billfish('demo'), ...greedy })
    expect(answer.text).toBe(text)
    expect(answer.finishReason).toBe(finishReason)
    expect(answer.usage).toMatchObject({
      inputTokens: usage.promptTokens,
      outputTokens: usage.completionTokens,
      totalTokens: usage.totalTokens,
    })
    expect(answer.response.modelId).toBe('demo')
    expect(answer.warnings).toEqual([])
    expect(answer.providerMetadata?.billfish?.stoppedBy).toEqual(stoppedBy)
    expect(answer.providerMetadata?.billfish?.seed).toMatch(/^\d+$/)
  })

  test('repeats an answer by its seed, also a negative one', async () => {
    const sampled = { model: billfish('demo'), prompt, temperature: 2, maxOutputTokens: 16, seed: -3 }
    const [one, other] = [await generateText(sampled), await generateText(sampled)]
    expect(other.text).toBe(one.text)
    expect(one.providerMetadata?.billfish).toMatchObject({ seed: String(2n ** 64n - 3n) })
  })

  test('stops at a sequence, which is not part of the answer', async () => {
    const { text } = await expected()
    const end = text.slice(2, 4)
    const answer = await generateText({ model: billfish(), ...greedy, stopSequences: [end] })
    expect(answer.text).toBe(text.slice(0, text.indexOf(end)))
    expect(answer.finishReason).toBe('stop')
    expect(answer.providerMetadata?.billfish).toMatchObject({ stoppedBy: end })
  })

  test("takes chat()'s options, those of the AI SDK first", async () => {
    const options = { maxNewTokens: 5, minP: 0.5, ignoreEos: true, logprobs: 0 }
    const call = { model: billfish(), prompt, temperature: 0, providerOptions: { billfish: options } }
    const answer = await generateText(call)
    expect([answer.usage.outputTokens, answer.finishReason]).toEqual([5, 'length'])
    const tokens = Array.from({ length: 5 }, () => expect.objectContaining({ logprob: expect.any(Number) }))
    expect(answer.providerMetadata?.billfish).toMatchObject({ logprobs: tokens })
    expect((await generateText({ ...call, maxOutputTokens: 3 })).usage.outputTokens).toBe(3)
  })

  test('rejects for an option that does not exist, at once', async () => {
    const call = { model: billfish(), prompt, providerOptions: { billfish: { minp: 0.5 } } }
    await expect(generateText(call)).rejects.toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })

  test("rejects with an abort's reason", async () => {
    const controller = new AbortController()
    const answer = generateText({ model: billfish(), ...endless, abortSignal: controller.signal })
    await expect.poll(() => model.activity().running).toBe(1)
    controller.abort()
    await expect(answer).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }))
    expect(model.activity().running).toBe(0)
  })

  test('refuses images and files', async () => {
    const image = { type: 'image' as const, image: new Uint8Array([0x89, 0x50, 0x4e, 0x47]) }
    const messages = [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'What is it?' }, image] }]
    await expect(generateText({ model: billfish(), messages })).rejects.toThrow(
      expect.objectContaining({
        name: 'AI_UnsupportedFunctionalityError',
        message: expect.stringContaining("'file' of type image/png"),
      }),
    )
  })

  test('rejects tools that the chat template knows no way to call, unless it is named', async () => {
    const weather = tool({
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `Rain in ${city}`,
    })
    const call = { model: billfish(), ...greedy, tools: { weather } }
    await expect(generateText(call)).rejects.toThrow(/^tools is given, but the chat template/)
    const providerOptions = { billfish: { toolFormat: 'hermes' } }
    expect((await generateText({ ...call, providerOptions })).warnings).toEqual([])
  })
})

describe('streamText()', () => {
  test('streams what generate() answers, in the order that the AI SDK expects', async () => {
    const { text, usage } = await expected()
    const { stream } = await billfish().doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
      temperature: 0,
      maxOutputTokens: 12,
    })
    const types: string[] = []
    for await (const { type } of stream) if (types.at(-1) !== type) types.push(type)
    expect(types).toEqual(['stream-start', 'response-metadata', 'text-start', 'text-delta', 'text-end', 'finish'])
    const streamed = streamText({ model: billfish(), ...greedy })
    let read = ''
    for await (const part of streamed.textStream) read += part
    expect(read).toBe(text)
    expect(await streamed.usage).toMatchObject({ outputTokens: usage.completionTokens })
    expect((await streamed.response).modelId).toBe('demo')
  })

  test('gives an abort part in mid-stream, and frees the sequence', async () => {
    const controller = new AbortController()
    let aborted = 0
    const { fullStream } = streamText({
      model: billfish(),
      ...endless,
      abortSignal: controller.signal,
      onAbort: () => {
        aborted++
      },
    })
    const types: string[] = []
    for await (const { type } of fullStream) {
      types.push(type)
      if (type === 'text-delta') controller.abort()
    }
    expect(types.at(-1)).toBe('abort')
    expect(types).not.toContain('error')
    expect(aborted).toBe(1)
    expect(model.activity()).toMatchObject({ running: 0, waiting: 0, paused: 0 })
  })

  test('ends the generation when its reader leaves, even before the first part', async () => {
    const call = { prompt: [{ role: 'user' as const, content: [{ type: 'text' as const, text: prompt }] }] }
    const options = { ...call, temperature: 1, providerOptions: { billfish: { ignoreEos: true } } }
    const reader = (await billfish().doStream(options)).stream.getReader()
    for (let part = await reader.read(); part.value?.type !== 'text-delta'; ) part = await reader.read()
    await reader.cancel()
    await (await billfish().doStream(options)).stream.cancel()
    await expect.poll(() => model.activity().running + model.activity().waiting).toBe(0)
  })

  test('gives an error part, and the reason error, for what fails later', async () => {
    const errors: unknown[] = []
    const lost = await loadModel(join(__dirname, '../../../examples/demo-model'), { deviceMap: 'cpu' })
    const { fullStream, finishReason } = streamText({
      model: createBillfish(lost)(),
      ...endless,
      onError: ({ error }) => {
        errors.push(error)
      },
    })
    const types: string[] = []
    for await (const { type } of fullStream) {
      types.push(type)
      if (type === 'text-delta') await lost.dispose()
    }
    expect(errors).toMatchObject([{ code: 'DISPOSED' }])
    expect(types.filter((type) => type === 'error')).toHaveLength(1)
    expect(await finishReason).toBe('error')
  })

  test('runs beside others, whose answers it does not change', async () => {
    const { text } = await expected()
    const texts = Array.from({ length: 6 }, async () => streamText({ model: billfish(), ...greedy }).text)
    expect(await Promise.all(texts)).toEqual(Array(6).fill(text))
  })
})

describe('generateObject()', () => {
  const schema = z.object({ capital: z.enum(['Paris', 'Rome']), inhabitants: z.int().min(1).max(99) })

  test('gives objects of the schema, whole or streamed, from a model that knows nothing of it', async () => {
    const call = { model: billfish(), prompt, temperature: 0, schema }
    const { object, finishReason, warnings } = await generateObject(call)
    expect(schema.parse(object)).toEqual(object)
    expect([finishReason, warnings]).toEqual(['stop', []])
    const streamed = streamObject(call)
    for await (const _ of streamed.partialObjectStream);
    expect(await streamed.object).toEqual(object)
  })

  test('asks for the schema in the prompt, too', async () => {
    const call = {
      prompt: [
        { role: 'system' as const, content: 'Be brief.' },
        { role: 'user' as const, content: [{ type: 'text' as const, text: prompt }] },
      ],
      maxOutputTokens: 1,
    }
    const json = { type: 'json' as const, schema: { type: 'object' as const, required: ['capital'] } }
    const { usage } = await billfish().doGenerate({ ...call, responseFormat: json })
    const plain = await billfish().doGenerate({ ...call, responseFormat: { type: 'text' } })
    expect(usage.inputTokens.total).toBeGreaterThan((plain.usage.inputTokens.total ?? 0) + 20)
  })

  test('reports an answer that was cut off', async () => {
    await expect(generateObject({ model: billfish(), prompt, schema, maxOutputTokens: 2 })).rejects.toThrow(
      expect.objectContaining({ name: 'AI_NoObjectGeneratedError', finishReason: 'length' }),
    )
  })
})

describe('embedMany()', () => {
  test('gives the vectors of embed(), with its options', async () => {
    const values = ['Paris', 'Berlin', 'Rome']
    const { embeddings, usage } = await model.embed(values, { dimensions: 8 })
    const many = await embedMany({
      model: billfish.embeddingModel('demo'),
      values,
      providerOptions: { billfish: { dimensions: 8 } },
    })
    expect(many.embeddings).toEqual(embeddings.map((vector) => Array.from(vector)))
    expect(many.usage.tokens).toBe(usage.totalTokens)
    const { embedding } = await embed({ model: billfish.embeddingModel(), value: 'Paris' })
    expect(embedding).toHaveLength(model.limits.hiddenSize)
  })

  test("rejects with an abort's reason", async () => {
    const abortSignal = AbortSignal.abort()
    await expect(embed({ model: billfish.embeddingModel(), value: 'a', abortSignal })).rejects.toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    )
  })
})
