/** What configs say of FP4: compressed-tensors' schemes, and ModelOpt's two files. */
import { describe, expect, test } from 'vitest'
import type { QuantizationConfig } from '../../../src/checkpoint/types'
import { configSource } from '../../../src/placement/config-source'
import { readQuantizationConfig, readQuantizationSources } from '../../../src/quantization/config'
import { algorithmByName, matchesGlob } from '../../../src/quantization/modelopt'

const read = (value: object, name = 'config.json') => readQuantizationConfig([{ where: name, name, value }])

/** weights of a group as compressed-tensors 0.15 writes them. */
const WEIGHTS = {
  num_bits: 4,
  type: 'float',
  symmetric: true,
  group_size: 16,
  strategy: 'tensor_group',
  block_structure: null,
  dynamic: false,
  actorder: null,
  scale_dtype: 'torch.float8_e4m3fn',
  zp_dtype: null,
  observer: 'memoryless_minmax',
  observer_kwargs: {},
}
const compressed = (weights: object, group: object = {}, top: object = {}) => ({
  config_groups: { group_0: { targets: ['Linear'], weights: { ...WEIGHTS, ...weights }, ...group } },
  quant_method: 'compressed-tensors',
  kv_cache_scheme: null,
  format: 'nvfp4-pack-quantized',
  ignore: ['lm_head'],
  sparsity_config: {},
  transform_config: {},
  ...top,
})
const MX = { group_size: 32, strategy: 'group', scale_dtype: 'torch.uint8' }

describe("compressed-tensors' FP4", () => {
  const scheme = { targets: ['Linear'], bits: 4, symmetric: true, actOrder: false, packed: true }
  const nvfp4 = { ...scheme, groupSize: 16, fp4: 'NVFP4', quantizesActivations: false }
  const mxfp4 = { ...scheme, groupSize: 32, fp4: 'MXFP4', quantizesActivations: false }
  const groupOf = (config: QuantizationConfig) => (config.method === 'compressed-tensors' ? config.groups[0] : config)

  test.each([
    ['NVFP4A16', compressed({}, { format: 'nvfp4-pack-quantized' }), nvfp4],
    ['a format at the top alone', compressed({}), nvfp4],
    [
      'a format in the group alone',
      compressed({}, { format: 'nvfp4-pack-quantized' }, { format: 'mixed-precision' }),
      nvfp4,
    ],
    ['neither group size nor type nor strategy', compressed({ group_size: null, type: null, strategy: null }), nvfp4],
    ['MXFP4', compressed(MX, {}, { format: 'mxfp4-pack-quantized' }), mxfp4],
    [
      'MXFP4 in a mixed model',
      compressed(MX, { format: 'mxfp4-pack-quantized' }, { format: 'mixed-precision' }),
      mxfp4,
    ],
    [
      'NVFP4 with quantized activations, whose dynamic is a word',
      compressed({}, { input_activations: { ...WEIGHTS, dynamic: 'local', observer: 'static_minmax' } }),
      { ...nvfp4, quantizesActivations: true },
    ],
  ])('is read: %s', (_, config, expected) => {
    expect(groupOf(read(config))).toEqual(expected)
  })

  test.each([
    [compressed({ type: 'int' }), 'compressed-tensors nvfp4-pack-quantized with weights of type int'],
    [compressed({ num_bits: 8 }), 'compressed-tensors nvfp4-pack-quantized with floats of 8 bits'],
    [compressed({ symmetric: false }), 'compressed-tensors nvfp4-pack-quantized with zero points'],
    [compressed({ group_size: 32 }), 'compressed-tensors nvfp4-pack-quantized in groups of 32'],
    [compressed({ group_size: -1 }), 'compressed-tensors nvfp4-pack-quantized in groups of -1'],
    [compressed({ actorder: 'group' }), 'compressed-tensors nvfp4-pack-quantized with activation order'],
    [
      compressed({ strategy: 'channel' }),
      'compressed-tensors nvfp4-pack-quantized with one scale for strategy "channel"',
    ],
    [compressed({}, {}, { format: 'mxfp4-pack-quantized' }), 'compressed-tensors mxfp4-pack-quantized in groups of 16'],
    [compressed({}, { format: 'pack-quantized' }), 'compressed-tensors pack-quantized with weights of type float'],
    [compressed({}, { format: 'mxfp8-quantized' }), 'compressed-tensors mxfp8-quantized (MXFP8)'],
  ])('cannot be run: %#', (config, format) => {
    expect(read(config)).toEqual({ method: 'unsupported', format, where: 'config.json' })
  })

  test('is refused with fields of another type', () => {
    expect(() => read(compressed({ group_size: '16' }))).toThrow('config_groups.group_0.weights: group_size is "16"')
    expect(() => read(compressed({ symmetric: 'yes' }))).toThrow('symmetric is "yes"')
    expect(() => read(compressed({}, { targets: [7] }))).toThrow('targets is [7]; expected a list of strings')
  })
})

/** As config.json has it. */
const MODELOPT = {
  config_groups: {
    group_0: {
      input_activations: { dynamic: false, num_bits: 4, type: 'float', group_size: 16 },
      weights: { dynamic: false, num_bits: 4, type: 'float', group_size: 16 },
      targets: ['Linear'],
    },
  },
  ignore: ['lm_head', 'model.layers.1.self_attn*'],
  quant_algo: 'NVFP4',
  kv_cache_scheme: { dynamic: false, num_bits: 8, type: 'float' },
  producer: { name: 'modelopt', version: '0.47.0' },
  quant_method: 'modelopt',
}
const HF_QUANT = {
  producer: { name: 'modelopt', version: '0.47.0' },
  quantization: {
    quant_algo: 'NVFP4',
    kv_cache_quant_algo: 'FP8',
    group_size: 16,
    exclude_modules: ['lm_head', 'model.layers.1.self_attn*'],
  },
}
const mixed = (quantized_layers: unknown, other: object = {}) => ({
  quant_method: 'modelopt',
  quant_algo: 'MIXED_PRECISION',
  quantized_layers,
  ...other,
})

describe("ModelOpt's config", () => {
  const expected = {
    method: 'modelopt',
    algorithm: 'NVFP4',
    layers: new Map(),
    excluded: ['lm_head', 'model.layers.1.self_attn*'],
    quantizesActivations: true,
  }

  test('is the same in both files, and recognized by its file or its algorithm', () => {
    expect(read(MODELOPT)).toEqual(expected)
    expect(read(HF_QUANT, 'hf_quant_config.json')).toEqual(expected)
    expect(read({ ...MODELOPT, quant_method: undefined })).toEqual(expected)
    for (const quant_method of ['modelopt_fp4', 'MODELOPT', 'modelopt_mixed']) {
      expect(read({ ...MODELOPT, quant_method })).toEqual(expected)
    }
    const sources = [
      { where: 'config.json', name: 'config.json', value: MODELOPT },
      { where: 'hf_quant_config.json', name: 'hf_quant_config.json', value: HF_QUANT },
    ]
    expect(readQuantizationSources(sources)).toEqual({ config: expected, where: 'config.json', warnings: [] })
    const fp8 = { quantization: { ...HF_QUANT.quantization, quant_algo: 'FP8' } }
    expect(readQuantizationSources([sources[0], { ...sources[1], value: fp8 }] as typeof sources).warnings).toEqual([
      'hf_quant_config.json says quant_algo "FP8"; config.json says quant_algo "NVFP4", which takes precedence.',
    ])
  })

  test('may leave activations alone, and may be of FP8', () => {
    const weightOnly = { method: 'modelopt', algorithm: 'NVFP4', quantizesActivations: false }
    expect(read({ ...MODELOPT, quant_algo: 'W4A16_NVFP4' })).toMatchObject(weightOnly)
    expect(read({ ...MODELOPT, quant_algo: 'FP8', group_size: null })).toMatchObject({ algorithm: 'FP8' })
  })

  test('has an algorithm for each layer of MIXED_PRECISION', () => {
    const config = read(
      mixed({
        'model.layers.0.mlp.experts': { quant_algo: 'NVFP4', group_size: 16 },
        'model.language_model.layers.0.self_attn.q_proj': { quant_algo: 'FP8' },
        lm_head: { quant_algo: 'W4A16_NVFP4', group_size: 16 },
        'model.layers.1.mlp.up_proj': 'W4A16_NVFP4',
      }),
    )
    const algorithmOf = (module: string) => (config.method === 'modelopt' ? algorithmByName(config, module) : config)
    expect(config).toMatchObject({ algorithm: 'MIXED_PRECISION', quantizesActivations: true })
    expect(algorithmOf('model.layers.0.mlp.experts.7.up_proj')).toBe('NVFP4')
    expect(algorithmOf('model.layers.0.self_attn.q_proj')).toBe('FP8')
    expect(algorithmOf('model.layers.0.self_attn.k_proj')).toBeUndefined()
    expect(algorithmOf('lm_head')).toBe('NVFP4')
    expect(algorithmOf('model.layers.1.mlp.up_proj')).toBe('NVFP4')
    expect(algorithmOf('model.layers.1.mlp.up_proj_2')).toBeUndefined()
    expect(read(mixed({ lm_head: { quant_algo: 'W4A16_NVFP4' } }))).toMatchObject({ quantizesActivations: false })
    expect(read(mixed(undefined))).toMatchObject({ algorithm: 'MIXED_PRECISION', layers: new Map() })
  })

  test.each([
    [{ quant_algo: 'W4A8_AWQ' }, 'ModelOpt W4A8_AWQ'],
    [{ quant_algo: 'INT4_AWQ' }, 'ModelOpt INT4_AWQ'],
    [{ quant_algo: 'NVFP4_AWQ' }, 'ModelOpt NVFP4_AWQ'],
    [{ quant_algo: 'FP8_PB_WO' }, 'ModelOpt FP8_PB_WO'],
    [{ quant_algo: '__proto__' }, 'ModelOpt __proto__'],
    [{ quant_algo: null }, 'ModelOpt without quant_algo'],
    [{ group_size: 32 }, 'ModelOpt NVFP4 in groups of 32'],
    [mixed({ a: { quant_algo: 'NVFP4' }, b: { quant_algo: 'MXFP8' } }), 'ModelOpt MXFP8, in MIXED_PRECISION'],
    [mixed({ a: { quant_algo: 'NVFP4', group_size: 8 } }), 'ModelOpt NVFP4 in groups of 8, in MIXED_PRECISION'],
  ])('cannot be run: %j', (changes, format) => {
    expect(read({ ...MODELOPT, ...changes })).toEqual({ method: 'unsupported', format, where: 'config.json' })
  })

  test.each([
    [{ quant_algo: 4 }, 'config.json: quant_algo is 4; expected a string'],
    [{ quantization: [] }, 'quantization is []; expected an object'],
    [{ quantization: { quant_algo: 'NVFP4', group_size: 'a' } }, 'config.json: quantization: group_size is "a"'],
    [{ ignore: 'lm_head' }, 'ignore is "lm_head"; expected a list of names and patterns'],
    [{ exclude_modules: [7] }, 'exclude_modules is [7]; expected a list of names and patterns'],
    [{ ignore: Array(10_001).fill('a*') }, 'ignore is "10001 patterns"; expected at most 10000'],
    [{ ignore: ['*'.repeat(1001)] }, 'expected patterns of at most 1000 characters'],
    [mixed([]), 'quantized_layers is []; expected an object'],
    [mixed({ a: 7 }), 'quantized_layers "a" is 7; expected an object with a quant_algo'],
    [mixed({ a: {} }), 'quantized_layers "a": quant_algo is nothing; expected the name of an algorithm'],
  ])('is refused: %#', (changes, message) => {
    expect(() => read({ ...MODELOPT, ...changes })).toThrow(message)
  })

  test.each([
    ['lm_head', 'lm_head', true],
    ['lm_head', 'lm_head2', false],
    ['mtp*', 'mtp.layers.0.mlp', true],
    ['mtp*', 'model.mtp', false],
    ['*', 'anything', true],
    ['**', '', true],
    ['*.mlp.gate', 'model.layers.0.mlp.gate', true],
    ['*.mlp.gate', 'model.layers.0.mlp.gate_proj', false],
    ['model.layers.*.mlp.*_proj', 'model.layers.12.mlp.up_proj', true],
    ['model.layers.*.mlp.*_proj', 'model.layers.12.mlp._proj', true],
    ['a*aba', 'aba', false],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['a*b*b', 'ab', false],
    ['a.c', 'abc', false],
    ['a?c', 'abc', false],
  ])('excludes by %j the name %j: %j', (pattern, name, matches) => {
    expect(matchesGlob(pattern, name)).toBe(matches)
  })

  test('is matched in linear time, and refused when all of it takes too long', () => {
    const name = 'a'.repeat(900)
    const start = performance.now()
    expect(matchesGlob(`${'*a'.repeat(499)}*b`, name)).toBe(false)
    expect(performance.now() - start).toBeLessThan(1000)
    const config = read({ ...MODELOPT, ignore: Array.from({ length: 10_000 }, () => `${'*a'.repeat(490)}*b`) })
    const match = () => {
      for (let i = 0; i < 1000 && config.method === 'modelopt'; i++) algorithmByName(config, `${name}${i}`)
    }
    expect(match).toThrow('The patterns of the quantization config take longer than 1 s in total; simplify them')
  })
})

describe('from a config alone', () => {
  const linear = (config: object, module: string, inputs = 512) =>
    configSource({ torch_dtype: 'bfloat16' }, read(config)).linear(module, 256, inputs, 'none')
  const [q, gate, router] = [
    'model.layers.1.self_attn.q_proj',
    'model.layers.1.mlp.gate_proj',
    'model.layers.1.mlp.gate',
  ]

  test('NVFP4 has the names, types and sizes of its tensors', () => {
    expect(linear(compressed({}), gate)).toMatchObject({
      format: 'fp4',
      bits: 4,
      groupSize: 16,
      symmetric: true,
      zeroOffset: 0,
      codes: { name: `${gate}.weight_packed`, dtype: 'U8', shape: [256, 256], bytes: 65_536 },
      scales: { name: `${gate}.weight_scale`, dtype: 'F8_E4M3', shape: [256, 32], bytes: 8192 },
      globalScale: { name: `${gate}.weight_global_scale`, dtype: 'F32', shape: [1], bytes: 4 },
      globalScaleDivides: true,
    })
    expect(linear(MODELOPT, gate)).toMatchObject({
      format: 'fp4',
      groupSize: 16,
      codes: { name: `${gate}.weight`, dtype: 'U8', shape: [256, 256] },
      scales: { name: `${gate}.weight_scale`, dtype: 'F8_E4M3', shape: [256, 32] },
      globalScale: { name: `${gate}.weight_scale_2`, dtype: 'F32', shape: [], bytes: 4 },
      globalScaleDivides: false,
    })
  })

  test('MXFP4 has no global scale', () => {
    const spec = linear(compressed(MX, {}, { format: 'mxfp4-pack-quantized' }), gate)
    expect(spec).toMatchObject({
      format: 'fp4',
      groupSize: 32,
      codes: { name: `${gate}.weight_packed`, dtype: 'U8', shape: [256, 256] },
      scales: { name: `${gate}.weight_scale`, dtype: 'U8', shape: [256, 16], bytes: 4096 },
    })
    expect(spec).not.toHaveProperty('globalScale')
  })

  test('modules are quantized that are not excluded, or that are listed', () => {
    const kinds = (config: object, ...modules: string[]) =>
      modules.map((module) => {
        const spec = linear(config, module)
        return spec.kind === 'quantized' ? `${spec.format} ${spec.groupSize}` : spec.kind
      })
    expect(kinds(MODELOPT, q, gate, router, 'lm_head')).toEqual(['matrix', 'fp4 16', 'matrix', 'matrix'])
    expect(kinds({ ...MODELOPT, ignore: ['model.layers.1.mlp'] }, q, gate, 'lm_head')).toEqual([
      'fp4 16',
      'matrix',
      'fp4 16',
    ])
    const vision = { ...MODELOPT, ignore: ['model.language_model.layers.1.self_attn*'] }
    expect(kinds(vision, q, gate)).toEqual(['matrix', 'fp4 16'])
    const layers = mixed({ [q]: { quant_algo: 'FP8' }, 'model.layers.1.mlp': { quant_algo: 'NVFP4' } })
    expect(kinds(layers, q, gate, router, 'lm_head')).toEqual(['fp8 512', 'fp4 16', 'matrix', 'matrix'])
    expect(kinds(compressed({}), q, gate, 'lm_head')).toEqual(['fp4 16', 'fp4 16', 'matrix'])
  })

  test('inputs that do not fill groups are refused with both numbers', () => {
    expect(() => linear(MODELOPT, gate, 504)).toThrow(`"${gate}" has 504 inputs, but NVFP4 has groups of 16`)
    const mxfp4 = compressed(MX, {}, { format: 'mxfp4-pack-quantized' })
    expect(() => linear(mxfp4, gate, 528)).toThrow(`"${gate}" has 528 inputs, but MXFP4 has groups of 32`)
  })
})
