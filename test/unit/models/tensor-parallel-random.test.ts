/**
 * Random models of every architecture and format, with sizes that do not divide: on several ranks they compute what one
 * device computes. The sizes follow from the seed, so that a failure can be repeated.
 */
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { RawConfig } from '../../../src/checkpoint/types'
import { type LoadOptions, loadModel, padCheckpoint } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { difference } from '../../support/fixtures'
import { Random } from '../../support/random.cjs'
import { randomCheckpoint } from '../../support/random-checkpoint'

const gptq = (bits: 4 | 8, groupSize: number, sym: boolean, other: object = {}) => ({
  quantization_config: { quant_method: 'gptq', bits, group_size: groupSize, sym, desc_act: false, ...other },
})
const awq = (groupSize: number) => ({
  quantization_config: { quant_method: 'awq', bits: 4, group_size: groupSize, zero_point: true, version: 'gemm' },
})
const compressed = (bits: 4 | 8, groupSize: number, symmetric: boolean, actorder?: string) => {
  const strategy = groupSize === -1 ? 'channel' : groupSize === Number.POSITIVE_INFINITY ? 'tensor' : 'group'
  const group_size = strategy === 'tensor' ? null : groupSize
  const weights = { num_bits: bits, group_size, symmetric, strategy, type: 'int', actorder }
  const quant = { quant_method: 'compressed-tensors', format: 'pack-quantized', ignore: ['lm_head'] }
  return { quantization_config: { ...quant, config_groups: { group_0: { targets: ['Linear'], weights } } } }
}
const fp4 = (format: string, groupSize: number) => {
  const weights = { num_bits: 4, group_size: groupSize, type: 'float' }
  const quant = { quant_method: 'compressed-tensors', format, ignore: ['lm_head'] }
  return { quantization_config: { ...quant, config_groups: { group_0: { targets: ['Linear'], weights } } } }
}

const formats: Record<string, object> = {
  fp16: { torch_dtype: 'float16' },
  bf16: { torch_dtype: 'bfloat16' },
  fp32: { torch_dtype: 'float32' },
  'gptq-int4-g32': gptq(4, 32, true),
  'gptq-int4-g128': gptq(4, 128, false),
  'gptq-int8-g64': gptq(8, 64, true),
  'gptq-int8-channelwise': gptq(8, -1, false),
  'gptq-v2-int4-g64': gptq(4, 64, false, { checkpoint_format: 'gptq_v2' }),
  'gptq-int4-g32-desc_act': gptq(4, 32, false, { desc_act: true }),
  'gptq-int8-g16-desc_act': gptq(8, 16, true, { desc_act: true }),
  'awq-g32': awq(32),
  'awq-g128': awq(128),
  'awq-channelwise': awq(-1),
  'ct-w4-g32': compressed(4, 32, true),
  'ct-w4-g64-asym': compressed(4, 64, false),
  'ct-w8-channel': compressed(8, -1, true),
  'ct-w4-g32-actorder': compressed(4, 32, true, 'group'),
  // Linears that are computed together, such as q, k and v, in several formats.
  'gptq of several groups': gptq(4, 32, true, {
    dynamic: {
      '.*up_proj': { group_size: 64 },
      '.*w1': { group_size: 64 },
      '.*k_proj': { group_size: 128, sym: false },
    },
  }),
  'gptq of several bits': gptq(4, 64, true, {
    dynamic: { '.*(v|o|up)_proj': { bits: 8 }, '.*(w1|c_attn)': { bits: 8 } },
  }),
  'gptq in part': gptq(4, 32, false, { dynamic: { '-:.*(q|gate)_proj': {}, '-:.*w2': {} } }),
  'gptq with act-order in part': gptq(4, 32, false, {
    desc_act: true,
    dynamic: { '.*(gate|v|o)_proj': { desc_act: false }, '.*(w2|attn.c_proj)': { desc_act: false } },
  }),
  'fp8-blocks': { quantization_config: { quant_method: 'fp8', weight_block_size: [128, 128] } },
  'fp8-blocks of 96': { quantization_config: { quant_method: 'fp8', weight_block_size: [32, 96] } },
  'fp8-tensor': { quantization_config: { quant_method: 'fp8' } },
  'fp4-nv': fp4('nvfp4-pack-quantized', 16),
  'fp4-mx': fp4('mxfp4-pack-quantized', 32),
  'fp4-modelopt': { quantization_config: { quant_method: 'modelopt', quant_algo: 'W4A16_NVFP4', ignore: ['lm_head'] } },
  'ct-w8-tensor': compressed(8, Number.POSITIVE_INFINITY, true),
}

/** FP4 has whole groups only, of 16 or 32 inputs. */
function inWholeGroups(sizes: ReturnType<typeof randomSizes>) {
  const whole = (size: number) => Math.ceil(size / 32) * 32
  const { hidden_size, intermediate_size, head_dim } = sizes
  return {
    ...sizes,
    hidden_size: whole(hidden_size),
    intermediate_size: whole(intermediate_size),
    head_dim: whole(head_dim),
  }
}

/** Sizes that few numbers of ranks divide; heads, key-value heads, vocabulary and channels are often odd. */
function randomSizes(random: Random, headDims: readonly number[]) {
  const kvHeads = random.pick([1, 2, 3, 5, 7])
  const heads = kvHeads * random.pick([1, 2, 3, 5])
  return {
    num_hidden_layers: 2,
    hidden_size: 16 * (3 + random.below(10)),
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: random.pick(headDims),
    intermediate_size: 8 * (5 + random.below(70)),
    vocab_size: 61 + random.below(120),
    max_position_embeddings: 64,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: random.below(2) === 1,
  }
}

const architectures: Record<string, (random: Random) => object> = {
  llama: (random) => ({ attention_bias: random.below(2) === 1, mlp_bias: random.below(2) === 1 }),
  mistral: () => ({ sliding_window: 6 }),
  qwen: () => ({ seq_length: 8 }),
  qwen2: () => ({}),
  qwen3: (random) => ({ attention_bias: random.below(2) === 1 }),
}

function randomConfig(seed: number, type: string, format: string, headDims = [8, 16, 24]): RawConfig {
  const random = new Random(seed)
  const any = randomSizes(random, headDims)
  const sizes = format.startsWith('fp4') ? inWholeGroups(any) : any
  const own = architectures[type]?.(random)
  const config = { torch_dtype: 'float16', model_type: type, ...sizes, ...own, ...formats[format] }
  // Qwen v1 counts gate and up together, has as many key-value heads as heads, and another name for their width.
  if (type !== 'qwen') return config
  return { ...config, intermediate_size: 2 * sizes.intermediate_size, kv_channels: sizes.head_dim }
}

const tokens = [3, 60, 1, 1, 17, 42, 8, 0, 33, 5, 21]

async function logitsOf(directory: string, options: LoadOptions) {
  await using model = await loadModel(directory, { maxModelLength: 32, maxSequences: 1, ...options })
  const { logits, hiddenStates } = await model.forward(tokens, { hiddenStates: true })
  for (const { device, planned, weights, kvCache, states, buffers } of model.memory()) {
    expect({ weights, kvCache, states, buffers }, device).toEqual(planned)
  }
  return [logits, ...hiddenStates]
}

const group = (kind: string, ranks: number) => Array.from({ length: ranks }, (_, i) => `${kind}:${i}`).join(',')

/** The largest distance, in units of the values' own size. */
function distance(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  expect(actual.length).toBe(expected.length)
  const each = expected.map((values, i) => {
    const size = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
    return difference(actual[i] as Float32Array, values).max / size
  })
  return Math.max(...each)
}

/** Every format, with the architectures in turn. */
function models(firstSeed: number, firstType: number) {
  const types = Object.keys(architectures)
  return Object.keys(formats).map((format, i) => {
    return { seed: firstSeed + i, format, type: types[(firstType + i) % types.length] as string }
  })
}

describe.each([...models(0, 0), ...models(100, 2)])(
  'a random $type in $format (seed $seed)',
  ({ seed, type, format }) => {
    test('computes on 2, 3, 4 and 5 ranks what it computes on one device, in fp32', async () => {
      const directory = directoryOf(randomCheckpoint(randomConfig(seed, type, format), seed))
      const alone = await logitsOf(directory, { dtype: 'float32' })
      for (const ranks of [2, 3, 4, 5]) {
        const options = { dtype: 'float32', tensorParallelSize: ranks, deviceMap: group('cpu', ranks) } as const
        expect(distance(await logitsOf(directory, options), alone), `${ranks} ranks`).toBeLessThan(1e-5)
      }
    })

    test('padded in its files computes the same bits', async () => {
      const directory = directoryOf(randomCheckpoint(randomConfig(seed, type, format), seed))
      const padded = join(directoryOf({}), 'padded')
      const { written } = await padCheckpoint(directory, padded, { parallelSizes: [2, 3, 5], verify: false })
      const options = { dtype: 'float32' } as const
      expect(written).toBe(true)
      expect(await logitsOf(padded, options)).toEqual(await logitsOf(directory, options))
    })
  },
)

// GPUs take groups of 32 inputs or more (of FP4, 16), and heads of 64.
const gpuModels = models(300, 1).filter(({ format }) => !format.includes('g16'))
describe.each(gpuModels)('a random $type in $format (seed $seed), in 16 bits', ({ seed, type, format }) => {
  const ranks = 2 + (seed % 2)
  test(`is as near to fp32 on ${ranks} ranks as on one device`, async () => {
    const directory = directoryOf(randomCheckpoint(randomConfig(seed, type, format, [64]), seed))
    const exact = await logitsOf(directory, { dtype: 'float32' })
    for (const kind of ['cpu', 'emulated']) {
      const alone = distance(await logitsOf(directory, { deviceMap: `${kind}:0` }), exact)
      expect(alone, kind).toBeLessThan(format === 'bf16' ? 0.05 : 0.01)
      const options = { tensorParallelSize: ranks, deviceMap: group(kind, ranks) }
      expect(distance(await logitsOf(directory, options), exact), kind).toBeLessThan(1.5 * alone)
    }
  })
})
