/** Linears without quantization, and tensors of formats that cannot be run. */
import { describe, expect, it } from 'vitest'
import { F16, GPTQ, I8, I32, layer } from '../../support/stored-layer'
import type { TensorContents } from '../../support/tensors'

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
