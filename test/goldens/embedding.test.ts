/** Embedding and reranker models: vectors by sentence-transformers, scores by transformers. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadModel, type Model } from '../../src/index'
import { changedCopy } from '../support/fixture-copies'
import { golden as readGolden } from '../support/goldens.cjs'
import { errorOf } from '../support/refusals'
import { readSafetensors } from '../support/tensors'

const directoryOf = (name: string) => resolve(__dirname, '../fixtures/models-2026', name)
const goldenOf = (name: string) => JSON.parse(readFileSync(join(directoryOf(name), 'golden.json'), 'utf8'))

/** The texts of a golden, as token ids. */
function textsOf(name: string, kind: 'emb' | 'cls' | 'rr'): number[][] {
  const tensors = readSafetensors(join(directoryOf(name), 'golden.safetensors'))
  const integers = (key: string) => {
    const { data } = tensors.get(`${kind}.${key}`) as { data: Uint8Array }
    return Array.from(new BigInt64Array(Uint8Array.from(data).buffer), Number)
  }
  const [ids, ends] = [integers('input_ids'), integers('cu_seqlens')]
  return ends.slice(1).map((end, i) => ids.slice(ends[i], end))
}

const furthest = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - (b[i] as number))))

const places = [
  ['the CPU in fp32', { deviceMap: 'cpu', dtype: 'float32' }, 1],
  ['the CPU', { deviceMap: 'cpu' }, 1e3],
  ['two ranks', { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: 2, dtype: 'float32' }, 1],
  [
    'two stages, in pieces of 8 tokens',
    {
      deviceMap: { '': 'cpu:1', 'model.layers.0': 'cpu:0', 'model.embed_tokens': 'cpu:0' },
      dtype: 'float32',
      maxBatchTokens: 8,
    },
    1,
  ],
  ['an emulated device', { deviceMap: 'emulated:0', dtype: 'float16' }, 1e4],
] as const

describe.each(places)('on %s', (_, options, looseness) => {
  const load = (name: string) =>
    loadModel(directoryOf(name), { ...options, maxModelLength: 128, maxSequences: 3 } as object)

  test('vectors are those of sentence-transformers', async () => {
    const name = 'qwen3-embedding'
    await using model = await load(name)
    const texts = textsOf(name, 'emb')
    const { tensor } = readGolden(directoryOf(name))
    const bound = 1e-6 * Math.min(looseness, 2e3)
    const { embeddings, usage } = await model.embed(texts)
    expect(usage).toEqual({ promptTokens: 105, totalTokens: 105 })
    const vectors = tensor('emb.vectors')
    for (const [i, vector] of embeddings.entries()) {
      expect(vector).toHaveLength(128)
      expect(furthest(vector, vectors.subarray(i * 128, (i + 1) * 128))).toBeLessThan(bound)
    }
    for (const dimensions of [64, 32]) {
      const wanted = tensor(`emb.vectors_${dimensions}`)
      const cut = (await model.embed(texts, { dimensions })).embeddings
      expect(
        furthest(
          cut.flatMap((vector) => Array.from(vector)),
          wanted,
        ),
      ).toBeLessThan(2 * bound)
    }
    const pooled = (await model.embed(texts, { normalize: false })).embeddings
    expect(
      furthest(
        pooled.flatMap((vector) => Array.from(vector)),
        tensor('emb.pooled'),
      ),
    ).toBeLessThan(30 * bound)
    const alone = await model.embed(texts[3] as number[])
    expect(alone.embeddings).toHaveLength(1)
    expect(furthest(alone.embeddings[0] as Float32Array, embeddings[3] as Float32Array)).toBeLessThan(bound)
  })

  test('tokens of gte-Qwen2 see later ones', async () => {
    const name = 'gte-qwen2'
    const texts = textsOf(name, 'emb')
    const { tensor } = readGolden(directoryOf(name))
    await using model = await load(name)
    if ('maxBatchTokens' in options) {
      expect(await errorOf(() => model.embed(texts))).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('in one step of at most 8 (maxBatchTokens)'),
      })
      return
    }
    const { embeddings } = await model.embed(texts)
    const all = embeddings.flatMap((vector) => Array.from(vector))
    expect(furthest(all, tensor('emb.vectors'))).toBeLessThan(1e-6 * Math.min(looseness, 3e3))
    expect(furthest(all, tensor('emb.vectors_if_causal'))).toBeGreaterThan(0.05)
    const { lastHiddenState } = await model.forward(texts[3] as number[], { hiddenStates: true })
    expect(furthest(lastHiddenState, tensor('text3.final_norm'))).toBeLessThan(2e-5 * Math.min(looseness, 3e3))
    expect(() => model.generate([1, 2])).toThrow(expect.objectContaining({ code: 'UNSUPPORTED_MODEL' }))
  })

  test('a classifier scores as transformers does', async () => {
    await using model = await load('qwen3-seqcls')
    const scores = await model.score(textsOf('qwen3-seqcls', 'cls'))
    expect(furthest(scores, goldenOf('qwen3-seqcls').cls.scores)).toBeLessThan(1e-6 * looseness)
  })

  test('a language model scores by its answers', async () => {
    await using model = await load('qwen3-reranker')
    const { token_no, token_yes, scores } = goldenOf('qwen3-reranker').rerank
    const texts = textsOf('qwen3-reranker', 'rr')
    expect(furthest(await model.score(texts, { answers: [token_no, token_yes] }), scores)).toBeLessThan(
      2e-6 * looseness,
    )
    const opposite = await model.score(texts, { answers: [token_yes, token_no] })
    expect(
      furthest(
        opposite,
        scores.map((score: number) => 1 - score),
      ),
    ).toBeLessThan(2e-6 * looseness)
  })
})

describe('the files of sentence-transformers', () => {
  const name = 'qwen3-embedding'
  const texts = textsOf(name, 'emb')
  /** A copy with other files beside the weights; undefined: without this one. */
  const copyWith = (files: Readonly<Record<string, unknown>>) => {
    const copy = changedCopy(directoryOf(name), () => {})
    for (const [file, content] of Object.entries(files)) {
      if (content === undefined) rmSync(join(copy, file), { force: true, recursive: true })
      else writeFileSync(join(copy, file), JSON.stringify(content))
    }
    return copy
  }
  const modulesWith = (...types: string[]) =>
    types.map((type, idx) => ({ idx, name: String(idx), path: type === 'Pooling' ? 'none' : '', type: `a.b.${type}` }))
  const vectorsOf = async (directory: string) => {
    await using model = await loadModel(directory, { deviceMap: 'cpu', dtype: 'float32', maxModelLength: 128 })
    return (await model.embed(texts)).embeddings
  }
  const lengthOf = (vector: Float32Array) => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))

  test('may be missing: the last token is pooled, and vectors have length 1', async () => {
    const vectors = await vectorsOf(copyWith({ 'modules.json': undefined }))
    const wanted = readGolden(directoryOf(name)).tensor('emb.vectors')
    expect(
      furthest(
        vectors.flatMap((vector) => Array.from(vector)),
        wanted,
      ),
    ).toBeLessThan(1e-6)
  })

  test('say whether vectors are normalized', async () => {
    const [vector] = await vectorsOf(copyWith({ 'modules.json': modulesWith('Transformer', 'Pooling') }))
    expect(lengthOf(vector as Float32Array)).toBeGreaterThan(2)
  })

  test.each([
    ['mean', { pooling_mode_mean_tokens: true, pooling_mode_cls_token: false }],
    ['mean', { pooling_mode: 'mean' }],
    ['mean', { pooling_mode: ['mean'] }],
    ['cls', { pooling_mode_cls_token: true }],
  ])('say how rows are pooled: %s by %o', async (mode, pooling) => {
    const modules = modulesWith('Transformer', 'Pooling', 'Normalize')
    const directory = copyWith({ 'modules.json': modules.map((one) => ({ ...one, path: one.path && 'p' })) })
    mkdirSync(join(directory, 'p'))
    writeFileSync(join(directory, 'p/config.json'), JSON.stringify(pooling))
    const rows = readGolden(directoryOf(name)).tensor('text3.final_norm')
    const length = (texts[3] as number[]).length
    const wanted = Array.from({ length: 128 }, (_, i) =>
      mode === 'cls'
        ? (rows[i] as number)
        : Array.from({ length }, (_, row) => rows[row * 128 + i] as number).reduce((a, b) => a + b, 0) / length,
    )
    const scale = Math.sqrt(wanted.reduce((sum, value) => sum + value * value, 0))
    const own = (await vectorsOf(directory))[3] as Float32Array
    expect(
      furthest(
        own,
        wanted.map((value) => value / scale),
      ),
    ).toBeLessThan(1e-6)
  })

  test.each([
    [{ 'modules.json': modulesWith('Transformer', 'Pooling', 'Dense') }, 'UNSUPPORTED_MODEL', 'Dense'],
    [{ 'modules.json': { a: 1 } }, 'INVALID_CHECKPOINT', 'a list of modules'],
    [{ 'modules.json': [{ type: 'x.Pooling', path: '../..' }] }, 'INVALID_CHECKPOINT', 'outside the checkpoint'],
  ])('are refused where they ask for something else: %o', async (files, code, message) => {
    const error = await errorOf(() => vectorsOf(copyWith(files)))
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) })
  })
})

describe('refused', () => {
  const on = async (name: string, call: (model: Model) => Promise<unknown>) => {
    await using model = await loadModel(directoryOf(name), { deviceMap: 'cpu', maxModelLength: 64 })
    return await errorOf(() => call(model))
  }

  test.each([
    ['no inputs', (model: Model) => model.embed([]), 'There are no inputs'],
    ['what is no text', (model: Model) => model.embed({} as never), 'must be a text, token ids'],
    ['a token beyond the vocabulary', (model: Model) => model.embed([1, 320]), 'Token 1 of the prompt is 320'],
    ['an empty one among them', (model: Model) => model.embed([[1], []]), 'no tokens'],
    ['more dimensions than there are', (model: Model) => model.embed([1], { dimensions: 129 }), 'have 128 numbers'],
    ['no dimensions', (model: Model) => model.embed([1], { dimensions: 0 }), 'from 1 to the hidden size'],
    ['a text without a tokenizer', (model: Model) => model.embed('text'), 'has no tokenizer'],
    ['an instruction of token ids', (model: Model) => model.embed([1], { instruct: 'Find' }), 'token ids must have'],
    ['tokens beyond maxModelLength', (model: Model) => model.embed([new Array(65).fill(1)]), '65 tokens, but 64'],
    ['an unknown option', (model: Model) => model.embed([1], { dims: 2 } as object), 'There is no option dims'],
  ])('by embed(): %s', async (_, call, message) => {
    expect(await on('qwen3-embedding', call)).toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(message),
    })
  })

  test('scores of a model that gives none', async () => {
    const error = await on('qwen3-embedding', (model) => model.score([1, 2]))
    expect(error).toMatchObject({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining('gives no scores') })
  })

  test('by score() and rerank(): answers and documents that are none', async () => {
    const beyond = await on('qwen3-reranker', (model) => model.score([1, 2], { answers: [1, 320] }))
    expect(beyond).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('token ids below 320') })
    const text = await on('qwen3-reranker', (model) => model.rerank('query', ['document']))
    expect(text).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('has no tokenizer') })
    const query = await on('qwen3-reranker', (model) => model.rerank([1] as never, ['document']))
    expect(query).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('The query') })
  })

  test('once it is aborted', async () => {
    await using model = await loadModel(directoryOf('qwen3-embedding'), { deviceMap: 'cpu', maxModelLength: 64 })
    const controller = new AbortController()
    const embedding = model.embed(new Array(200).fill([1, 2, 3]), { signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(embedding).rejects.toThrow('enough')
    expect((await model.embed([1, 2])).embeddings).toHaveLength(1) // goes on
  })
})

describe('texts, with the demo model', () => {
  const demo = resolve(__dirname, '../../examples/demo-model')
  /** Whose tokenizer has "yes" and "no" as tokens, and ends each text with the end token. */
  const withAnswers = () => {
    const tokenizer = JSON.parse(readFileSync(join(demo, 'tokenizer.json'), 'utf8'))
    const [end] = tokenizer.added_tokens
    for (const [id, content] of [
      [3, 'no'],
      [4, 'yes'],
    ] as const) {
      tokenizer.added_tokens.push({ ...end, id, content, special: false })
    }
    tokenizer.post_processor = {
      type: 'TemplateProcessing',
      single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: end.content, type_id: 0 } }],
      pair: [],
      special_tokens: { [end.content]: { id: end.content, ids: [end.id], tokens: [end.content] } },
    }
    const copy = changedCopy(demo, () => {})
    writeFileSync(join(copy, 'tokenizer.json'), JSON.stringify(tokenizer))
    writeFileSync(join(copy, 'config_sentence_transformers.json'), JSON.stringify(prompts))
    return { copy, end: end.id as number }
  }
  const prompts = { prompts: { query: 'Instruct: any\nQuery: ' }, default_prompt_name: null }
  const load = (directory: string) => loadModel(directory, { deviceMap: 'cpu', dtype: 'float32' })

  test('a model with a head embeds, too, and the end token is pooled', async () => {
    const { copy, end } = withAnswers()
    await using model = await load(copy)
    const { tokenizer } = model
    const text = 'Where is the cat?'
    const ids = Array.from((await tokenizer?.encode(text)) ?? [])
    expect(ids.at(-1)).toBe(end)
    const { embeddings, usage } = await model.embed([text, 'The cat is on the mat.'], { normalize: false })
    const { lastHiddenState } = await model.forward(ids, { hiddenStates: true })
    const width = model.limits.hiddenSize
    expect(furthest(embeddings[0] as Float32Array, lastHiddenState.slice(-width))).toBeLessThan(1e-4)
    expect(usage.promptTokens).toBe(ids.length + ((await model.tokenizer?.count('The cat is on the mat.')) as number))
    const asked = await model.embed(text, { instruct: 'Find the cat' })
    const whole = await model.embed(`Instruct: Find the cat\nQuery: ${text}`) // with a space, as the checkpoint has it
    expect(asked).toEqual(whole)
  })

  test.each(['mean', 'cls', 'lasttoken'])('an instruction that is not pooled: %s', async (mode) => {
    const { copy } = withAnswers()
    mkdirSync(join(copy, '1_Pooling'))
    const pooling = { pooling_mode: mode, include_prompt: false }
    writeFileSync(join(copy, '1_Pooling/config.json'), JSON.stringify(pooling))
    await using model = await load(copy)
    const text = 'Where is the cat?'
    const before = 'Instruct: Find the cat\nQuery: '
    const skipped = (await model.tokenizer?.encode(before, { addSpecialTokens: false }))?.length as number
    const ids = Array.from((await model.tokenizer?.encode(before + text)) ?? [])
    const { lastHiddenState } = await model.forward(ids, { hiddenStates: true })
    const width = model.limits.hiddenSize
    const rows = ids.map((_, row) => lastHiddenState.subarray(row * width, (row + 1) * width))
    const own =
      mode === 'mean' ? rows.slice(skipped) : mode === 'cls' ? rows.slice(skipped, skipped + 1) : rows.slice(-1)
    const wanted = Array.from({ length: width }, (_, i) =>
      own.reduce((sum, row) => sum + (row[i] as number) / own.length, 0),
    )
    const [taken] = (await model.embed(ids, { normalize: false })).embeddings
    const [instructed] = (await model.embed(text, { instruct: 'Find the cat', normalize: false })).embeddings
    expect(furthest(instructed as Float32Array, wanted)).toBeLessThan(1e-4)
    // Token ids have no text before them.
    if (mode !== 'lasttoken') expect(furthest(taken as Float32Array, wanted)).toBeGreaterThan(0.01)
  })

  test('documents are scored in the prompt of Qwen3-Reranker, the most relevant first', async () => {
    const { copy } = withAnswers()
    await using model = await load(copy)
    const documents = ['cats', 'dogs and more dogs', 'a mat']
    const { scores, order, usage } = await model.rerank('cat?', documents, { instruct: 'Find' })
    const encode = async (text: string) =>
      Array.from((await model.tokenizer?.encode(text, { addSpecialTokens: false })) ?? [])
    const prefix = await encode(
      '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct ' +
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
    )
    const suffix = await encode('<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n')
    const body = (document: string) => encode(`<Instruct>: Find\n<Query>: cat?\n<Document>: ${document}`)
    const finished = await Promise.all(documents.map(async (one) => [...prefix, ...(await body(one)), ...suffix]))
    expect(furthest(scores, await model.score(finished))).toBeLessThan(1e-6)
    expect(usage.promptTokens).toBe(finished.reduce((sum, { length }) => sum + length, 0))
    expect([...order].sort()).toEqual([0, 1, 2])
    expect(order.map((i) => scores[i])).toEqual([...scores].sort((a, b) => b - a))
  })

  test('answers that are no single token are refused', async () => {
    await using model = await load(demo)
    const error = await errorOf(() => model.score('a finished prompt'))
    expect(error).toMatchObject({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining('"yes" is 2 tokens') })
  })
})
