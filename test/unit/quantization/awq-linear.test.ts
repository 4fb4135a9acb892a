/** What AWQ's readers make of stored tensors. */
import { describe, expect, it } from 'vitest'
import { AWQ, awqTensors, F16, GPTQ, I32, layer } from '../../support/stored-layer'
import { type TensorContents, words } from '../../support/tensors'

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
