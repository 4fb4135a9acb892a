import { describe, expect, test } from 'vitest'
import { configSource } from '../../../src/placement/config-source'
import { readQuantizationConfig } from '../../../src/quantization/config'

/** The specs of a [256, 512] linear (out, in) that a config gives the modules. */
function linears(quantization_config: object, ...modules: string[]) {
  const sources = [{ where: 'test', name: 'config.json', value: quantization_config }]
  const source = configSource({ torch_dtype: 'bfloat16' }, readQuantizationConfig(sources))
  return modules.map((module) => {
    const spec = source.linear(module, 256, 512, 'none')
    return spec.kind === 'quantized' ? `${spec.format} ${spec.bits} ${spec.groupSize}` : spec.kind
  })
}

const [q, gate, outside] = ['model.layers.3.self_attn.q_proj', 'model.layers.3.mlp.gate_proj', 'lm_head']

describe('which linears a config quantizes', () => {
  test('those of the decoder layers', () => {
    const gptq = { quant_method: 'gptq', bits: 4, group_size: 64 }
    expect(linears(gptq, q, gate, outside)).toEqual(['gptq 4 64', 'gptq 4 64', 'matrix'])
    const awq = { quant_method: 'awq', bits: 4, group_size: -1 }
    expect(linears(awq, q, outside)).toEqual(['awq 4 512', 'matrix'])
    expect(linears({ ...awq, version: 'gemv' }, q, outside)).toEqual(['awq-gemv 4 512', 'matrix'])
  })

  test("GPTQModel's dynamic rules override fields, or leave modules out", () => {
    const dynamic = { '-:.*gate_proj': {}, '+:.*q_proj': { bits: 8, group_size: 32 } }
    const config = { quant_method: 'gptq', bits: 4, group_size: 128, dynamic }
    expect(linears(config, q, gate, 'model.layers.0.mlp.up_proj')).toEqual(['gptq 8 32', 'matrix', 'gptq 4 128'])
  })

  test("compressed-tensors' targets and ignored modules, by class, name or pattern", () => {
    const group = (targets: string[], num_bits: number) => ({ targets, weights: { num_bits, strategy: 'channel' } })
    const config = {
      quant_method: 'compressed-tensors',
      format: 'pack-quantized',
      config_groups: { attention: group(['re:.*self_attn'], 8), rest: group(['Linear'], 4) },
      ignore: ['lm_head', 're:.*layers.7\\.', gate],
    }
    const modules = [q, gate, 'model.layers.3.mlp.up_proj', 'model.layers.7.mlp.up_proj', outside]
    expect(linears(config, ...modules)).toEqual([
      'compressed-tensors 8 512',
      'matrix',
      'compressed-tensors 4 512',
      'matrix',
      'matrix',
    ])
    const named = { ...config, config_groups: { one: group([q], 4) } }
    expect(linears(named, q, 'model.layers.3.self_attn.k_proj')).toEqual(['compressed-tensors 4 512', 'matrix'])
    const fp8 = {
      targets: ['Linear'],
      weights: { num_bits: 8, type: 'float', strategy: 'block', block_structure: [64, 128] },
    }
    const mixed = {
      ...config,
      format: 'mixed-precision',
      ignore: [],
      config_groups: { a: { ...fp8, format: 'float-quantized' } },
    }
    expect(linears(mixed, q)).toEqual(['fp8 8 128'])
    const bytes = { ...config, format: 'int-quantized', ignore: [] }
    expect(linears(bytes, q, gate)).toEqual(['compressed-tensors 8 512', 'compressed-tensors 4 512'])
  })

  test('FP8 leaves out the modules that the config lists', () => {
    const config = { quant_method: 'fp8', weight_block_size: [128, 128], modules_to_not_convert: ['lm_head', gate] }
    expect(linears(config, q, gate, outside)).toEqual(['fp8 8 128', 'matrix', 'matrix'])
    expect(linears({ ...config, modules_to_not_convert: ['model.layers.3.self_attn'] }, q, gate)).toEqual([
      'matrix',
      'fp8 8 128',
    ])
    expect(linears({ quant_method: 'fp8', ignored_layers: ['q_proj'] }, q, gate)).toEqual(['matrix', 'fp8 8 512'])
    const sides = (weight_block_size: unknown) => () => linears({ quant_method: 'fp8', weight_block_size }, q)
    expect(sides([128])).toThrow(/weight_block_size is .*expected two positive numbers/)
    expect(sides([128, 0])).toThrow(/weight_block_size/)
    expect(() => linears({ quant_method: 'fp8', ignored_layers: [7] }, q)).toThrow(/a list of module names/)
  })
})
