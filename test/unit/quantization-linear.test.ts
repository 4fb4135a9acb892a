import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint'
import type { Checkpoint } from '../../src/checkpoint/types'
import { directoryOf, type StoredTensor, safetensors } from './support/checkpoints'

/** A checkpoint whose one layer `m` has these tensors, in the order given; null leaves one out. */
function layer(config: object | undefined, tensors: Record<string, StoredTensor | null>): Promise<Checkpoint> {
  const stored = Object.entries(tensors).flatMap(([name, tensor]) => (tensor === null ? [] : [[`m.${name}`, tensor]]))
  const files = { 'config.json': config === undefined ? {} : { quantization_config: config } }
  return openCheckpoint(directoryOf({ ...files, 'model.safetensors': safetensors(Object.fromEntries(stored)) }))
}

const I32 = (...shape: number[]): StoredTensor => ({ dtype: 'I32', shape })
const F16 = (...shape: number[]): StoredTensor => ({ dtype: 'F16', shape })

// 64 outputs, 256 inputs, groups of 64 unless said otherwise.
const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 64, desc_act: false, sym: true }
const gptqTensors = { qweight: I32(32, 64), qzeros: I32(4, 8), scales: F16(4, 64), g_idx: I32(256) }
const AWQ = { quant_method: 'awq', bits: 4, group_size: 64, zero_point: true, version: 'gemm' }
const awqTensors = { qweight: I32(256, 8), qzeros: I32(4, 8), scales: F16(4, 64) }
const scheme = (weights: object) => ({ targets: ['Linear'], weights: { num_bits: 4, symmetric: true, ...weights } })
const compressed = (...groups: object[]) => ({
  quant_method: 'compressed-tensors',
  config_groups: Object.fromEntries(groups.map((weights, i) => [`group_${i}`, scheme(weights)])),
})
const packedTensors = {
  weight_packed: I32(64, 32),
  weight_scale: F16(64, 4),
  weight_shape: { dtype: 'I64', shape: [2] },
}

describe('an unquantised linear', () => {
  it('is a matrix, with the bias that is there', async () => {
    const checkpoint = await layer(undefined, { weight: F16(64, 256), bias: F16(64) })
    expect(checkpoint.linear('m', 64, 256, 'optional')).toMatchObject({
      kind: 'matrix',
      out: 64,
      in: 256,
      bias: { name: 'm.bias' },
    })
    const without = await layer(undefined, { weight: { dtype: 'F32', shape: [64, 256] } })
    expect(without.linear('m', 64, 256, 'none').bias).toBeUndefined()
    expect(() => without.linear('m', 64, 256, 'required')).toThrow('"m.bias" is missing')
    expect(() => without.linear('m', 256, 64, 'none')).toThrow('the shape [256, 64]')
    expect(() => without.linear('n', 64, 256, 'none')).toThrow('"n.weight" is missing')
  })

  it('is refused with a bias of another shape or a weight of another type', async () => {
    const bias = await layer(undefined, { weight: F16(64, 256), bias: F16(65) })
    expect(() => bias.linear('m', 64, 256, 'optional')).toThrow('"m.bias" (F16 [65]')
    const fp8 = await layer(undefined, { weight: { dtype: 'U8', shape: [64, 256] } })
    expect(() => fp8.linear('m', 64, 256, 'optional')).toThrow('has type U8; F16 or BF16 or F32')
  })

  it('stays one although the config says that everything is quantised', async () => {
    const checkpoint = await layer(GPTQ, { weight: F16(64, 256) })
    expect(checkpoint.linear('m', 64, 256, 'none').kind).toBe('matrix')
  })
})

describe('a GPTQ linear', () => {
  it('is read without its zeros when symmetric', async () => {
    const checkpoint = await layer(GPTQ, gptqTensors)
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({
      kind: 'quantized',
      format: 'gptq',
      bits: 4,
      groupSize: 64,
      symmetric: true,
      zeroOffset: 1,
      codes: { name: 'm.qweight' },
      scales: { name: 'm.scales' },
      zeros: undefined,
      groupIndex: { name: 'm.g_idx' },
      bias: undefined,
    })
    const without = await layer(GPTQ, { ...gptqTensors, qzeros: null, g_idx: null })
    expect(without.linear('m', 64, 256, 'none')).toMatchObject({ zeros: undefined, groupIndex: undefined })
  })

  it('is read with its zeros when asymmetric', async () => {
    const v2 = { ...GPTQ, sym: false, checkpoint_format: 'gptq_v2' }
    const checkpoint = await layer(v2, gptqTensors)
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({
      symmetric: false,
      zeroOffset: 0,
      zeros: { name: 'm.qzeros' },
    })
    const without = await layer(v2, { ...gptqTensors, qzeros: null })
    expect(() => without.linear('m', 64, 256, 'none')).toThrow('"m.qzeros" is missing')
  })

  it('keeps a bias that the architecture does not have', async () => {
    const checkpoint = await layer(GPTQ, { ...gptqTensors, bias: F16(64) })
    expect(checkpoint.linear('m', 64, 256, 'none').bias?.name).toBe('m.bias')
  })

  it('is read channelwise, with 8 bits, and with a last group that is short', async () => {
    const channelwise = await layer(
      { ...GPTQ, group_size: -1 },
      { ...gptqTensors, qzeros: I32(1, 8), scales: F16(1, 64) },
    )
    expect(channelwise.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 256 })
    const eight = await layer({ ...GPTQ, bits: 8 }, { ...gptqTensors, qweight: I32(64, 64), qzeros: I32(4, 16) })
    expect(eight.linear('m', 64, 256, 'none')).toMatchObject({ bits: 8 })
    const short = await layer({ ...GPTQ, group_size: 96 }, { ...gptqTensors, qzeros: I32(3, 8), scales: F16(3, 64) })
    expect(short.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 96 })
  })

  it('gets the group size from the tensors where the config is silent', async () => {
    const silent = { quant_method: 'gptq', bits: 4, desc_act: false }
    expect((await layer(silent, gptqTensors)).linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 64 })
    const one = await layer(silent, { ...gptqTensors, qzeros: I32(1, 8), scales: F16(1, 64) })
    expect(one.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 256 })
    const three = await layer(silent, { ...gptqTensors, qzeros: I32(3, 8), scales: F16(3, 64) })
    expect(() => three.linear('m', 64, 256, 'none')).toThrow('256 inputs do not divide into 3 groups')
  })

  it.each([
    ['bits', { ...GPTQ, bits: 8 }, gptqTensors, '[64, 64] that a 8-bit GPTQ layer'],
    ['group size', { ...GPTQ, group_size: 128 }, gptqTensors, 'group_size 128, so 256 inputs make 2 groups, but'],
    ['channelwise', { ...GPTQ, group_size: -1 }, gptqTensors, 'group_size -1, so 256 inputs make 1 groups'],
    ['outputs', GPTQ, { ...gptqTensors, scales: F16(4, 32) }, '"m.scales" (F16 [4, 32]'],
    ['zeros', GPTQ, { ...gptqTensors, qzeros: I32(4, 16) }, '"m.qzeros" (I32 [4, 16]'],
    ['group index', GPTQ, { ...gptqTensors, g_idx: I32(255) }, '"m.g_idx" (I32 [255]'],
    ['type of the codes', GPTQ, { ...gptqTensors, qweight: { dtype: 'F32', shape: [32, 64] } }, 'has type F32; I32'],
    ['type of the scales', GPTQ, { ...gptqTensors, scales: { dtype: 'F64', shape: [4, 64] } }, 'has type F64; F16'],
    ['no scales', GPTQ, { ...gptqTensors, scales: null }, '"m.scales" is missing'],
    ['no group index', { ...GPTQ, desc_act: true }, { ...gptqTensors, g_idx: null }, '"desc_act": false'],
    ['no config', undefined, gptqTensors, 'there is no quantisation config'],
    ['config of another method', AWQ, gptqTensors, '"m.qweight" (I32 [32, 64]'],
    ['config of a third method', compressed({}), gptqTensors, 'strategy'],
  ])('is refused: %s', async (_, config, tensors, part) => {
    await expect(layer(config, tensors).then((checkpoint) => checkpoint.linear('m', 64, 256, 'none'))).rejects.toThrow(
      part,
    )
  })

  it('is refused with inputs that do not fill whole words', async () => {
    const checkpoint = await layer(GPTQ, gptqTensors)
    expect(() => checkpoint.linear('m', 64, 252, 'none')).toThrow('252 inputs; 4-bit GPTQ needs a multiple of 8')
  })
})

describe("GPTQModel's dynamic rules", () => {
  const eight = { ...gptqTensors, qweight: I32(64, 64), qzeros: I32(4, 16) }

  it('override fields for the modules whose name they match', async () => {
    const rules = { 'n.*': { bits: 4 }, '+:m$': { bits: 8, sym: false, group_size: 64 }, 'm.*': { bits: 4 } }
    const checkpoint = await layer({ ...GPTQ, group_size: 32, dynamic: rules }, eight)
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({ bits: 8, groupSize: 64, symmetric: false })
  })

  it('are refused when they contradict the tensors', async () => {
    const excluded = await layer({ ...GPTQ, dynamic: { '-:m': {} } }, gptqTensors)
    expect(() => excluded.linear('m', 64, 256, 'none')).toThrow('rule "-:m" leaves m unquantised, but m.qweight exists')
    const bad = await layer({ ...GPTQ, dynamic: { m: { bits: 3 } } }, gptqTensors)
    expect(() => bad.linear('m', 64, 256, 'none')).toThrow('rule "m": bits is 3')
    const pattern = await layer({ ...GPTQ, dynamic: { '(m': {} } }, gptqTensors)
    expect(() => pattern.linear('m', 64, 256, 'none')).toThrow('"(m" has an unmatched (')
  })
})

describe('an AWQ linear', () => {
  it('is read', async () => {
    const checkpoint = await layer(AWQ, awqTensors)
    const expected = {
      format: 'awq',
      bits: 4,
      groupSize: 64,
      symmetric: false,
      zeroOffset: 0,
      zeros: { name: 'm.qzeros' },
    }
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject(expected)
    const symmetric = await layer({ ...AWQ, zero_point: false }, { ...awqTensors, qzeros: null })
    expect(symmetric.linear('m', 64, 256, 'none')).toMatchObject({ symmetric: true, zeros: undefined })
  })

  it.each([
    ['group size', { ...AWQ, group_size: 128 }, awqTensors, 'make 2 groups'],
    ['GPTQ tensors', AWQ, gptqTensors, '[256, 8] that an AWQ layer'],
    ['no zeros', AWQ, { ...awqTensors, qzeros: null }, '"m.qzeros" is missing'],
    ['zeros against the config', { ...AWQ, zero_point: false }, awqTensors, 'zero_point false'],
  ])('is refused: %s', async (_, config, tensors, part) => {
    const checkpoint = await layer(config, tensors)
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(part)
  })

  it('is refused with outputs that do not fill whole words', async () => {
    const checkpoint = await layer(AWQ, awqTensors)
    expect(() => checkpoint.linear('m', 60, 256, 'none')).toThrow('60 outputs; AWQ needs a multiple of 8')
  })
})

describe('a compressed-tensors linear', () => {
  const grouped = { strategy: 'group', group_size: 64 }

  it('is read', async () => {
    const checkpoint = await layer(compressed(grouped), packedTensors)
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({
      format: 'compressed-tensors',
      bits: 4,
      groupSize: 64,
      symmetric: true,
      zeroOffset: 0,
      codes: { name: 'm.weight_packed' },
      scales: { name: 'm.weight_scale' },
      storedShape: { name: 'm.weight_shape' },
      zeros: undefined,
      groupIndex: undefined,
    })
  })

  it('is read with zeros and with activation order', async () => {
    const tensors = { ...packedTensors, weight_zero_point: I32(8, 4), weight_g_idx: I32(256) }
    const checkpoint = await layer(compressed({ ...grouped, symmetric: false, actorder: 'group' }), tensors)
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({
      symmetric: false,
      zeros: { name: 'm.weight_zero_point' },
      groupIndex: { name: 'm.weight_g_idx' },
    })
  })

  it('takes the config group that its tensors belong to', async () => {
    const config = compressed(grouped, { num_bits: 8, strategy: 'channel' })
    const eight = { ...packedTensors, weight_packed: I32(64, 64), weight_scale: F16(64, 1) }
    expect((await layer(config, eight)).linear('m', 64, 256, 'none')).toMatchObject({ bits: 8, groupSize: 256 })
    expect((await layer(config, packedTensors)).linear('m', 64, 256, 'none')).toMatchObject({ bits: 4, groupSize: 64 })
  })

  it('may end within a word', async () => {
    const tensors = { ...packedTensors, weight_packed: I32(64, 33), weight_scale: F16(64, 5) }
    expect((await layer(compressed(grouped), tensors)).linear('m', 64, 257, 'none')).toMatchObject({ bits: 4 })
  })

  it.each([
    [
      'bits',
      compressed({ ...grouped, num_bits: 8 }),
      packedTensors,
      'stored with 4 bits, 4 groups for 256 inputs, symmetric, but the quantisation config says 8 bits',
    ],
    ['group size', compressed({ ...grouped, group_size: 32 }), packedTensors, 'group_size 32'],
    ['symmetry', compressed({ ...grouped, symmetric: false }), packedTensors, 'asymmetric'],
    [
      'packed width',
      compressed(grouped),
      { ...packedTensors, weight_packed: I32(64, 31) },
      '31 words a row, but 256 inputs take 32 with 4 bits or 64 with 8',
    ],
    [
      'zeros',
      compressed({ ...grouped, symmetric: false }),
      { ...packedTensors, weight_zero_point: I32(64, 4) },
      '"m.weight_zero_point"',
    ],
    ['no group index', compressed({ ...grouped, actorder: 'group' }), packedTensors, '"m.weight_g_idx" is missing'],
    ['shape tensor', compressed(grouped), { ...packedTensors, weight_shape: I32(3) }, '"m.weight_shape" (I32 [3]'],
    ['no groups', { quant_method: 'compressed-tensors' }, packedTensors, 'the quantisation config says nothing'],
  ])('is refused: %s', async (_, config, tensors, part) => {
    const checkpoint = await layer(config, tensors as Record<string, StoredTensor>)
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(part)
  })
})
