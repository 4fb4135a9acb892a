/** Mixtures of experts: what contradicts a config, and ranks that experts' channels do not divide among. (test/goldens has their outputs.) */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, planModel } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { changedCopy, withConfig } from '../../support/fixture-copies'
import { difference, golden, modelDirectory } from '../../support/fixtures'
import { quantizationConfig, quantize } from '../../support/quantize'
import { Random } from '../../support/random.cjs'
import { randomCheckpoint, randomTensors } from '../../support/random-checkpoint'
import { errorOf } from '../../support/refusals'
import { floatsOf, type StoredTensor, safetensors } from '../../support/tensors'

const moe = {
  model_type: 'qwen2_moe',
  torch_dtype: 'float16',
  hidden_size: 128,
  intermediate_size: 192,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  num_experts: 5,
  num_experts_per_tok: 2,
  moe_intermediate_size: 96,
  shared_expert_intermediate_size: 160,
  mlp_only_layers: [1],
  vocab_size: 128,
  max_position_embeddings: 64,
}
const prompt = [5, 1, 99, 7, 7, 60, 61, 2, 3, 100, 127]

async function logitsOf(directory: string, options: LoadOptions): Promise<Float32Array> {
  await using model = await loadModel(directory, { maxModelLength: 32, maxSequences: 2, ...options })
  const { logits } = await model.forward(prompt)
  for (const { planned, weights, kvCache, states, buffers } of model.memory()) {
    expect({ weights, kvCache, states, buffers }).toEqual(planned)
  }
  return logits
}

const group = (kind: string, ranks: number) => Array.from({ length: ranks }, (_, i) => `${kind}:${i}`).join(',')

describe.each<[name: string, quantization: object | undefined, seed?: number]>([
  ['fp16', undefined],
  ['GPTQ', { quant_method: 'gptq', bits: 4, group_size: 32, sym: true, desc_act: false }],
  ['GPTQ of 8 bits', { quant_method: 'gptq', bits: 8, group_size: 32, sym: false, desc_act: false }],
  ['GPTQ with act-order', { quant_method: 'gptq', bits: 4, group_size: 32, sym: false, desc_act: true }],
  [
    'compressed-tensors with act-order',
    {
      quant_method: 'compressed-tensors',
      config_groups: {
        a: { targets: ['Linear'], weights: { num_bits: 4, type: 'int', group_size: 32, actorder: 'group' } },
      },
      ignore: ['lm_head'],
    },
    4,
  ],
  ['AWQ', { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true, version: 'gemm' }],
  [
    'compressed-tensors with one scale',
    {
      quant_method: 'compressed-tensors',
      format: 'int-quantized',
      config_groups: { a: { targets: ['Linear'], weights: { num_bits: 8, type: 'int', strategy: 'tensor' } } },
      ignore: ['lm_head'],
    },
  ],
  ['AWQ GEMV', { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true, version: 'gemv' }],
])('experts in %s', (_, quantization_config, seed = 3) => {
  const checkpoint = () => directoryOf(randomCheckpoint({ ...moe, quantization_config }, seed))

  test('give the same on any number of ranks', async () => {
    const directory = checkpoint()
    const alone = await logitsOf(directory, { dtype: 'float32', deviceMap: 'cpu' })
    for (const tensorParallelSize of [2, 3, 4, 8]) {
      const deviceMap = group('cpu', tensorParallelSize)
      const logits = await logitsOf(directory, { dtype: 'float32', tensorParallelSize, deviceMap })
      expect(difference(logits, alone).max).toBeLessThan(1e-4)
    }
  })

  // With these seeds no logits of a router are so close that fp16 picks another expert.
  test('give nearly the same in 16 bits, on the CPU and on emulated devices', async () => {
    const directory = checkpoint()
    const exact = await logitsOf(directory, { dtype: 'float32', deviceMap: 'cpu' })
    expect(difference(await logitsOf(directory, { deviceMap: 'cpu' }), exact).max).toBeLessThan(0.01)
    for (const tensorParallelSize of [1, 3]) {
      const deviceMap = group('emulated', tensorParallelSize)
      expect(difference(await logitsOf(directory, { tensorParallelSize, deviceMap }), exact).max).toBeLessThan(0.03)
    }
  })
})

describe('experts in act-order, each in one of its own', () => {
  const scheme = { format: 'gptq', bits: 4, groupSize: 32, symmetric: false } as const
  const config = { ...moe, torch_dtype: 'float32' }

  /** A checkpoint whose experts are quantized, but for one in random orders, and one with the weights that these stand for. */
  function checkpoints() {
    const random = new Random(11)
    const [quantized, plain] = [randomTensors(config, random), randomTensors(config, new Random(11))]
    for (const [tensor, { shape, ...stored }] of Object.entries(plain)) {
      const [, name, expert] = /^(.*\.experts\.(\d+)\.\w+_proj)\.weight$/.exec(tensor) ?? []
      if (name === undefined) continue
      const [out, inputs] = shape as [number, number]
      const weights = { out, in: inputs, values: Float64Array.from(floatsOf(stored)) }
      const groupIndex = random.order(inputs).map((place) => Math.floor(place / scheme.groupSize))
      const { tensors, dequantized } = quantize(name, weights, expert === '2' ? scheme : { ...scheme, groupIndex })
      delete quantized[tensor]
      Object.assign(quantized, tensors)
      plain[tensor] = { ...stored, shape, data: Buffer.from(Float32Array.from(dequantized.values).buffer) }
    }
    const directory = (tensors: Record<string, StoredTensor>, own: object) =>
      directoryOf({ 'config.json': { ...config, ...own }, 'model.safetensors': safetensors(tensors) })
    return [
      directory(quantized, { quantization_config: quantizationConfig(scheme, true) }),
      directory(plain, {}),
    ] as const
  }

  test('give what the weights give that they stand for', async () => {
    const [quantized, plain] = checkpoints()
    const wanted = await logitsOf(plain, { dtype: 'float32', deviceMap: 'cpu' })
    for (const options of [
      { deviceMap: 'cpu' },
      { deviceMap: group('cpu', 2), tensorParallelSize: 2 },
      { deviceMap: group('cpu', 3), tensorParallelSize: 3 },
      { deviceMap: group('cpu', 3), tensorParallelSize: 3, expertParallel: true },
      { deviceMap: { '': 'cpu:0', 'model.layers.*.mlp.experts': 'cpu:1' } },
    ]) {
      const logits = await logitsOf(quantized, { ...options, dtype: 'float32' })
      expect(difference(logits, wanted).max, JSON.stringify(options)).toBeLessThan(1e-4)
    }
    for (const options of [
      { deviceMap: 'cpu' },
      { deviceMap: 'emulated:0' },
      { deviceMap: group('emulated', 2), tensorParallelSize: 2 },
      { deviceMap: group('emulated', 2), tensorParallelSize: 2, expertParallel: true },
    ]) {
      const logits = await logitsOf(quantized, { ...options, dtype: 'float16' })
      expect(difference(logits, wanted).max, JSON.stringify(options)).toBeLessThan(0.03)
    }
  })

  test('take four bytes for every input of an expert, and nothing in natural order', async () => {
    const bytes = async (desc_act: boolean) => {
      const quantization_config = { ...quantizationConfig(scheme, desc_act) }
      const { stages } = await planModel({ ...moe, quantization_config }, { deviceMap: 'cpu', maxModelLength: 32 })
      return stages.reduce((sum, { weights }) => sum + weights, 0)
    }
    expect(await bytes(true)).toBe((await bytes(false)) + 2 * 5 * (128 + 128 + 96) * 4)
  })
})

describe('expertParallel', () => {
  const checkpoint = () => directoryOf(randomCheckpoint(moe, 3))

  test.each([
    ['cpu', 2, 'float32', 1e-4],
    ['cpu', 3, 'float32', 1e-4],
    ['cpu', 5, 'float32', 1e-4],
    ['cpu', 4, 'auto', 0.01],
    ['emulated', 3, 'auto', 0.03],
  ] as const)('on %s with %i ranks, each with whole experts, gives the same', async (kind, size, dtype, bound) => {
    const directory = checkpoint()
    const alone = await logitsOf(directory, { dtype: 'float32', deviceMap: 'cpu' })
    const options = { tensorParallelSize: size, deviceMap: group(kind, size), expertParallel: true, dtype }
    expect(difference(await logitsOf(directory, options), alone).max).toBeLessThan(bound)
    const plan = await planModel(directory, { ...options, maxModelLength: 32, maxSequences: 2 })
    expect(plan.explanation.join(' ')).toContain('a share of the heads, experts and vocabulary')
    await using model = await loadModel(directory, { plan: JSON.parse(JSON.stringify(plan)) })
    expect(difference((await model.forward(prompt)).logits, alone).max).toBeLessThan(bound)
  })

  test('pads no experts, and is refused with fewer of them than devices, or without any', async () => {
    const directory = checkpoint()
    const options = { tensorParallelSize: 4, deviceMap: group('cpu', 4) }
    const padded = (await planModel(directory, options)).explanation.join(' ')
    expect(padded).toMatch(/Padded with zeros: .*96 to 128.* expertParallel would leave experts whole/)
    const whole = (await planModel(directory, { ...options, expertParallel: true })).explanation.join(' ')
    expect(whole).not.toMatch(/96 to 128|expertParallel/)
    const many = { tensorParallelSize: 6, deviceMap: group('cpu', 6), expertParallel: true }
    expect(await errorOf(() => loadModel(directory, many))).toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('5 experts are too few for 6 devices'),
    })
    const dense = { tensorParallelSize: 2, deviceMap: group('cpu', 2), expertParallel: true }
    expect(await errorOf(() => loadModel(modelDirectory('qwen3-bf16'), dense))).toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('has no experts'),
    })
  })
})

test('a config whose layers have more experts than any model is refused before they are counted', async () => {
  const config = { ...moe, num_hidden_layers: 1000, num_experts: 4096 }
  expect(await errorOf(() => planModel(config, { deviceMap: 'cpu' }))).toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringContaining('at most 131 in 1000 layers'),
  })
})

test('a sequence gives the same beside others as alone', async () => {
  const directory = directoryOf(randomCheckpoint(moe, 7))
  await using model = await loadModel(directory, { dtype: 'float32', deviceMap: 'cpu', maxSequences: 4 })
  const options = { maxNewTokens: 8, temperature: 0, ignoreEos: true }
  const prompts = [prompt, [1, 2, 3], [90, 80, 70, 60]]
  const alone: (readonly number[])[] = []
  for (const one of prompts) alone.push((await model.generate(one, options).result()).tokenIds)
  const together = await Promise.all(prompts.map((one) => model.generate(one, options).result()))
  expect(together.map(({ tokenIds }) => tokenIds)).toEqual(alone)
})

test('whether weights are normalized is norm_topk_prob, false if it is missing', async () => {
  const name = 'qwen2-moe-awq-int4' // has no norm_topk_prob
  const { prompts, tensor } = golden(name)
  const logitsWith = async (change: object) => {
    const directory = withConfig(name, (config) => ({ ...config, ...change }))
    await using model = await loadModel(directory, { dtype: 'float32', deviceMap: 'cpu', maxModelLength: 64 })
    return (await model.forward(prompts.p33 as number[])).logits
  }
  expect(difference(await logitsWith({ norm_topk_prob: false }), tensor('p33.logits')).max).toBeLessThan(1.5e-4)
  expect(difference(await logitsWith({ norm_topk_prob: true }), tensor('p33.logits')).max).toBeGreaterThan(1)
})

test('a plan counts what a token reads of them', async () => {
  const readBy = async (num_experts_per_tok: number) => {
    const directory = directoryOf(randomCheckpoint({ ...moe, num_experts_per_tok }, 1))
    const { stages } = await planModel(directory, { deviceMap: 'cpu' })
    return stages.reduce((sum, { read }) => sum + read, 0)
  }
  // Of two layers, an expert's gate and up of 96 rows, kept as 128, and its down of 128.
  expect((await readBy(3)) - (await readBy(2))).toBe(2 * (128 + 128) * 128 * 2 + 2 * 128 * 96 * 2)
})

describe('fused experts that are stored input by input', () => {
  const bytes = 2
  /** Swaps the last two dimensions of every tensor of all experts. */
  const swapped = (from: string) =>
    changedCopy(from, (copy) => {
      for (const [tensorName, { dtype, shape, data }] of copy.tensors) {
        if (!/mlp\.experts\.(gate_up|down)_proj$/.test(tensorName)) continue
        const [experts = 0, rows = 0, columns = 0] = shape
        const other = Buffer.alloc(data.length)
        for (let e = 0; e < experts; e++) {
          for (let row = 0; row < rows; row++) {
            for (let column = 0; column < columns; column++) {
              const [at, to] = [(e * rows + row) * columns + column, (e * columns + column) * rows + row]
              data.copy(other, to * bytes, at * bytes, (at + 1) * bytes)
            }
          }
        }
        copy.tensors.set(tensorName, { dtype, shape: [experts, columns, rows], data: other })
      }
    })

  test.each([
    ['qwen3-moe-fused-bf16', 1],
    ['qwen3-moe-fused-bf16', 2],
    ['qwen3-moe-fused-bf16', 3],
    ['qwen3-vl-moe-bf16', 2], // of which the swapped ones are the usual ones
  ])('%s on %i ranks computes the same, bit for bit', async (from, tensorParallelSize) => {
    const options = { dtype: 'float32', tensorParallelSize, deviceMap: group('cpu', tensorParallelSize) } as const
    expect(await logitsOf(swapped(modelDirectory(from)), options)).toEqual(
      await logitsOf(modelDirectory(from), options),
    )
  })

  // Square matrices of gate and up, and of down: 2 * 64 = 128.
  test.each([64, 128])('are told apart by those that are not square: %i channels', async (width) => {
    const square = { ...moe, model_type: 'qwen3_moe', moe_intermediate_size: width, mlp_only_layers: [] }
    const tensors = randomTensors(square, new Random(5))
    for (let layer = 0; layer < square.num_hidden_layers; layer++) {
      const prefix = `model.layers.${layer}.mlp.experts`
      const take = (expert: number, part: string) => {
        const name = `${prefix}.${expert}.${part}_proj.weight`
        const { data } = tensors[name] as StoredTensor
        delete tensors[name]
        return data
      }
      const numbers = Array.from({ length: square.num_experts }, (_, expert) => expert)
      const gateUp = Buffer.concat(numbers.flatMap((expert) => [take(expert, 'gate'), take(expert, 'up')]))
      const down = Buffer.concat(numbers.map((expert) => take(expert, 'down')))
      tensors[`${prefix}.gate_up_proj`] = { dtype: 'F16', shape: [5, 2 * width, 128], data: gateUp }
      tensors[`${prefix}.down_proj`] = { dtype: 'F16', shape: [5, 128, width], data: down }
    }
    const files = (model_type: string) => ({
      'config.json': { ...square, model_type, norm_topk_prob: true, rope_theta: 10000 },
      'model.safetensors': safetensors(tensors),
    })
    const options = { dtype: 'float32', deviceMap: 'cpu' } as const
    const usual = await logitsOf(directoryOf(files('qwen3_moe')), options)
    for (const modelType of ['qwen3_moe', 'qwen3_vl_moe_text']) {
      const directory = directoryOf(files(modelType))
      expect(await logitsOf(directory, options)).toEqual(usual)
      expect(await logitsOf(swapped(directory), options)).toEqual(usual)
    }
  })
})

test('all layers of Qwen3.5 have them, whatever keys of other families say', async () => {
  const name = 'qwen3-5-moe-gptq-int4'
  const { prompts, tensor } = golden(name)
  const keys = { decoder_sparse_step: 2, mlp_only_layers: [0], norm_topk_prob: false }
  const directory = withConfig(name, (own) => ({ ...own, text_config: { ...(own.text_config as object), ...keys } }))
  await using model = await loadModel(directory, { dtype: 'float32', deviceMap: 'cpu', maxModelLength: 64 })
  const { logits } = await model.forward(prompts.p33 as number[])
  expect(difference(logits, tensor('p33.logits')).max).toBeLessThan(5e-4)
})

test('Qwen3-VL normalizes the weights of experts whatever norm_topk_prob says', async () => {
  const vl = 'qwen3-vl-moe-bf16'
  const { prompts, tensor } = golden(vl)
  const directory = withConfig(vl, (own) => ({
    ...own,
    text_config: { ...(own.text_config as object), norm_topk_prob: false },
  }))
  await using model = await loadModel(directory, { dtype: 'float32', deviceMap: 'cpu', maxModelLength: 64 })
  const { logits } = await model.forward(prompts.p33 as number[])
  expect(difference(logits, tensor('p33.logits')).max).toBeLessThan(1.5e-4)
})

describe('refused', () => {
  const name = 'qwen3-moe-gptq-int4' // 8 experts, 3 a token
  const config = (change: object) => withConfig(name, (own) => ({ ...own, ...change }))

  test.each([
    ['more experts a token than there are', { num_experts_per_tok: 9 }, 'at most num_experts \\(8\\)'],
    ['no experts', { num_experts: 0, num_local_experts: 0 }, 'num_experts is 0'],
    ['no number of experts', { num_experts: undefined, num_local_experts: undefined }, 'num_experts is missing'],
    ['no experts a token', { num_experts_per_tok: 0 }, 'num_experts_per_tok is 0, but must be a positive'],
    ['experts in every 0th layer', { decoder_sparse_step: 0 }, 'decoder_sparse_step is 0, but must be a positive'],
    [
      'more experts than are stored',
      { num_experts: 9 },
      'config\\.json: num_experts is 9, but tensor "model\\.layers\\.0\\.mlp\\.gate\\.weight" has the shape \\[8, 128\\].*correct',
    ],
    ['fewer experts than are stored', { num_experts: 7 }, 'num_experts is 7, but .* of 8 experts; correct the config'],
    ['a number of experts beyond any', { num_experts: 1e9 }, 'at most 4096'],
    ['layers without experts that are none', { mlp_only_layers: 'all' }, 'a list of layers'],
    ['another width', { moe_intermediate_size: 64 }, '64 outputs'],
    ['a layer of MLPs that has experts', { mlp_only_layers: [0] }, 'mlp\\.gate_proj'],
    ['weights that are not normalized for a reason unknown', { norm_topk_prob: 'yes' }, 'true or false'],
  ])('%s', async (_, change, message) => {
    const error = await errorOf(() => loadModel(config(change), { deviceMap: 'cpu' }))
    expect(error.code).toMatch(/INVALID_CHECKPOINT|UNSUPPORTED_MODEL/)
    expect(error.message).toMatch(new RegExp(message))
  })

  test.each<[string, string, (name: string) => boolean, RegExp]>([
    [
      'an expert without codes',
      name,
      (tensor) => tensor === 'model.layers.2.mlp.experts.5.up_proj.qweight',
      /config\.json: num_experts is 8, but of experts 0 to 7 in layer "model\.layers\.2", 7 have up_proj, and expert 5 does not: Tensor "model\.layers\.2\.mlp\.experts\.5\.up_proj\.weight" is missing from .*; "model\.layers\.2\.mlp\.experts\.5\.up_proj" has ".*g_idx".*; download the checkpoint again or, .*correct the config/,
    ],
    [
      'an expert that is missing',
      name,
      (tensor) => tensor.includes('layers.1.mlp.experts.7.'),
      /num_experts is 8, but of experts 0 to 7 in layer "model\.layers\.1", 7 have gate_proj, and expert 7 does not: Tensor "model\.layers\.1\.mlp\.experts\.7\.gate_proj\.weight" is missing from .*model\.safetensors/,
    ],
    [
      'a router that is missing',
      name,
      (tensor) => tensor === 'model.layers.1.mlp.gate.weight',
      /"model\.layers\.1\.mlp\.gate\.weight" is missing from/,
    ],
    [
      'half of the fused experts',
      'qwen3-moe-fused-bf16',
      (tensor) => tensor === 'model.layers.1.mlp.experts.down_proj',
      /, 0 have down_proj, .*"model\.layers\.1\.mlp\.experts\.0\.down_proj\.weight" is missing from/,
    ],
  ])('%s', async (_, from, isMissing, message) => {
    const missing = changedCopy(modelDirectory(from), ({ tensors }) => {
      for (const tensor of [...tensors.keys()]) if (isMissing(tensor)) tensors.delete(tensor)
    })
    const error = await errorOf(() => loadModel(missing, { deviceMap: 'cpu' }))
    expect(error).toMatchObject({ code: 'INVALID_CHECKPOINT', message: expect.stringMatching(message) })
  })

  test.each([
    [[9, 128], 'num_experts is 8, but tensor .*mlp\\.gate\\.weight" has the shape \\[9, 128\\]'],
    [[8, 64], 'mlp\\.gate\\.weight.*the shape \\[8, 128\\]'],
  ])('a router of the shape %j', async (shape, message) => {
    const changed = changedCopy(modelDirectory(name), ({ tensors }) => {
      const router = tensors.get('model.layers.0.mlp.gate.weight')
      const data = Buffer.alloc((shape[0] as number) * (shape[1] as number) * 2)
      tensors.set('model.layers.0.mlp.gate.weight', { dtype: router?.dtype as string, shape, data })
    })
    const error = await errorOf(() => loadModel(changed, { deviceMap: 'cpu' }))
    expect(error).toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(new RegExp(message)),
    })
  })

  test('fused experts of another shape, with both that would do', async () => {
    const changed = changedCopy(modelDirectory('qwen3-moe-fused-bf16'), ({ config: own, tensors }) => {
      own.moe_intermediate_size = (own.moe_intermediate_size as number) / 2
      return tensors
    })
    const error = await errorOf(() => loadModel(changed, { deviceMap: 'cpu' }))
    expect(error).toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /experts\.gate_up_proj" has the shape \[.*\]; \d+ experts need \[.*\] or \[.*\]; config/,
      ),
    })
  })

  test('experts that are not stored in the same way', async () => {
    const tensors = randomTensors(moe, new Random(1))
    const other = tensors['model.layers.0.mlp.experts.3.up_proj.weight']
    const floats = Buffer.alloc(2 * (other?.data.byteLength as number))
    const changed = {
      ...tensors,
      'model.layers.0.mlp.experts.3.up_proj.weight': { ...other, dtype: 'F32', data: floats },
    }
    const directory = directoryOf({ 'config.json': moe, 'model.safetensors': safetensors(changed as typeof tensors) })
    const error = await errorOf(() => loadModel(directory, { deviceMap: 'cpu' }))
    expect(error).toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringContaining('not stored in the same way'),
    })
    expect(error.message).toMatch(/experts\.0\.up_proj.*F16.*experts\.3\.up_proj.*F32/)
  })
})
