import { describe, expect, it } from 'vitest'
import type { Checkpoint } from '../../../src/checkpoint/types'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { safetensors, type TensorContents, words } from '../../support/tensors'

/** A checkpoint whose one layer `m` has these tensors, in the order given; null leaves one out. */
function layer(config: object | undefined, tensors: Record<string, TensorContents | null>): Promise<Checkpoint> {
  const stored = Object.entries(tensors).flatMap(([name, tensor]) => (tensor === null ? [] : [[`m.${name}`, tensor]]))
  const files = { 'config.json': config === undefined ? {} : { quantization_config: config } }
  return openCheckpoint(directoryOf({ ...files, 'model.safetensors': safetensors(Object.fromEntries(stored)) }))
}

const I32 = (...shape: number[]): TensorContents => ({ dtype: 'I32', shape })
const F16 = (...shape: number[]): TensorContents => ({ dtype: 'F16', shape })
const I8 = (...shape: number[]): TensorContents => ({ dtype: 'I8', shape })

// 64 outputs, 256 inputs, groups of 64 unless said otherwise.
const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 64, desc_act: false, sym: true }
const sevens = (...shape: number[]) => words(shape, () => 0x77777777)
const middle8 = (...shape: number[]) => words(shape, () => 0x7f7f7f7f)
const naturalOrder = (groupSize: number) => words([256], (i) => Math.floor(i / groupSize))
const gptqTensors = { qweight: I32(32, 64), qzeros: sevens(4, 8), scales: F16(4, 64), g_idx: naturalOrder(64) }
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

describe('an unquantized linear', () => {
  it('is a matrix, with the bias that is stored', async () => {
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
    const wide = await layer(undefined, { weight: { dtype: 'F64', shape: [64, 256] } })
    expect(() => wide.linear('m', 64, 256, 'optional')).toThrow('has type F64; expected F16 or BF16 or F32')
  })

  it('stays unquantized although the config says that everything is quantized', async () => {
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

  it('is refused without its zeros when the config says that they differ', async () => {
    const without = await layer({ ...GPTQ, sym: false }, { ...gptqTensors, qzeros: null })
    expect(() => without.linear('m', 64, 256, 'none')).toThrow('"m.qzeros" is missing')
  })

  it('keeps a bias that the architecture does not have', async () => {
    const checkpoint = await layer(GPTQ, { ...gptqTensors, bias: F16(64) })
    expect(checkpoint.linear('m', 64, 256, 'none').bias?.name).toBe('m.bias')
  })

  it('is read channelwise, with 8 bits, and with a last group that is short', async () => {
    const channelwise = await layer(
      { ...GPTQ, group_size: -1 },
      { ...gptqTensors, qzeros: sevens(1, 8), scales: F16(1, 64), g_idx: I32(256) },
    )
    expect(channelwise.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 256, actOrder: false })
    const eight = await layer({ ...GPTQ, bits: 8 }, { ...gptqTensors, qweight: I32(64, 64), qzeros: middle8(4, 16) })
    expect(eight.linear('m', 64, 256, 'none')).toMatchObject({ bits: 8, symmetric: true })
    const short = await layer(
      { ...GPTQ, group_size: 96 },
      { ...gptqTensors, qzeros: sevens(3, 8), scales: F16(3, 64), g_idx: naturalOrder(96) },
    )
    expect(short.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 96, actOrder: false })
  })

  describe.each([true, false, undefined])('whose config says sym %s', (sym) => {
    describe.each([['gptq', 1] as const, ['gptq_v2', 0] as const])('and %s', (checkpoint_format, offset) => {
      const config = { ...GPTQ, sym, checkpoint_format }
      const spec = async (tensors: object, bits: 4 | 8 = 4) =>
        (await layer(config, { ...gptqTensors, ...(bits === 8 && { qweight: I32(64, 64) }), ...tensors })).linear(
          'm',
          64,
          256,
          'none',
        )

      it.each([
        [4, 7, 1],
        [4, 8, 0],
        [8, 127, 1],
        [8, 128, 0],
      ] as const)('is symmetric with %i bits where all stored zeros are %i', async (bits, code, zeroOffset) => {
        const word = code * (bits === 4 ? 0x11111111 : 0x01010101)
        const qzeros = words([4, bits * 2], () => word)
        expect(await spec({ qzeros }, bits)).toMatchObject({ bits, symmetric: true, zeroOffset, zeros: undefined })
      })

      it.each([
        ['one of them is another', 4, (i: number) => (i === 31 ? 0x77767777 : 0x77777777)],
        ['some are 7 and some 8', 4, (i: number) => (i < 16 ? 0x77777777 : 0x88888888)],
        ['all are 6', 4, () => 0x66666666],
        ['they are those of the other bits', 8, () => 0x77777777],
      ] as const)('is read as it is stored where %s', async (_, bits, word) => {
        const qzeros = words([4, bits * 2], word)
        const expected = { symmetric: false, zeroOffset: offset, zeros: { name: 'm.qzeros' } }
        expect(await spec({ qzeros }, bits)).toMatchObject(expected)
      })
    })
  })

  it('may have codes in the last word of its zeros that belong to no output', async () => {
    const zeros = (last: number) => ({
      qweight: I32(32, 60),
      qzeros: words([4, 8], (i) => (i % 8 === 7 ? last : 0x77777777)),
      scales: F16(4, 60),
    })
    for (const [last, symmetric] of [
      [0x00007777, true],
      [0x88887777, true],
      [0x88886777, false],
    ] as const) {
      const checkpoint = await layer(GPTQ, { ...gptqTensors, ...zeros(last) })
      expect(checkpoint.linear('m', 60, 256, 'none')).toMatchObject({ symmetric })
    }
  })

  it('has the order that its group index holds, whatever desc_act says', async () => {
    const shuffled = words([256], (i) => (i + 1) % 4)
    for (const desc_act of [true, false, undefined]) {
      const spec = async (g_idx: TensorContents) =>
        (await layer({ ...GPTQ, desc_act }, { ...gptqTensors, g_idx })).linear('m', 64, 256, 'none')
      expect(await spec(naturalOrder(64))).toMatchObject({ actOrder: false })
      expect(await spec(I32(256))).toMatchObject({ actOrder: false })
      expect(await spec(shuffled)).toMatchObject({ actOrder: true })
    }
    const silent = await layer({ ...GPTQ, desc_act: undefined }, { ...gptqTensors, g_idx: null })
    expect(silent.linear('m', 64, 256, 'none')).toMatchObject({ actOrder: false })
  })

  it('has the bits and the group size that its tensors have, whatever the config says', async () => {
    const eight = { ...gptqTensors, qweight: I32(64, 64), qzeros: middle8(4, 16) }
    expect((await layer(GPTQ, eight)).linear('m', 64, 256, 'none')).toMatchObject({ bits: 8 })
    expect((await layer({ ...GPTQ, bits: 8 }, gptqTensors)).linear('m', 64, 256, 'none')).toMatchObject({ bits: 4 })
    for (const group_size of [128, 32, -1, undefined]) {
      const checkpoint = await layer({ ...GPTQ, group_size, bits: undefined }, { ...gptqTensors, g_idx: null })
      expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({ bits: 4, groupSize: 64 })
    }
    // 192 inputs in 2 groups: 128 and 64, or twice 96. The group index knows.
    const two = { qweight: I32(24, 64), qzeros: sevens(2, 8), scales: F16(2, 64) }
    const sizes = async (g_idx: TensorContents | null) =>
      (await layer({ ...GPTQ, group_size: 128 }, { ...two, g_idx })).linear('m', 64, 192, 'none')
    expect(await sizes(null)).toMatchObject({ groupSize: 128 })
    expect(await sizes(words([192], (i) => Math.floor(i / 96)))).toMatchObject({ groupSize: 96 })
  })

  it.each([
    ['3 bits', { qweight: I32(24, 64) }, 'GPTQ with 3 bits'],
    ['tiles for Marlin', { qweight: I32(16, 128) }, 'GPTQ packed for Marlin'],
    ['words of another type', { qweight: { dtype: 'I16', shape: [64, 64] } }, 'GPTQ packed into int16'],
  ])('cannot be run with %s', async (_, tensors, format) => {
    const checkpoint = await layer(GPTQ, { ...gptqTensors, ...(tensors as Record<string, TensorContents>) })
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining(format) }),
    )
  })

  it('gets the group size from the tensors if the config has none', async () => {
    const silent = { quant_method: 'gptq', bits: 4, desc_act: false }
    expect((await layer(silent, gptqTensors)).linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 64 })
    const one = await layer(silent, { ...gptqTensors, qzeros: I32(1, 8), scales: F16(1, 64) })
    expect(one.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 256 })
    const three = await layer(silent, { ...gptqTensors, qzeros: I32(3, 8), scales: F16(3, 64), g_idx: null })
    expect(() => three.linear('m', 64, 256, 'none')).toThrow('256 inputs do not divide into 3 groups')
  })

  it.each([
    [
      'codes of another shape',
      GPTQ,
      { ...gptqTensors, qweight: I32(33, 64) },
      'the shape [32, 64] (4 bits) or [64, 64] (8 bits)',
    ],
    [
      'group size that is nowhere',
      { ...GPTQ, group_size: 128 },
      { ...gptqTensors, scales: F16(3, 64), g_idx: null },
      'the quantization config says group_size 128',
    ],
    ['outputs', GPTQ, { ...gptqTensors, scales: F16(4, 32) }, '"m.scales" (F16 [4, 32]'],
    ['zeros', GPTQ, { ...gptqTensors, qzeros: I32(4, 16) }, '"m.qzeros" (I32 [4, 16]'],
    ['group index', GPTQ, { ...gptqTensors, g_idx: I32(255) }, '"m.g_idx" (I32 [255]'],
    [
      'type of the codes',
      GPTQ,
      { ...gptqTensors, qweight: { dtype: 'F32', shape: [32, 64] } },
      'has type F32; expected I32',
    ],
    [
      'type of the scales',
      GPTQ,
      { ...gptqTensors, scales: { dtype: 'F64', shape: [4, 64] } },
      'has type F64; expected F16',
    ],
    ['no scales', GPTQ, { ...gptqTensors, scales: null }, '"m.scales" is missing'],
    ['no group index', { ...GPTQ, desc_act: true }, { ...gptqTensors, g_idx: null }, '"desc_act": false'],
    ['no config', undefined, { ...gptqTensors, scales: F16(4, 32) }, 'there is no quantization config'],
    ['config of another method', AWQ, { ...gptqTensors, scales: F16(4, 32) }, '"m.qweight" (I32 [32, 64]'],
    ['config of a third method', compressed({ strategy: 'token' }), gptqTensors, 'strategy'],
  ])('is refused: %s', async (_, config, tensors, part) => {
    await expect(layer(config, tensors).then((checkpoint) => checkpoint.linear('m', 64, 256, 'none'))).rejects.toThrow(
      part,
    )
  })

  it('is refused with inputs that do not fill whole words', async () => {
    const checkpoint = await layer(GPTQ, gptqTensors)
    expect(() => checkpoint.linear('m', 64, 252, 'none')).toThrow('a GPTQ layer with 64 outputs and 252 inputs')
  })
})

describe("GPTQModel's dynamic rules", () => {
  it('override fields for the modules whose name they match', async () => {
    const rules = { 'n.*': { group_size: 32 }, '+:m$': { bits: 8, sym: false, group_size: 96 }, 'm.*': { bits: 4 } }
    // 192 inputs in 2 groups could be 96 or 128 inputs each, and without zeros sym alone says where they are.
    const two = { qweight: I32(24, 64), qzeros: sevens(2, 8), scales: F16(2, 64) }
    const checkpoint = await layer({ ...GPTQ, group_size: 128, dynamic: rules }, two)
    expect(checkpoint.linear('m', 64, 192, 'none')).toMatchObject({ groupSize: 96, bits: 4 })
    const without = await layer({ ...GPTQ, dynamic: rules }, { ...two, qzeros: null })
    expect(() => without.linear('m', 64, 192, 'none')).toThrow('"m.qzeros" is missing')
  })

  it('are followed by what is stored when they contradict it', async () => {
    const excluded = await layer({ ...GPTQ, dynamic: { '-:m': {} } }, gptqTensors)
    expect(excluded.linear('m', 64, 256, 'none')).toMatchObject({ kind: 'quantized', bits: 4 })
    const bits = await layer({ ...GPTQ, dynamic: { m: { bits: 3 } } }, gptqTensors)
    expect(bits.linear('m', 64, 256, 'none')).toMatchObject({ bits: 4 })
  })

  it('are refused if they are invalid patterns or take forever', async () => {
    const pattern = await layer({ ...GPTQ, dynamic: { '(m': {} } }, gptqTensors)
    expect(() => pattern.linear('m', 64, 256, 'none')).toThrow('rule "(m": the pattern "(m" has an unmatched (')
    const name = 'a'.repeat(100)
    const evil = await openCheckpoint(
      directoryOf({
        'config.json': { quantization_config: { ...GPTQ, dynamic: { '(a+)+(?=$)b': {} } } },
        'model.safetensors': safetensors({ [`${name}.qweight`]: I32(32, 64) }),
      }),
    )
    const start = performance.now()
    expect(() => evil.linear(name, 64, 256, 'none')).toThrow('takes longer than 300 ms')
    expect(performance.now() - start).toBeLessThan(2000)
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
    ['no zeros', AWQ, { ...awqTensors, qzeros: null }, '"m.qzeros" is missing'],
    ['empty zeros', { ...AWQ, zero_point: false }, awqTensors, 'holds only zeros'],
    ["GEMV's codes alone", AWQ, { ...awqTensors, qweight: I32(64, 32) }, '[64, 32]'],
    ['GEMV_FAST', AWQ, { ...awqTensors, qweight: { dtype: 'I16', shape: [16, 256] } }, 'AWQ GEMV_FAST'],
    ['Marlin', AWQ, { ...awqTensors, qweight: I32(16, 128) }, 'AWQ packed for Marlin'],
    ['8 bits', AWQ, { ...awqTensors, qweight: I32(256, 16) }, 'AWQ with 8 bits'],
  ])('is refused: %s', async (_, config, tensors, part) => {
    const checkpoint = await layer(config, tensors as Record<string, TensorContents>)
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(part)
  })

  it('has the zeros and the group size that are stored, whatever the config says', async () => {
    const qzeros = words([4, 8], (i) => i)
    const checkpoint = await layer({ ...AWQ, zero_point: false, group_size: 128 }, { ...awqTensors, qzeros })
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({
      groupSize: 64,
      symmetric: false,
      zeros: { name: 'm.qzeros' },
    })
  })

  it('is refused with outputs that do not fill whole words', async () => {
    const checkpoint = await layer(AWQ, awqTensors)
    expect(() => checkpoint.linear('m', 60, 256, 'none')).toThrow('60 outputs; AWQ needs a multiple of 8')
  })
})

describe('an AWQ GEMV linear', () => {
  const GEMV = { ...AWQ, version: 'gemv' }
  // 256 inputs are 4 groups of 64. Their zero points take one word, which AutoAWQ rounds up to two.
  const tensors = { qweight: I32(64, 32), qzeros: I32(64, 2), scales: F16(64, 16) }
  const expected = { format: 'awq-gemv', bits: 4, groupSize: 64, symmetric: false, zeros: { name: 'm.qzeros' } }

  it('is recognized by its tensors, whatever the config calls it', async () => {
    for (const config of [GEMV, AWQ, GPTQ]) {
      expect((await layer(config, tensors)).linear('m', 64, 256, 'none')).toMatchObject(expected)
    }
    const square = { qweight: I32(256, 32), qzeros: I32(256, 2), scales: F16(256, 16) }
    expect((await layer(AWQ, square)).linear('m', 256, 256, 'none')).toMatchObject(expected)
    expect((await layer(GEMV, awqTensors)).linear('m', 64, 256, 'none')).toMatchObject({ format: 'awq' })
  })

  it.each([
    [32, 4],
    [64, 2],
    [128, 1],
    [-1, 1],
  ])('has zero points of groups of %i in %i words', async (group_size, width) => {
    const stored = { qweight: I32(64, 32), qzeros: I32(64, width), scales: F16(64, 8 * width) }
    const checkpoint = await layer({ ...GEMV, group_size }, stored)
    expect(checkpoint.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: group_size === -1 ? 256 : group_size })
  })

  it('of the shapes that GPTQ in groups of 8 would have is what the config says', async () => {
    const stored = { qweight: I32(64, 32), qzeros: I32(64, 4), scales: F16(64, 32) }
    const gemv = await layer({ ...GEMV, group_size: 32 }, stored)
    expect(gemv.linear('m', 64, 256, 'none')).toMatchObject({ format: 'awq-gemv', groupSize: 32 })
    const gptq = await layer({ ...GPTQ, group_size: 8 }, stored)
    expect(gptq.linear('m', 32, 512, 'none')).toMatchObject({ format: 'gptq', groupSize: 8 })
  })

  it.each([
    ['another group size', { group_size: 32 }, {}, 'the shape [64, 32]'],
    ['no group size, and none that is the default', { group_size: undefined }, {}, 'groups of 128'],
    ['zeros of another width', {}, { qzeros: I32(64, 3) }, '"m.qweight" (I32 [64, 32]'],
    ['no zeros', {}, { qzeros: null }, '"m.qzeros" is missing'],
    ['codes of another width', {}, { qweight: I32(64, 33) }, 'the shape [64, 32]'],
    ['zeros of nothing but 0, and zero_point false', { zero_point: false }, {}, 'holds only zeros'],
  ])('is refused: %s', async (_, config, changed, part) => {
    const checkpoint = await layer(
      { ...GEMV, ...config },
      { ...tensors, ...(changed as Record<string, TensorContents>) },
    )
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(part)
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

  it('is what its tensors are, whatever the config says', async () => {
    const eight = { ...packedTensors, weight_packed: I32(64, 64) }
    expect((await layer(compressed(grouped), eight)).linear('m', 64, 256, 'none')).toMatchObject({ bits: 8 })
    const zeros = { ...packedTensors, weight_zero_point: I32(8, 4) }
    expect((await layer(compressed(grouped), zeros)).linear('m', 64, 256, 'none')).toMatchObject({ symmetric: false })
    const other = await layer(compressed({ ...grouped, group_size: 32 }), packedTensors)
    expect(other.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 64 })
    const one = await layer(compressed(grouped), { ...packedTensors, weight_scale: F16(64, 1) })
    expect(one.linear('m', 64, 256, 'none')).toMatchObject({ groupSize: 256 })
    const none = await layer({ quant_method: 'compressed-tensors' }, packedTensors)
    expect(none.linear('m', 64, 256, 'none')).toMatchObject({ bits: 4, groupSize: 64, symmetric: true })
    for (const actorder of ['group', 'weight', null]) {
      const spec = async (weight_g_idx: TensorContents) =>
        (await layer(compressed({ ...grouped, actorder }), { ...packedTensors, weight_g_idx })).linear(
          'm',
          64,
          256,
          'none',
        )
      expect(await spec(words([256], (i) => i % 4))).toMatchObject({ actOrder: true })
      expect(await spec(naturalOrder(64))).toMatchObject({ actOrder: false })
    }
  })

  it('has one number a byte, of the bits that the config says or of 8', async () => {
    const tensors = { weight: I8(64, 256), weight_scale: F16(64, 4), weight_zero_point: I8(64, 4) }
    const read = async (config: object | undefined) => (await layer(config, tensors)).linear('m', 64, 256, 'none')
    const common = { format: 'compressed-tensors', groupSize: 64, symmetric: false, codes: { name: 'm.weight' } }
    const unpacked = { ...compressed({ ...grouped, num_bits: 4 }), format: 'int-quantized' }
    expect(await read(unpacked)).toMatchObject({ ...common, bits: 4 })
    expect(await read(compressed({ ...grouped, num_bits: 8 }))).toMatchObject({ ...common, bits: 8 })
    for (const config of [undefined, GPTQ]) expect(await read(config)).toMatchObject({ ...common, bits: 8 })
  })

  it('may have packed codes and one zero point a byte, as older versions wrote them', async () => {
    const tensors = { ...packedTensors, weight_zero_point: I8(64, 4) }
    const spec = (await layer(compressed({ ...grouped, symmetric: false }), tensors)).linear('m', 64, 256, 'none')
    expect(spec).toMatchObject({ bits: 4, symmetric: false, zeros: { dtype: 'I8' } })
  })

  it.each([[[]], [[1]], [[1, 1]]])('has one scale of the shape %j for all weights', async (shape) => {
    const read = async (config: object | undefined, tensors: Record<string, TensorContents>) =>
      (await layer(config, tensors)).linear('m', 64, 256, 'none')
    const config = { ...compressed({ strategy: 'tensor', num_bits: 8 }), format: 'int-quantized' }
    const numbers = { weight: I8(64, 256), weight_scale: F16(...shape) }
    const common = { format: 'compressed-tensors', groupSize: 256, scaleRows: 64, scales: { shape: [1, 1] } }
    for (const stated of [config, undefined, GPTQ]) {
      expect(await read(stated, numbers)).toMatchObject({ ...common, bits: 8, symmetric: true, codes: { dtype: 'I8' } })
    }
    const shifted = await read(config, { ...numbers, weight_zero_point: I8(...shape) })
    expect(shifted).toMatchObject({ ...common, bits: 8, symmetric: false, zeros: { shape: [1, 1] } })
    const packed = { ...packedTensors, weight_scale: F16(...shape) } as Record<string, TensorContents>
    expect(await read(compressed({ strategy: 'tensor' }), packed)).toMatchObject({
      ...common,
      bits: 4,
      codes: { dtype: 'I32' },
    })
    await expect(read(config, { ...numbers, weight_zero_point: I8(64, 1) })).rejects.toThrow(
      '"m.weight_zero_point" (I8 [64, 1] in model.safetensors) does not have the shape [1, 1]',
    )
  })

  it('may end within a word', async () => {
    const tensors = { ...packedTensors, weight_packed: I32(64, 33), weight_scale: F16(64, 5) }
    expect((await layer(compressed(grouped), tensors)).linear('m', 64, 257, 'none')).toMatchObject({ bits: 4 })
  })

  it.each([
    ['3 bits', compressed(grouped), { ...packedTensors, weight_packed: I32(64, 24) }, 'pack-quantized with 3 bits'],
    ['symmetry', compressed({ ...grouped, symmetric: false }), packedTensors, '"m.weight_zero_point" is missing'],
    [
      'packed width',
      compressed(grouped),
      { ...packedTensors, weight_packed: I32(64, 31) },
      '31 words per row, but 256 inputs take 32 with 4 bits or 64 with 8',
    ],
    [
      'zeros',
      compressed({ ...grouped, symmetric: false }),
      { ...packedTensors, weight_zero_point: I32(64, 4) },
      '"m.weight_zero_point"',
    ],
    ['no group index', compressed({ ...grouped, actorder: 'group' }), packedTensors, '"m.weight_g_idx" is missing'],
    ['numbers of another shape', compressed(grouped), { weight: I8(64, 128), weight_scale: F16(64, 4) }, '"m.weight"'],
    [
      'packed zeros for numbers',
      compressed(grouped),
      { weight: I8(64, 256), weight_scale: F16(64, 4), weight_zero_point: I32(8, 4) },
      '"m.weight_zero_point"',
    ],
    ['shape tensor', compressed(grouped), { ...packedTensors, weight_shape: I32(3) }, '"m.weight_shape" (I32 [3]'],
  ])('is refused: %s', async (_, config, tensors, part) => {
    const checkpoint = await layer(config, tensors as Record<string, TensorContents>)
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(part)
  })
})

describe('an FP8 linear', () => {
  const F8 = (...shape: number[]): TensorContents => ({ dtype: 'F8_E4M3', shape })
  const weight = F8(200, 320)
  const FP8 = { quant_method: 'fp8', weight_block_size: [128, 128] }
  const float = (weights: object) => ({
    ...compressed({ num_bits: 8, type: 'float', ...weights }),
    format: 'float-quantized',
  })
  const read = async (config: object | undefined, tensors: Record<string, TensorContents>) =>
    (await layer(config, tensors)).linear('m', 200, 320, 'none')
  const blocks = { format: 'fp8', bits: 8, groupSize: 128, scaleRows: 128, symmetric: true, zeroOffset: 0 }

  it('has a scale for every block of weights, fewer at the edges', async () => {
    const spec = { ...blocks, codes: { name: 'm.weight' }, scales: { name: 'm.weight_scale_inv', shape: [2, 3] } }
    expect(await read(FP8, { weight, weight_scale_inv: F16(2, 3) })).toMatchObject(spec)
    for (const config of [
      undefined,
      GPTQ,
      { quant_method: 'fp8' },
      compressed({ strategy: 'group', group_size: 64 }),
    ]) {
      expect(await read(config, { weight, weight_scale_inv: F16(2, 3) })).toMatchObject(spec)
    }
    const wide = { ...FP8, weight_block_size: [64, 512] }
    const own = { scaleRows: 64, groupSize: 320, scales: { shape: [4, 1] } }
    expect(await read(wide, { weight, weight_scale_inv: F16(4, 1) })).toMatchObject(own)
  })

  it('has those of blocks, channels or groups, or one for all, in compressed-tensors', async () => {
    const block = float({ strategy: 'block', block_structure: [64, 128] })
    expect(await read(block, { weight, weight_scale: F16(4, 3) })).toMatchObject({ ...blocks, scaleRows: 64 })
    const channels = { ...blocks, scaleRows: 1, groupSize: 320, scales: { shape: [200, 1] } }
    for (const scales of [F16(200, 1), F16(200)]) {
      expect(await read(float({ strategy: 'channel' }), { weight, weight_scale: scales })).toMatchObject(channels)
    }
    const otherwise = await read(float({ strategy: 'tensor' }), { weight, weight_scale: F16(2, 3) })
    expect(otherwise).toMatchObject(blocks)
    const groups = float({ strategy: 'group', group_size: 64 })
    const ofGroups = { ...blocks, scaleRows: 1, groupSize: 64 }
    expect(await read(groups, { weight, weight_scale: F16(200, 5) })).toMatchObject(ofGroups)
    const one = { ...blocks, scaleRows: 200, groupSize: 320, scales: { shape: [1, 1] } }
    for (const scales of [F16(), F16(1), F16(1, 1)]) {
      expect(await read(float({ strategy: 'tensor' }), { weight, weight_scale: scales })).toMatchObject(one)
      expect(await read({ quant_method: 'fp8' }, { weight, weight_scale: scales })).toMatchObject(one)
    }
  })

  it('is what its tensors are, beside scales that are not read', async () => {
    const others = { input_scale: F16(1), k_scale: F16(1) }
    const spec = await read(float({ strategy: 'block', block_structure: [128, 128] }), {
      weight,
      weight_scale: F16(200, 1),
      ...others,
    })
    expect(spec).toMatchObject({ scaleRows: 1, groupSize: 320 })
    const checkpoint = await layer({ ...FP8, activation_scheme: 'static' }, { weight, weight_scale_inv: F16(2, 3) })
    expect(checkpoint.notices).toEqual([
      expect.stringMatching(/activation_scheme quantizes activations; billfish leaves/),
    ])
    expect((await layer(undefined, { weight, weight_scale_inv: F16(2, 3) })).notices).toEqual([
      expect.stringMatching(/there is no quantization config, but tensors are stored in FP8 layout/),
    ])
  })

  it.each([
    [
      'scales of other blocks',
      { weight, weight_scale_inv: F16(4, 5) },
      /\[2, 3\] of blocks of 128 x 128, \[200, 1\] of outputs, or \[1\]; correct weight_block_size/,
    ],
    ['scales of three dimensions', { weight, weight_scale_inv: F16(2, 3, 1) }, /does not have the scales/],
    ['no scales of this type', { weight, weight_scale_inv: I32(2, 3) }, /FP8/],
    [
      'another shape',
      { weight: F8(320, 200), weight_scale_inv: F16(2, 3) },
      /the shape \[200, 320\] required by an FP8 layer/,
    ],
  ])('is refused: %s', async (_, tensors, message) => {
    await expect(read(FP8, tensors as Record<string, TensorContents>)).rejects.toThrow(message)
  })
})

describe('tensors of a format that cannot be run', () => {
  const F8 = (...shape: number[]): TensorContents => ({ dtype: 'F8_E4M3', shape })
  const U8 = (...shape: number[]): TensorContents => ({ dtype: 'U8', shape })
  const U32 = (...shape: number[]): TensorContents => ({ dtype: 'U32', shape })
  const F32 = (...shape: number[]): TensorContents => ({ dtype: 'F32', shape })

  it.each([
    ['FP8 in blocks', { weight: { dtype: 'F8_E5M2', shape: [64, 256] }, weight_scale_inv: F32(1, 2) }],
    ['FP8', { weight: F8(64, 256), scale: F32(1) }],
    ['FP8', { weight: F8(64, 256), weight_scale: { dtype: 'F8_E8M0', shape: [64, 8] } }],
    [
      'ModelOpt AWQ',
      { weight: U8(64, 128), weight_scale: F8(64, 16), weight_scale_2: F32(), pre_quant_scale: F16(256) },
    ],
    ['NVFP4 (ModelOpt)', { weight: I8(64, 128), weight_scale: F8(64, 16), weight_scale_2: F32() }],
    ['NVFP4 (compressed-tensors)', { weight_packed: I32(64, 32), weight_global_scale: F32(1) }],
    ['MXFP4 or NVFP4', { weight: { dtype: 'F4', shape: [64, 256], data: new Uint8Array(8192) } }],
    ['weights packed into bytes', { weight: U8(64, 128), weight_scale: U8(64, 8) }],
    ['bitsandbytes NF4', { weight: U8(8192, 1), 'weight.quant_state.bitsandbytes__nf4': U8(100) }],
    ['bitsandbytes 4-bit', { weight: U8(8192, 1), 'weight.absmax': F32(256), 'weight.quant_map': F32(16) }],
    ['bitsandbytes int8', { weight: I8(64, 256), SCB: F32(64) }],
    ['MLX', { weight: U32(64, 32), scales: F16(64, 4), biases: F16(64, 4) }],
    ['HQQ', { W_q: U8(32, 256), meta: U8(8) }],
    ['Quanto', { 'weight._data': U8(64, 256), 'weight._scale': F16(64, 1) }],
    ['EETQ int8', { weight: I8(64, 256), weight_scales: F16(64) }],
    ['AQLM', { codes: I8(64, 32, 1), codebooks: F16(1, 256, 1, 8) }],
    ['QuIP#', { Qidxs: { dtype: 'I64', shape: [64, 4] }, SU: F16(256) }],
    ['VPTQ', { 'centroids.weight': F16(1, 8), indices: I32(1, 8) }],
    ['SpQR', { dense_weights: { dtype: 'I64', shape: [8] } }],
    ['EXL2', { q_weight: I32(16, 64) }],
    ['EXL3', { trellis: { dtype: 'I16', shape: [4, 4, 4] }, svh: F16(64) }],
    ['Marlin', { B: I32(16, 128), s: F16(2, 64) }],
    ['int8 (W8A8)', { weight: I8(64, 256), scale: F32(64, 1) }],
    ['int8 (W8A8)', { weight: I8(64, 256), weight_scale: F32(64) }],
  ])('are called %s', async (format, tensors) => {
    // Whatever the config says, or where it says nothing.
    for (const config of [undefined, GPTQ]) {
      const checkpoint = await layer(config, tensors as Record<string, TensorContents>)
      expect(checkpoint.unsupportedFormat).toContain(format)
      const error = expect.objectContaining({
        code: 'UNSUPPORTED_MODEL',
        message: expect.stringMatching(/"m" is stored .* in a format that billfish cannot run: .*16-bit/),
      })
      expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(error)
    }
  })

  it('are found among embeddings, too', async () => {
    const checkpoint = await layer(undefined, { weight: U32(64, 32), scales: F16(64, 4) })
    expect(() => checkpoint.table('m.weight', 64, 256)).toThrow('MLX')
  })

  it('are not needed where the config names the format', async () => {
    const checkpoint = await layer({ quant_method: 'hqq' }, { weight: F16(64, 256), codes: I8(64, 64) })
    expect(checkpoint.unsupportedFormat).toBe('HQQ')
    expect(() => checkpoint.linear('m', 64, 256, 'none')).toThrow(
      'quantization_config: the weights are stored in a format',
    )
  })

  it('have to exist: a leftover config is ignored beside plain weights', async () => {
    const buffers = { position_ids: { dtype: 'I64', shape: [8] }, 'attn.bias': { dtype: 'BOOL', shape: [4] } }
    const checkpoint = await layer(
      { quant_method: 'bitsandbytes', load_in_4bit: true },
      { weight: F16(64, 256), ...buffers },
    )
    expect(checkpoint.unsupportedFormat).toBeUndefined()
    expect(checkpoint.linear('m', 64, 256, 'none').kind).toBe('matrix')
  })
})
