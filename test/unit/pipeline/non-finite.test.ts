import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel } from '../../../src/index'
import { withDamage } from '../../support/fixture-copies'
import { golden, modelDirectory } from '../../support/fixtures'
import { childProgram } from '../../support/programs'

// Numbers that are not finite, in every kind of weight: what comes of them is refused, with the name of the first module.
const sizes = { maxModelLength: 64, maxSequences: 4 }
const greedy = { maxNewTokens: 4, temperature: 0, ignoreEos: true }
const name = 'qwen3-bf16'
const hidden = 128
const prompt = golden(name).prompts.p7 as number[]

function split(first: string, second: string, third: string): Record<string, string> {
  return {
    'model.embed_tokens': first,
    'model.layers.0': first,
    'model.layers.1': second,
    'model.layers.2': third,
    'model.norm': third,
    lm_head: third,
  }
}

const places: Record<string, LoadOptions> = {
  'the CPU': { deviceMap: 'cpu' },
  'the CPU, in fp32': { deviceMap: 'cpu', dtype: 'float32' },
  'three stages on the CPU': { deviceMap: split('cpu:0', 'cpu:1', 'cpu:2') },
  'two ranks on the CPU': { deviceMap: 'cpu', tensorParallelSize: 2 },
  'an emulated device': { deviceMap: 'emulated:0' },
  'emulated devices and the CPU': { deviceMap: split('emulated:0', 'cpu', 'emulated:1') },
  'two emulated ranks': { devices: ['emulated:0', 'emulated:1'], tensorParallelSize: 2 },
}

/** What a forward pass and a generation are refused with. */
async function refusals(directory: string, tokens: number[], options: LoadOptions): Promise<unknown[]> {
  await using model = await loadModel(directory, { ...sizes, ...options })
  const outcomes = [model.forward(tokens), model.generate(tokens, greedy).result()]
  const refusals = await Promise.all(outcomes.map((outcome) => outcome.catch((error: unknown) => error)))
  expect(model.activity()).toMatchObject({ waiting: 0, running: 0, stepsInFlight: 0, cacheTokens: { inUse: 0 } })
  return refusals
}

const refused = (module: string) =>
  expect.objectContaining({
    name: 'BillfishError',
    code: 'NON_FINITE',
    message: expect.stringMatching(new RegExp(`^The output of ${module.replaceAll('.', '\\.')} is -?(NaN|infinity) `)),
  })

const attention = 'model.layers.1.self_attn'
describe.each(Object.keys(places))('on %s', (place) => {
  test.each<[string, number, 'nan' | 'infinity', string?]>([
    ['model.embed_tokens.weight', (prompt[2] as number) * hidden + 5, 'nan'],
    ['model.embed_tokens.weight', (prompt[2] as number) * hidden + 5, 'infinity'],
    [`${attention}.q_proj.weight`, 5 * hidden + 1, 'nan'],
    [`${attention}.q_proj.weight`, 100 * hidden, 'infinity', `${attention}.q_(proj|norm)`], // infinity / infinity
    [`${attention}.k_proj.weight`, 3 * hidden, 'infinity'],
    [`${attention}.v_proj.weight`, 3 * hidden, 'infinity'],
    [`${attention}.v_proj.weight`, 60 * hidden, 'nan'], // of the second rank
    ['model.layers.2.mlp.gate_proj.weight', 3 * hidden, 'infinity'],
    ['model.layers.2.mlp.down_proj.weight', 300, 'infinity'],
    ['lm_head.weight', 5, 'nan'],
    ['lm_head.weight', 319 * hidden, 'infinity'],
  ])('%s at %d: %s', async (tensor, element, value, module = tensor.replace('.weight', '')) => {
    const outcome = await refusals(withDamage(name, tensor, element, value), prompt, places[place] as LoadOptions)
    expect(outcome).toEqual([refused(module), refused(module)])
  })
})

test.each<[string, string, 'nan' | 'infinity']>([
  [name, 'model.layers.1.input_layernorm.weight', 'infinity'],
  [name, 'model.layers.0.self_attn.q_norm.weight', 'nan'],
  ['qwen2-gptq-int4-g128', 'model.layers.1.self_attn.q_proj.scales', 'infinity'],
  ['qwen2-awq-int4-g128', 'model.layers.1.self_attn.q_proj.bias', 'nan'],
])('a value that every token would meet is refused at load: %s, %s', async (model, tensor, value) => {
  await expect(loadModel(withDamage(model, tensor, 3, value), { ...sizes, deviceMap: 'cpu' })).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringContaining(tensor.replace(/\.(scales|weight|bias)$/, '')),
  })
})

test.each(['scalar', 'avx2', 'avx512', 'avx512_bf16'])(
  'with the kernels of %s: quantized linears, a tied head, 16-bit caches',
  (isa) => {
    const damaged: [string, string, number][] = [
      ['qwen2-tied-fp16', 'model.embed_tokens.weight', 12], // token 0's row, which the prompt does not have: its logit
      ['mistral-fp16', 'model.layers.0.self_attn.k_proj.weight', 5],
      ['mistral-fp16', 'model.layers.0.self_attn.v_proj.weight', 5],
      ['qwen2-awq-int4-g128', 'model.embed_tokens.weight', 0], // read by quantized linears
    ]
    const cases = damaged.flatMap(([model, tensor, element]) =>
      (['nan', 'infinity'] as const).map((value) => [withDamage(model, tensor, element, value), tensor]),
    )
    const { stdout, stderr, status } = childProgram(
      `(async () => {
      for (const [directory, tensor] of cases) {
        const model = await loadModel(directory, { ...sizes, deviceMap: 'cpu' })
        const prompt = tensor.includes('embed') && !directory.includes('tied') ? [0, 5, 9] : [7, 5, 9]
        await model.generate(prompt, greedy).result().catch(({ code, message }) => console.log(code, message))
        await model.dispose()
      }
    })()`,
      { sizes, greedy, cases },
      { env: { BILLFISH_CPU_ISA: isa } },
    )
    if (stderr.includes('BILLFISH_CPU_ISA')) return // this processor has no such instructions
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 })
    expect(stdout.trim().split('\n')).toEqual(
      cases.map(([, tensor]) =>
        expect.stringMatching(new RegExp(`^NON_FINITE The output of ${tensor?.replace('.weight', '')} `)),
      ),
    )
  },
)

const devices = ['cpu', 'emulated:0']

test.each(devices)(
  'on %s other sequences of the step go on, and so do later ones in the same KV blocks',
  async (deviceMap) => {
    const damaged = withDamage(name, 'model.embed_tokens.weight', (prompt[2] as number) * hidden, 'nan')
    const good = [156, 196, 309, 90, 9, 51].filter((token) => token !== prompt[2])
    const expected = await (async () => {
      await using model = await loadModel(modelDirectory(name), { ...sizes, deviceMap })
      return (await model.generate(good, greedy).result()).tokenIds
    })()
    await using model = await loadModel(damaged, { ...sizes, deviceMap })
    const outcomes = await Promise.allSettled([
      model.generate(good, greedy).result(),
      model.generate(prompt, greedy).result(),
      model.generate(good, greedy).result(),
      model.forward(prompt),
    ])
    const refusal = { status: 'rejected', reason: refused('model.embed_tokens') }
    const answer = { status: 'fulfilled', value: expect.objectContaining({ tokenIds: expected }) }
    expect(outcomes).toEqual([answer, refusal, answer, refusal])
    for (let i = 0; i < 3; i++) expect((await model.generate(good, greedy).result()).tokenIds).toEqual(expected)
  },
)

// Logits of the last row alone are computed, and what spoils them came with rows of a step before.
test.each([
  ['cpu', 1],
  [split('cpu:0', 'cpu:1', 'cpu:2'), 3],
])('a prompt in pieces: the module is found where the damage began, on %o', async (deviceMap, microBatches) => {
  const damaged = withDamage(name, 'model.embed_tokens.weight', 11 * hidden, 'nan')
  const options = { ...sizes, maxModelLength: 256, maxBatchTokens: 32, deviceMap, microBatches }
  await using model = await loadModel(damaged, options)
  const long = Array.from({ length: 200 }, (_, i) => (i === 3 ? 11 : 20 + (i % 50)))
  const sound = long.with(3, 12)
  const outcomes = await Promise.allSettled([
    model.generate(long, greedy).result(),
    model.generate(sound, greedy).result(),
    model.forward(long),
  ])
  const refusal = { status: 'rejected', reason: refused('model.embed_tokens') }
  expect(outcomes).toMatchObject([refusal, { status: 'fulfilled' }, refusal])
  expect((outcomes[0] as PromiseRejectedResult).reason.message).toContain('at position 3,')
})

test.each(devices)('damage that only a generated token meets, on %s', async (deviceMap) => {
  const [first, second] = await (async () => {
    await using model = await loadModel(modelDirectory(name), { ...sizes, deviceMap })
    return (await model.generate(prompt, greedy).result()).tokenIds
  })()
  expect([...prompt, first]).not.toContain(second)
  const damaged = withDamage(name, 'model.embed_tokens.weight', (second as number) * hidden, 'infinity')
  await using model = await loadModel(damaged, { ...sizes, deviceMap })
  const tokens: number[] = []
  const run = async () => {
    for await (const chunk of model.generate(prompt, greedy)) tokens.push(...chunk.tokenIds)
  }
  await expect(run()).rejects.toEqual(refused('model.embed_tokens'))
  expect(tokens).toEqual([first, second])
})

test.each(devices)('banned tokens and other sampling options do not count as non-finite, on %s', async (deviceMap) => {
  await using model = await loadModel(modelDirectory(name), { ...sizes, deviceMap })
  const [first] = (await model.generate(prompt, greedy).result()).tokenIds
  // minNewTokens bans the tokens that end a sequence: their logits become -infinity.
  const options = { maxNewTokens: 4, minNewTokens: 4, temperature: 0, logitBias: { [first as number]: -100 } }
  const { tokenIds } = await model.generate(prompt, options).result()
  expect(tokenIds).toHaveLength(4)
  expect(tokenIds).not.toContain(first)
})

test.each(Object.keys(places))(
  'a norm whose squares exceed fp32 gives zeros, as in transformers, on %s',
  async (place) => {
    const directory = withDamage(name, 'model.embed_tokens.weight', (prompt[0] as number) * hidden, 'huge')
    await using model = await loadModel(directory, { ...sizes, ...places[place] })
    const { logits, vocabSize } = await model.forward(prompt.slice(0, 1))
    expect(logits).toHaveLength(vocabSize)
    expect(logits.every((logit) => logit === 0)).toBe(true)
  },
)
