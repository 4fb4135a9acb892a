/** FP4 linears from names to specs: NVFP4 and MXFP4 of compressed-tensors, and ModelOpt's NVFP4. */
import { describe, expect, test } from 'vitest'
import { stackExperts } from '../../../src/models/expert-weights'
import { storedBytes } from '../../../src/native/weights'
import { describeFormat, openCheckpoint } from '../../../src/open-checkpoint'
import { inputGroup, sliceLinear } from '../../../src/quantization/linear-slice'
import { directoryOf } from '../../support/directories'
import { safetensors, type TensorContents } from '../../support/tensors'

/** 64 outputs, 96 inputs. */
const [out, inputs] = [64, 96]
const of =
  (dtype: string) =>
  (...shape: number[]): TensorContents => ({ dtype, shape })
const [U8, F8, E8, F32, F16, BF16] = ['U8', 'F8_E4M3', 'F8_E8M0', 'F32', 'F16', 'BF16'].map(of) as [
  ReturnType<typeof of>,
  ReturnType<typeof of>,
  ReturnType<typeof of>,
  ReturnType<typeof of>,
  ReturnType<typeof of>,
  ReturnType<typeof of>,
]

type Tensors = Record<string, TensorContents | null>

const nvfp4: Tensors = { weight_packed: U8(64, 48), weight_scale: F8(64, 6), weight_global_scale: F32(1) }
const mxfp4: Tensors = { weight_packed: U8(64, 48), weight_scale: U8(64, 3) }
const modelopt: Tensors = { weight: U8(64, 48), weight_scale: F8(64, 6), weight_scale_2: F32() }

const compressed = (format: string, weights: object = {}, group: object = {}) => ({
  quant_method: 'compressed-tensors',
  format,
  config_groups: {
    group_0: { targets: ['Linear'], weights: { num_bits: 4, type: 'float', symmetric: true, ...weights }, ...group },
  },
})
const NVFP4 = compressed('nvfp4-pack-quantized', { group_size: 16, strategy: 'tensor_group' })
const MXFP4 = compressed('mxfp4-pack-quantized', { group_size: 32, strategy: 'group' })
const MODELOPT = { quant_method: 'modelopt', quant_algo: 'NVFP4' }

/** A checkpoint whose one layer `m` has these tensors; null leaves one out. */
function open(config: object | undefined, tensors: Tensors) {
  const stored = Object.entries(tensors).flatMap(([name, tensor]) => (tensor === null ? [] : [[`m.${name}`, tensor]]))
  return openCheckpoint(
    directoryOf({
      'config.json': config === undefined ? {} : { quantization_config: config },
      'model.safetensors': safetensors({ ...Object.fromEntries(stored), 'norm.weight': BF16(96) }),
    }),
  )
}

const read = async (config: object | undefined, tensors: Tensors, shape = [out, inputs] as const) =>
  (await open(config, tensors)).linear('m', ...shape, 'none')

const spec = { kind: 'quantized', format: 'fp4', bits: 4, out, in: inputs, symmetric: true, zeroOffset: 0 }
const layouts = {
  'NVFP4 of compressed-tensors': {
    config: NVFP4,
    tensors: nvfp4,
    expected: {
      ...spec,
      groupSize: 16,
      codes: { name: 'm.weight_packed', dtype: 'U8' },
      scales: { name: 'm.weight_scale', dtype: 'F8_E4M3' },
      globalScale: { name: 'm.weight_global_scale' },
      globalScaleDivides: true,
    },
    format: 'compressed-tensors nvfp4-pack-quantized NVFP4, group 16; rest BF16, F32',
    name: 'NVFP4',
  },
  'NVFP4 of ModelOpt': {
    config: MODELOPT,
    tensors: modelopt,
    expected: {
      ...spec,
      groupSize: 16,
      codes: { name: 'm.weight', dtype: 'U8' },
      scales: { name: 'm.weight_scale', dtype: 'F8_E4M3' },
      globalScale: { name: 'm.weight_scale_2' },
      globalScaleDivides: false,
    },
    format: 'ModelOpt NVFP4, group 16; rest BF16, F32',
    name: "ModelOpt's NVFP4",
  },
  'MXFP4 of compressed-tensors': {
    config: MXFP4,
    tensors: mxfp4,
    expected: {
      ...spec,
      groupSize: 32,
      codes: { name: 'm.weight_packed', dtype: 'U8' },
      scales: { name: 'm.weight_scale', dtype: 'U8' },
      globalScale: undefined,
      globalScaleDivides: undefined,
    },
    format: 'compressed-tensors mxfp4-pack-quantized MXFP4, group 32; rest BF16',
    name: 'MXFP4',
  },
}

describe.each(Object.entries(layouts))('%s', (_, { config, tensors, expected, format, name }) => {
  test('is read and described', async () => {
    const checkpoint = await open(config, { ...tensors, bias: F16(64) })
    expect(checkpoint.linear('m', out, inputs, 'required')).toMatchObject({ ...expected, bias: { name: 'm.bias' } })
    expect(describeFormat(checkpoint).replace(', F16', '')).toBe(format)
    expect(checkpoint.unsupportedFormat).toBeUndefined()
  })

  test('is what its tensors are, whatever the config says', async () => {
    for (const other of [
      { quant_method: 'gptq', bits: 4, group_size: 128 },
      { quant_method: 'awq', bits: 4 },
      { quant_method: 'fp8' },
      compressed('pack-quantized', { type: 'int', group_size: 128 }),
      NVFP4,
      MXFP4,
      MODELOPT,
    ]) {
      expect(await read(other, tensors)).toMatchObject(expected)
    }
    const checkpoint = await open(undefined, tensors)
    expect(checkpoint.linear('m', out, inputs, 'none')).toMatchObject(expected)
    expect(describeFormat(checkpoint)).toBe(format)
    expect(checkpoint.notices).toEqual([
      expect.stringContaining(`there is no quantization config, but tensors are stored in ${name} layout`),
    ])
    const wrong = await open({ quant_method: 'gptq', bits: 4 }, tensors)
    expect(wrong.notices).toEqual([expect.stringContaining('says gptq, but tensors are stored in')])
  })

  test('has scales of activations and of the cache beside it, which are not read', async () => {
    const others = { input_global_scale: F32(1), input_scale: F32(), k_scale: F32(), v_scale: F32(1) }
    expect(await read(config, { ...tensors, ...others })).toMatchObject(expected)
  })

  test('is refused with inputs that do not fill its groups', async () => {
    const group = expected.groupSize
    await expect(read(config, tensors, [64, 104])).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        new RegExp(`^"m" has 104 inputs, but ${name.slice(-5)} has groups of ${group}, which`),
      ),
    })
  })

  test.each([
    ['outputs', [65, 96], /weight(_packed)?" \(U8 \[64, 48\].*the shape \[65, 48\] required by an ..FP4 layer with 65/],
    ['inputs', [64, 192], /weight(_packed)?" \(U8 \[64, 48\].*the shape \[64, 96\]/],
  ] as const)('is refused with other %s', async (__, shape, message) => {
    await expect(read(config, tensors, shape)).rejects.toThrow(message)
  })

  test('is refused with scales of another shape or type, without them, and with activation order', async () => {
    const { shape, dtype } = tensors.weight_scale as TensorContents
    const scales = (weight_scale: TensorContents | null) => read(config, { ...tensors, weight_scale })
    const [rows, columns] = shape as [number, number]
    const wrong = [[rows, columns + 1], [columns, rows], [rows * columns], [rows, columns, 1]]
    for (const other of wrong) {
      await expect(scales({ dtype, shape: other })).rejects.toThrow(
        `"m.weight_scale" (${dtype} [${other.join(', ')}] in model.safetensors) does not have the shape [${rows}, ${columns}]`,
      )
    }
    await expect(scales(F16(rows, columns))).rejects.toThrow(/has type F16; expected (F8_E4M3|U8 or F8_E8M0)/)
    await expect(scales(null)).rejects.toThrow(/"m.weight_scale" is missing from .*; download the checkpoint again/)
    await expect(read(config, { ...tensors, weight_g_idx: { dtype: 'I32', shape: [96] } })).rejects.toMatchObject({
      code: 'UNSUPPORTED_MODEL',
      message: expect.stringContaining('with activation order (weight_g_idx)'),
    })
  })

  test('is split between whole groups', async () => {
    const linear = await read(config, tensors)
    const group = expected.groupSize
    expect(inputGroup(linear)).toBe(group)
    const part = sliceLinear(linear, { inputs: [{ start: 32, count: 64 }] })
    expect(part).toMatchObject({ in: 64, groupSize: group, part: { storedIn: 96, storedGroupSize: group } })
  })

  test('counts every tensor that is read', async () => {
    const linear = await read(config, tensors)
    const scales = 'weight_global_scale' in tensors || 'weight_scale_2' in tensors ? 64 * 6 + 4 : 64 * 3
    expect(storedBytes(linear)).toBe(64 * 48 + scales)
  })
})

describe('the global scale of NVFP4', () => {
  test.each([F32(1), F32(), BF16(1), F16()])('may be %o', async (scale) => {
    const { shape, dtype } = scale
    expect(await read(NVFP4, { ...nvfp4, weight_global_scale: scale })).toMatchObject({ globalScale: { shape, dtype } })
    expect(await read(MODELOPT, { ...modelopt, weight_scale_2: scale })).toMatchObject({
      globalScale: { shape, dtype },
    })
  })

  test.each([
    [F32(64), /"m.weight_(global_scale|scale_2)" \(F32 \[64\] in .* must be one number/],
    [F32(1, 1), /\[1, 1\] in .* must be one number for the whole layer, of shape \[1\] or \[\]; download/],
    [F32(0), /must be one number/],
    [U8(1), /has type U8; expected F16 or BF16 or F32/],
    [null, /"m.weight_(global_scale|scale_2)" is missing from .*; download the checkpoint again/],
  ])('cannot be %o', async (scale, message) => {
    await expect(read(NVFP4, { ...nvfp4, weight_global_scale: scale })).rejects.toThrow(message)
    await expect(read(MODELOPT, { ...modelopt, weight_scale_2: scale })).rejects.toThrow(message)
  })
})

describe('MXFP4', () => {
  test('has its exponents in either type', async () => {
    const linear = await read(MXFP4, { ...mxfp4, weight_scale: E8(64, 3) })
    expect(linear).toMatchObject({ groupSize: 32, scales: { dtype: 'F8_E8M0', bytes: 192 } })
  })

  test('of gpt-oss, AutoRound and ModelOpt cannot be run, and is called by its name', async () => {
    const stacked = {
      'mlp.experts.gate_up_proj_blocks': U8(4, 64, 3, 16),
      'mlp.experts.gate_up_proj_scales': U8(4, 64, 3),
    }
    expect((await open(undefined, stacked)).unsupportedFormat).toBe('MXFP4')
    for (const [config, format] of [
      [{ quant_method: 'mxfp4' }, 'MXFP4'],
      [{ quant_method: 'auto_round_mxfp' }, 'MXFP4 (AutoRound)'],
      [{ quant_method: 'modelopt', quant_algo: 'MXFP4' }, 'ModelOpt MXFP4'],
    ] as const) {
      expect((await open(config, mxfp4)).unsupportedFormat).toBe(format)
    }
    const packed = await open(undefined, { weight: U8(64, 48), weight_scale: U8(64, 3) })
    expect(() => packed.linear('m', out, inputs, 'none')).toThrow('weights packed into bytes')
  })
})

test('experts are stored one by one, each with a scale of its own, and all in one format', async () => {
  const checkpoint = await openCheckpoint(
    directoryOf({
      'config.json': { quantization_config: MODELOPT },
      'model.safetensors': safetensors(
        Object.fromEntries(
          [modelopt, modelopt, nvfp4, mxfp4].flatMap((tensors, i) =>
            Object.entries(tensors).map(([name, tensor]) => [`${i}.${name}`, tensor as TensorContents]),
          ),
        ),
      ),
    }),
  )
  const linears = [0, 1, 2, 3].map((i) => checkpoint.linear(`${i}`, out, inputs, 'none'))
  const stack = stackExperts('up', linears.slice(0, 3))
  expect(stack.experts.map((expert) => expert.kind === 'quantized' && expert.globalScale?.name)).toEqual([
    '0.weight_scale_2',
    '1.weight_scale_2',
    '2.weight_global_scale',
  ])
  expect(stack.hasZeroPoints).toBe(false)
  expect(storedBytes(stack)).toBe(3 * (64 * 48 + 64 * 6 + 4))
  expect(() => stackExperts('up', linears)).toThrow(
    '0 (FP4 in groups of 16 with scales in F8_E4M3) and 3 (FP4 in groups of 32 with scales in U8) are not stored in the same way',
  )
})
