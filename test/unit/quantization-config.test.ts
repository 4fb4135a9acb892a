import { describe, expect, it } from 'vitest'
import type { QuantizationConfig } from '../../src/checkpoint/types'
import { readQuantizationConfig } from '../../src/quantization/config'

function read(value: unknown, name = 'config.json'): QuantizationConfig {
  return readQuantizationConfig([{ where: `/models/a/${name}`, name, value }])
}

describe('where the quantisation config stands', () => {
  it('is the first place that has one', () => {
    const source = (name: string, value: unknown) => ({ where: name, name, value })
    const first = source('quantize_config.json', { bits: 8 })
    const second = source('quant_config.json', { w_bit: 4, q_group_size: 64 })
    const third = source('config.json', { quant_method: 'compressed-tensors' })
    const none = source('quantize_config.json', undefined)
    expect(readQuantizationConfig([first, second, third])).toMatchObject({ method: 'gptq', bits: 8 })
    expect(readQuantizationConfig([none, second, third])).toMatchObject({ method: 'awq', groupSize: 64 })
    expect(readQuantizationConfig([none, none, third])).toMatchObject({ method: 'compressed-tensors' })
    expect(readQuantizationConfig([none, source('config.json', null)])).toEqual({ method: 'none' })
  })

  it('names the place in errors', () => {
    expect(() => read({ bits: 3 }, 'quantize_config.json')).toThrow('/models/a/quantize_config.json: bits is 3')
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
      actOrder: true,
      zeroOffset: 1,
      dynamic: {},
    })
  })

  it('knows its synonyms, and null as not said', () => {
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
    [{ bits: 4, is_marlin_format: true }, 'checkpoint_format is "marlin"'],
    [{ bits: 4, checkpoint_format: 'bitblas' }, '"bitblas"; supported is gptq or gptq_v2'],
    [{ bits: 4, pack_dtype: 'int16' }, 'pack_dtype'],
    [{ bits: '4' }, 'bits is "4"'],
    [{ bits: 2 }, 'bits is 2; supported is 4 or 8'],
    [{}, 'bits is nothing'],
    [{ bits: 4, group_size: 0 }, 'group_size is 0'],
    [{ bits: 4, group_size: -128 }, 'group_size is -128'],
    [{ bits: 4, group_size: 1.5 }, 'group_size is 1.5'],
    [{ bits: 4, sym: 'yes' }, 'sym is "yes"'],
    [{ bits: 4, dynamic: [] }, 'dynamic is []'],
    [{ bits: 4, dynamic: { x: 1 } }, 'dynamic "x" is 1'],
  ])('is refused: %j', (config, part) => {
    expect(() => read({ quant_method: 'gptq', ...config })).toThrow(part)
  })
})

describe('AWQ config', () => {
  it('is read in both forms', () => {
    const expected = { method: 'awq', bits: 4, groupSize: 128, zeroPoint: true }
    expect(read({ quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'GEMM' })).toEqual(expected)
    expect(read({ w_bit: 4, q_group_size: 128, zero_point: true, version: 'GEMM' }, 'quant_config.json')).toEqual(
      expected,
    )
    expect(read({ w_bit: 4, q_group_size: 128 }, 'quant_config.json')).toEqual(expected)
  })

  it.each([
    [{ version: 'gemv' }, 'version is "gemv"; supported is gemm'],
    [{ version: 'marlin' }, 'marlin'],
    [{ bits: 8 }, 'bits is 8; supported is 4'],
  ])('is refused: %j', (config, part) => {
    expect(() => read({ quant_method: 'awq', bits: 4, ...config })).toThrow(part)
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
      groups: [{ targets: ['Linear'], bits: 4, groupSize: 128, symmetric: true, actOrder: false }],
      ignore: ['lm_head'],
    })
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
    [config({ format: 'float-quantized' }), 'format is "float-quantized"; supported is pack-quantized'],
    [config({}, { type: 'float' }), 'config_groups.group_0.weights: type is "float"'],
    [config({}, { num_bits: 3 }), 'bits is 3'],
    [config({}, { strategy: 'tensor' }), 'strategy is "tensor"'],
    [config({}, { strategy: null, group_size: null }), 'strategy is "tensor"'],
    [config({}, { strategy: 'group', group_size: null }), 'group_size is nothing'],
    [config({}, { actorder: 'random' }), 'actorder is "random"'],
    [config({ config_groups: { a: { weights, input_activations: { num_bits: 8 } } } }), 'input_activations'],
    [config({ config_groups: { a: 7 } }), 'config_groups.a is 7'],
    [config({ config_groups: { a: {} } }), 'bits is nothing'],
    [config({ ignore: 'lm_head' }), 'ignore is "lm_head"'],
    [config({ sparsity_config: { format: 'sparse-24' } }), 'sparse-24'],
    [config({ transform_config: { config_groups: { R1: {} } } }), 'transform_config'],
  ])('is refused: %j', (value, part) => {
    expect(() => read(value)).toThrow(part)
  })
})

it.each(['bitsandbytes', 'fp8', 'exl2', 'aqlm', '__proto__'])(
  'the method %s is refused with those that are read',
  (method) => {
    expect(() => read({ quant_method: method })).toThrow(
      `"${method}" is not supported; billfish reads gptq, awq and compressed-tensors`,
    )
  },
)
