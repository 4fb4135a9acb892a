/** What GPTQ's reader makes of stored tensors. */
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { AWQ, compressed, F16, GPTQ, gptqTensors, I32, layer, naturalOrder, sevens } from '../../support/stored-layer'
import { safetensors, type TensorContents, words } from '../../support/tensors'

const middle8 = (...shape: number[]) => words(shape, () => 0x7f7f7f7f)

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
