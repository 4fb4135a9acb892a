/** What FP8's reader makes of stored tensors. */
import { describe, expect, it } from 'vitest'
import { compressed, F16, GPTQ, I32, layer } from '../../support/stored-layer'
import type { TensorContents } from '../../support/tensors'

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
