import { describe, expect, it } from 'vitest'
import type { QuantizationConfig } from '../../../src/checkpoint/types'
import { readQuantizationConfig, readQuantizationSources, sourcesOfConfig } from '../../../src/quantization/config'
import { ruleFor } from '../../../src/quantization/rules'

function read(value: unknown, name = 'config.json'): QuantizationConfig {
  return readQuantizationConfig([{ where: `/models/a/${name}`, name, value }])
}

describe('the place of the quantization config', () => {
  const source = (name: string, value: unknown) => ({ where: name, name, value })

  it('is the first file or key that has one', () => {
    const first = source('config.json', { quant_method: 'compressed-tensors' })
    const second = source('quantize_config.json', { bits: 8 })
    const third = source('quant_config.json', { w_bit: 4, q_group_size: 64 })
    const none = source('config.json', undefined)
    expect(readQuantizationConfig([first, second, third])).toMatchObject({ method: 'compressed-tensors' })
    expect(readQuantizationConfig([none, second, third])).toMatchObject({ method: 'gptq', bits: 8 })
    expect(readQuantizationConfig([none, source('quantize_config.json', null), third])).toMatchObject({
      method: 'awq',
      groupSize: 64,
    })
    expect(readQuantizationConfig([none, source('config.json', null)])).toEqual({ method: 'none' })
  })

  it('takes precedence over another one that it contradicts', () => {
    const config = source('config.json', { quant_method: 'gptq', bits: 4, group_size: 128, desc_act: false })
    const same = source('quantize_config.json', { bits: 4, group_size: 128, desc_act: false, damp_percent: 0.1 })
    const stale = source('quantize_config.json', { bits: 8, group_size: 128, desc_act: true })
    const foreign = source('quant_config.json', { w_bit: 4, version: 'gemv_fast' })
    const broken = source('quantize_config.json', { bits: 'four' })
    expect(readQuantizationSources([config, same]).warnings).toEqual([])
    expect(readQuantizationSources([config, broken])).toMatchObject({ config: { bits: 4 }, warnings: [] })
    expect(readQuantizationSources([config, foreign]).warnings).toEqual([
      'quant_config.json says quant_method AWQ GEMV_FAST; config.json says quant_method "gptq", which takes precedence.',
    ])
    const reading = readQuantizationSources([config, stale])
    expect(reading.config).toMatchObject({ bits: 4 })
    expect(reading.warnings).toEqual([
      'quantize_config.json says bits 8, desc_act true; config.json says bits 4, desc_act false, which takes precedence.',
    ])
  })

  it("gives rules in their author's order, which transformers does not keep in config.json", () => {
    const rules = { '-:.*v_proj': {}, '+:.*0.*': { bits: 8 } }
    const sorted = Object.fromEntries(Object.entries(rules).sort(([x], [y]) => (x < y ? -1 : 1)))
    const gptq = { quant_method: 'gptq', bits: 4 }
    const config = source('config.json', { ...gptq, dynamic: sorted })
    const patterns = (other: object) => {
      const read_ = readQuantizationConfig([config, source('quantize_config.json', { ...gptq, ...other })])
      return read_.method === 'gptq' ? read_.rules.map(({ pattern }) => pattern) : undefined
    }
    expect(patterns({ dynamic: rules })).toEqual(['.*v_proj', '.*0.*'])
    expect(patterns({ dynamic: { '-:.*v_proj': {} } })).toEqual(['.*0.*', '.*v_proj'])
  })

  it('is found in config.json under each of its keys', () => {
    const gptq = { quant_method: 'gptq', bits: 4 }
    const of = (config: object) =>
      readQuantizationConfig(sourcesOfConfig(config as Record<string, unknown>, 'config.json'))
    expect(of({ quantization_config: gptq })).toMatchObject({ method: 'gptq' })
    expect(of({ compression_config: gptq })).toMatchObject({ method: 'gptq' })
    expect(of({ text_config: { quantization_config: gptq } })).toMatchObject({ method: 'gptq' })
    const mlx = { group_size: 64, bits: 4 }
    expect(of({ quantization: mlx, quantization_config: mlx })).toMatchObject({ method: 'unsupported', format: 'MLX' })
    expect(of({ quantization: mlx, quantization_config: gptq })).toMatchObject({ method: 'gptq' })
  })

  it('names the place in errors', () => {
    expect(() => read({ bits: '3' }, 'quantize_config.json')).toThrow('/models/a/quantize_config.json: bits is "3"')
    expect(() => read([], 'quantize_config.json')).toThrow('/models/a/quantize_config.json')
  })
})

describe('GPTQ config', () => {
  it('has the defaults of AutoGPTQ', () => {
    expect(read({ bits: 4, quant_method: 'gptq' })).toEqual({
      method: 'gptq',
      bits: 4,
      groupSize: undefined,
      symmetric: true,
      actOrder: undefined,
      zeroOffset: 1,
      groupIndex: true,
      head: false,
      rules: [],
    })
  })

  it('knows its synonyms, and treats null as missing', () => {
    const config = { w_bit: 8, q_group_size: 32, sym: false, desc_act: null, checkpoint_format: null }
    expect(read({ quant_method: 'GPTQ', ...config })).toMatchObject({ bits: 8, groupSize: 32, symmetric: false })
    expect(read({ bits: 4, method: 'gptq', format: 'gptq_v2' })).toMatchObject({ method: 'gptq', zeroOffset: 0 })
    expect(read({ bits: 4, checkpoint_format: 'gptq_v2' })).toMatchObject({ method: 'gptq', zeroOffset: 0 })
  })

  it('has no activation order with static groups or without groups', () => {
    expect(read({ bits: 4, group_size: 128, desc_act: true })).toMatchObject({ actOrder: true })
    expect(read({ bits: 4, group_size: 128, desc_act: true, static_groups: true })).toMatchObject({ actOrder: false })
    expect(read({ bits: 4, group_size: -1, desc_act: true })).toMatchObject({ actOrder: false })
  })

  it.each([
    [{ bits: '4' }, 'bits is "4"'],
    [{ bits: 0 }, 'bits is 0; expected 4 or 8'],
    [{ bits: 4, group_size: 0 }, 'group_size is 0'],
    [{ bits: 4, group_size: -128 }, 'group_size is -128'],
    [{ bits: 4, group_size: 1.5 }, 'group_size is 1.5'],
    [{ bits: 4, sym: 'yes' }, 'sym is "yes"'],
    [{ bits: 4, dynamic: [] }, 'dynamic is []'],
    [{ bits: 4, dynamic: { x: 1 } }, 'dynamic "x" is 1'],
    [{ bits: 4, dynamic: { x: { group_size: 'a' } } }, 'rule "x": group_size is "a"'],
  ])('is refused: %j', (config, part) => {
    expect(() => read({ quant_method: 'gptq', ...config })).toThrow(part)
  })
})

describe('AutoRound config', () => {
  const config = { quant_method: 'auto-round', bits: 4, group_size: 64, sym: true, data_type: 'int' }

  it.each([
    [undefined, { method: 'gptq', zeroOffset: 1, groupIndex: false }],
    ['auto_round:auto_gptq', { method: 'gptq', zeroOffset: 1, groupIndex: false }],
    ['auto_round:gptq:exllamav2', { method: 'gptq', zeroOffset: 1, groupIndex: false }],
    ['auto_round', { method: 'gptq', zeroOffset: 0, groupIndex: false }],
    ['auto_round:gptqmodel', { method: 'gptq', zeroOffset: 0, groupIndex: true }],
    ['auto_round:auto_awq', { method: 'awq', zeroPoint: true }],
    ['auto_round:llm_compressor', { method: 'unsupported', format: 'AutoRound with packing_format llm_compressor' }],
    ['auto_round:fp8', { method: 'unsupported', format: 'AutoRound with packing_format fp8' }],
  ])('packing_format %s', (packing_format, expected) => {
    for (const quant_method of ['auto-round', 'intel/auto-round', 'auto_round'])
      expect(read({ ...config, quant_method, packing_format })).toMatchObject(expected)
  })

  it.each([
    [{ bits: 2 }, 'AutoRound with 2 bits'],
    [{ data_type: 'mx_fp', bits: 4 }, 'AutoRound with data_type mx_fp'],
    [{ act_bits: 8 }, 'AutoRound with quantized activations (W4A8)'],
  ])('cannot be run: %j', (changes, format) => {
    expect(read({ ...config, ...changes })).toMatchObject({ method: 'unsupported', format })
  })

  it('has rules for modules: exact names before patterns, which match anywhere', () => {
    const extra_config = {
      'layers.1': { bits: 8 },
      'model.layers.1.mlp': { bits: 16 },
      lm_head: { bits: 8, sym: false },
    }
    const read_ = read({ ...config, extra_config })
    expect(read_).toMatchObject({ head: true })
    const rules = read_.method === 'gptq' ? read_.rules : []
    expect(ruleFor(rules, 'model.layers.1.mlp')?.action).toBe('skip')
    expect(ruleFor(rules, 'model.layers.1.attn')?.action).toMatchObject({ bits: 8 })
    expect(ruleFor(rules, 'lm_head')?.action).toMatchObject({ bits: 8, symmetric: false })
    expect(ruleFor(rules, 'model.layers.2.attn')).toBeUndefined()
  })
})

describe('AWQ config', () => {
  it('is read in both forms', () => {
    const expected = { method: 'awq', layout: 'gemm', bits: 4, groupSize: 128, zeroPoint: true, rules: [] }
    expect(read({ quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'GEMM' })).toEqual(expected)
    expect(read({ w_bit: 4, q_group_size: 128, zero_point: true, version: 'GEMM' }, 'quant_config.json')).toEqual(
      expected,
    )
    expect(read({ w_bit: 4, q_group_size: 128 }, 'quant_config.json')).toEqual(expected)
  })

  it('may name a kernel that reads the same layout', () => {
    for (const version of ['exllama', 'ExLlamaV2'])
      expect(read({ quant_method: 'awq', bits: 4, version })).toMatchObject({ method: 'awq', bits: 4 })
  })
})

describe('compressed-tensors config', () => {
  const weights = { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 128 }
  const config = (changes: object, weightChanges: object = {}) => ({
    quant_method: 'compressed-tensors',
    format: 'pack-quantized',
    config_groups: { group_0: { targets: ['Linear'], weights: { ...weights, ...weightChanges } } },
    ...changes,
  })

  it('is read', () => {
    expect(read(config({ ignore: ['lm_head'] }))).toEqual({
      method: 'compressed-tensors',
      groups: [
        {
          targets: ['Linear'],
          bits: 4,
          groupSize: 128,
          oneScale: false,
          symmetric: true,
          actOrder: false,
          packed: true,
          quantizesActivations: false,
        },
      ],
      ignore: ['lm_head'],
    })
  })

  it('takes a format of one number a byte from a group or from the top, and notes quantized activations', () => {
    const group = (top: string | undefined, own: string | undefined) => {
      const groups = { a: { targets: ['Linear'], weights, format: own, input_activations: { num_bits: 8 } } }
      const read_ = read({ quant_method: 'compressed-tensors', format: top, config_groups: groups })
      return read_.method === 'compressed-tensors' ? read_.groups[0] : read_
    }
    expect(group('int-quantized', undefined)).toMatchObject({ packed: false, quantizesActivations: true })
    expect(group('naive-quantized', undefined)).toMatchObject({ packed: false })
    expect(group('mixed-precision', 'int-quantized')).toMatchObject({ packed: false })
    expect(group('mixed-precision', undefined)).toMatchObject({ packed: true })
    expect(group('int-quantized', 'pack-quantized')).toMatchObject({ packed: true })
  })

  it('is recognized by its groups if no method is given', () => {
    expect(read({ ...config({}), quant_method: undefined })).toMatchObject({ method: 'compressed-tensors' })
  })

  it('infers the strategy from the group size', () => {
    const group = (changes: object) => {
      const read_ = read(config({}, changes))
      return read_.method === 'compressed-tensors' ? read_.groups[0]?.groupSize : undefined
    }
    expect(group({ strategy: null, group_size: 64 })).toBe(64)
    expect(group({ strategy: null, group_size: -1 })).toBe(-1)
    expect(group({ strategy: 'channel', group_size: null })).toBe(-1)
  })

  it.each([
    ['tensor', true],
    ['channel', false],
    [null, true],
  ])('with strategy %j and no group size, has one scale: %j', (strategy, oneScale) => {
    expect(read(config({}, { strategy, group_size: null }))).toMatchObject({ groups: [{ groupSize: -1, oneScale }] })
  })

  it.each([
    ['group', true],
    ['dynamic', true],
    [true, true],
    ['weight', false],
    ['static', false],
    [null, false],
  ])('reads actorder %j', (actorder, expected) => {
    expect(read(config({}, { actorder }))).toMatchObject({ groups: [{ actOrder: expected }] })
  })

  it.each([
    [config({}, { strategy: 'group', group_size: null }), 'group_size is nothing'],
    [config({}, { actorder: 'random' }), 'actorder is "random"'],
    [config({ config_groups: { a: 7 } }), 'config_groups.a is 7'],
    [config({ config_groups: { a: {} } }), 'num_bits is nothing'],
    [config({ ignore: 'lm_head' }), 'ignore is "lm_head"'],
  ])('is refused: %j', (value, part) => {
    expect(() => read(value)).toThrow(part)
  })
})

describe('formats that cannot be run', () => {
  const weights = { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 128 }
  const packed = (changes: object, weightChanges: object = {}, groupChanges: object = {}) => ({
    quant_method: 'compressed-tensors',
    config_groups: { a: { targets: ['Linear'], weights: { ...weights, ...weightChanges }, ...groupChanges } },
    ...changes,
  })

  it.each([
    [{ quant_method: 'gptq', bits: 4, is_marlin_format: true }, 'GPTQ packed for Marlin'],
    [{ quant_method: 'gptq', bits: 4, checkpoint_format: 'marlin' }, 'GPTQ packed for Marlin'],
    [{ quant_method: 'gptq', bits: 4, checkpoint_format: 'bitblas' }, 'GPTQ packed for BitBLAS'],
    [{ quant_method: 'gptq', bits: 4, format: 'gptq_p' }, 'GPTQ with checkpoint_format gptq_p'],
    [{ quant_method: 'gptq', bits: 4, pack_dtype: 'int16' }, 'GPTQ packed into int16'],
    [{ quant_method: 'gptq', bits: 4, rotation: 'hadamard' }, 'GPTQ of rotated weights (rotation "hadamard")'],
    [{ quant_method: 'gptq', bits: 2 }, 'GPTQ with 2 bits'],
    [{ quant_method: 'gptq', bits: 3 }, 'GPTQ with 3 bits'],
    [{ quant_method: 'awq', version: 'GEMV_FAST' }, 'AWQ GEMV_FAST'],
    [{ quant_method: 'awq', version: 'marlin' }, 'AWQ packed for Marlin'],
    [{ quant_method: 'awq', version: 'llm-awq' }, 'AWQ of llm-awq'],
    [{ quant_method: 'awq', bits: 8 }, 'AWQ with 8 bits'],
    [
      packed({ format: 'float-quantized' }, { type: 'float' }),
      'compressed-tensors float-quantized with floats of 4 bits',
    ],
    [
      packed({ format: 'float-quantized' }, { type: 'int' }),
      'compressed-tensors float-quantized with weights of type int',
    ],
    [
      packed({ format: 'float-quantized' }, { type: 'float', num_bits: 8, symmetric: false }),
      'compressed-tensors float-quantized with zero points',
    ],
    [
      packed({ format: 'float-quantized' }, { type: 'float', num_bits: 8, strategy: 'token' }),
      'compressed-tensors FP8 with one scale for strategy "token"',
    ],
    [packed({ format: 'mxfp4-quantized' }), 'compressed-tensors mxfp4-quantized'],
    [packed({}, { type: 'float', num_bits: 8 }), 'compressed-tensors pack-quantized with weights of type float'],
    [packed({}, { num_bits: 3 }), 'compressed-tensors pack-quantized with 3 bits'],
    [packed({}, { strategy: 'block' }), 'compressed-tensors pack-quantized with one scale for strategy "block"'],
    [packed({ format: 'int-quantized' }, { num_bits: 2 }), 'compressed-tensors int-quantized with 2 bits'],
    [packed({}, {}, { format: 'mxfp8-quantized' }), 'compressed-tensors mxfp8-quantized (MXFP8)'],
    [packed({ sparsity_config: { format: 'sparse-24-bitmask' } }), 'compressed-tensors sparse-24-bitmask (2:4 sparse)'],
    [
      packed({ transform_config: { config_groups: { R1: {} } } }),
      'compressed-tensors with transform_config (weights that need rotated activations)',
    ],
    [{ quant_method: 'fp8', fmt: 'e5m2' }, 'FP8 e5m2'],
    [{ quant_method: 'fbgemm_fp8' }, 'FP8 (FBGEMM)'],
    [{ quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' }, 'bitsandbytes NF4'],
    [{ load_in_4bit: true, bnb_4bit_quant_type: 'fp4' }, 'bitsandbytes FP4'],
    [{ quant_method: 'bitsandbytes', load_in_8bit: true }, 'bitsandbytes int8 (LLM.int8)'],
    [{ quant_method: 'modelopt', quant_algo: 'W4A8_AWQ' }, 'ModelOpt W4A8_AWQ'],
    [{ quant_method: 'mxfp4' }, 'MXFP4'],
    [{ quant_method: 'hqq' }, 'HQQ'],
    [{ quant_method: 'eetq' }, 'EETQ int8'],
    [{ quant_method: 'aqlm' }, 'AQLM'],
    [{ quant_method: 'quip' }, 'QuIP#'],
    [{ quant_method: 'vptq' }, 'VPTQ'],
    [{ quant_method: 'spqr' }, 'SpQR'],
    [{ quant_method: 'torchao' }, 'torchao'],
    [{ quant_method: 'quark' }, 'AMD Quark'],
    [{ quant_method: 'exl2' }, 'EXL2'],
    [{ quant_method: 'exl3' }, 'EXL3'],
    [{ quant_method: '__proto__' }, 'quant_method "__proto__"'],
  ])('%j', (config, format) => {
    expect(read(config)).toEqual({ method: 'unsupported', format, where: '/models/a/config.json' })
  })

  it("ModelOpt's own file", () => {
    const file = { producer: { name: 'modelopt' }, quantization: { quant_algo: 'INT4_AWQ' } }
    expect(read(file, 'hf_quant_config.json')).toMatchObject({ method: 'unsupported', format: 'ModelOpt INT4_AWQ' })
  })
})
