/** What compressed-tensors' reader makes of stored tensors. */
import { describe, expect, it } from 'vitest'
import { compressed, F16, GPTQ, I8, I32, layer, naturalOrder } from '../../support/stored-layer'
import { type TensorContents, words } from '../../support/tensors'

const packedTensors = {
  weight_packed: I32(64, 32),
  weight_scale: F16(64, 4),
  weight_shape: { dtype: 'I64', shape: [2] },
}

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
