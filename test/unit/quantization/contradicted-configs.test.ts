/** Configs that contradict the tensors, or say nothing: every model computes what it did before. */
import { readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel } from '../../../src/index'
import { describeFormat, openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { modelDirectory } from '../../support/fixtures'
import { Random } from '../../support/random.cjs'
import { readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

type Json = Record<string, unknown>

const ids = [3, 17, 88, 5, 201, 44, 9, 120, 77, 250, 31, 2]

async function logitsOf(directory: string, options: LoadOptions = {}): Promise<Float32Array> {
  await using model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64, ...options })
  return (await model.forward(ids)).logits
}

function configOf(name: string): Json {
  return JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
}

/** The fixture with another config.json, and no other quantization config. Keys that are undefined are left out. */
function withQuantization(name: string, change: (quantization: Json) => Json): string {
  const config = configOf(name)
  const quantization_config = change(config.quantization_config as Json)
  const directory = directoryOf({ 'config.json': { ...config, quantization_config } })
  for (const file of readdirSync(modelDirectory(name))) {
    if (file.endsWith('.json') && !file.endsWith('.index.json')) continue
    symlinkSync(join(modelDirectory(name), file), join(directory, file))
  }
  return directory
}

const gptq: Json[] = [
  { bits: 8 },
  { bits: undefined },
  { group_size: 32 },
  { group_size: -1 },
  { group_size: undefined },
  { sym: true },
  { sym: undefined },
  { desc_act: true },
  { desc_act: false },
  { desc_act: undefined },
  { static_groups: true },
  { lm_head: true },
  { dynamic: { '-:.*': {} } },
  { dynamic: { '.*': { bits: 8, group_size: 16, sym: true, desc_act: true } } },
  { modules_to_not_convert: ['self_attn'], modules_in_block_to_quantize: [['mlp.up_proj']] },
]

test.each([
  [
    'qwen2-gptq-int4-g128',
    [...gptq, { sym: false }, { checkpoint_format: 'gptq_v2' }, { sym: false, format: 'gptq_v2' }],
  ],
  ['qwen2-gptq-int8-g128', [{ bits: 4 }, { sym: false }, { checkpoint_format: 'gptq_v2' }]],
  ['qwen2-gptq-int4-g32-desc_act', [...gptq, { sym: false }]],
  ['qwen2-gptq-int4-channelwise', [{ group_size: 128 }, { desc_act: true, group_size: 64 }]],
  ['qwen2-gptq-int4-asym', gptq],
  ['qwen2-gptq-sym-odd-zeros', gptq],
  ['qwen3-gptq-dynamic', [{ dynamic: undefined }, { dynamic: {}, group_size: 32, bits: 8 }]],
  ['qwen2-gptq-lmhead', [{ dynamic: undefined, lm_head: false }]],
  ['qwen3-autoround-v2', [{ extra_config: undefined }, { bits: 8, group_size: 128, sym: true }]],
  ['qwen2-awq-int4-g128', [{ zero_point: false }, { group_size: 64 }, { group_size: -1 }, { version: 'exllama' }]],
] as [string, Json[]][])('%s', async (name, changes) => {
  const expected = await logitsOf(modelDirectory(name))
  for (const change of changes) {
    const logits = await logitsOf(withQuantization(name, (quantization) => ({ ...quantization, ...change })))
    expect(logits, JSON.stringify(change)).toEqual(expected)
  }
})

test.each([
  [
    'qwen2-ct-w4a16',
    [{ num_bits: 8 }, { group_size: 32 }, { strategy: 'channel', group_size: null }, { actorder: 'weight' }],
  ],
  ['qwen2-ct-w8a16', [{ num_bits: 4 }, { strategy: 'group', group_size: 32 }]],
  ['qwen2-ct-w4a16-asym', [{ symmetric: true }, { num_bits: 8 }]],
  ['qwen2-ct-actorder', [{ actorder: null }, { actorder: 'static' }, { actorder: null, group_size: 64 }]],
] as [string, Json[]][])('%s', async (name, changes) => {
  const expected = await logitsOf(modelDirectory(name))
  for (const change of changes) {
    const directory = withQuantization(name, (quantization) => {
      const groups = Object.entries(quantization.config_groups as Record<string, { weights: Json }>)
      const changed = groups.map(([key, group]) => [key, { ...group, weights: { ...group.weights, ...change } }])
      return { ...quantization, config_groups: Object.fromEntries(changed) }
    })
    expect(await logitsOf(directory), JSON.stringify(change)).toEqual(expected)
  }
})

test('act-order that the config denies is split over ranks, too', async () => {
  const name = 'qwen2-gptq-int4-g32-desc_act'
  const ranks: LoadOptions = { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: 2 }
  const denied = withQuantization(name, (quantization) => ({ ...quantization, desc_act: false }))
  expect(await logitsOf(denied, ranks)).toEqual(await logitsOf(modelDirectory(name), ranks))
})

/** The fixture with other tensors; null leaves one out. */
function withTensors(
  name: string,
  change: (name: string, tensor: StoredTensor) => StoredTensor | null,
  more: Readonly<Record<string, StoredTensor>> = {},
): string {
  const tensors: Record<string, StoredTensor> = { ...more }
  for (const file of readdirSync(modelDirectory(name))) {
    if (!file.endsWith('.safetensors') || file === 'golden.safetensors') continue
    for (const [key, tensor] of readSafetensors(join(modelDirectory(name), file))) {
      const changed = change(key, tensor)
      if (changed) tensors[key] = changed
    }
  }
  return directoryOf({ 'config.json': configOf(name), 'model.safetensors': safetensors(tensors) })
}

test.each<[string, Json[]]>([
  ['qwen2-gptq-int4-asym', [{ checkpoint_format: 'gptq_v2' }, { format: 'gptq_v2', sym: true }]],
  ['qwen2-gptq-sym-odd-zeros', [{ checkpoint_format: 'gptq_v2' }]],
  ['qwen2-gptq-v2-int4', [{ checkpoint_format: 'gptq' }, { checkpoint_format: undefined }]],
  ['qwen3-autoround-v2', [{ packing_format: 'auto_round:auto_gptq' }, { packing_format: undefined }]],
])('zero points of %s are those that its codes lie around, whatever %j', async (name, changes) => {
  const expected = await logitsOf(modelDirectory(name))
  for (const change of changes) {
    const directory = withQuantization(name, (quantization) => ({ ...quantization, ...change }))
    expect(await logitsOf(directory), JSON.stringify(change)).toEqual(expected)
    const { notices } = await openCheckpoint(directory)
    expect(notices).toEqual([
      expect.stringMatching(/checkpoint_format is not gptq(_v2)?, but the codes are centered on/),
    ])
  }
})

test('an AutoRound config without quant_method is known by its other keys', async () => {
  const name = 'qwen3-autoround-v2'
  const unnamed = withQuantization(name, (quantization) => ({ ...quantization, quant_method: undefined }))
  expect(await logitsOf(unnamed)).toEqual(await logitsOf(modelDirectory(name)))
  expect((await openCheckpoint(unnamed)).notices).toEqual([])
})

test('zero points and group indices that no model has are not read through', async () => {
  const bytes = 2 ** 39
  for (const part of ['g_idx', 'qzeros']) {
    const header = Buffer.from(
      JSON.stringify({
        [`a.${part}`]: { dtype: 'I32', shape: [bytes / 4, 1], data_offsets: [0, bytes] },
        'a.scales': { dtype: 'F16', shape: [1, 8], data_offsets: [bytes, bytes + 16] },
      }),
    )
    const directory = directoryOf({ 'config.json': configOf('qwen2-gptq-int4-g128'), 'model.safetensors': '' })
    const path = join(directory, 'model.safetensors')
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.length))
    writeFileSync(path, Buffer.concat([length, header]))
    truncateSync(path, 8 + header.length + bytes + 16) // a hole, which takes no room
    await expect(openCheckpoint(directory)).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /a\.(g_idx|qzeros)".* has 549755813888 bytes, but zero points and group indices may have at most/,
      ),
    })
  }
})

test('activations that compressed-tensors would quantize are left as they are, with a warning', async () => {
  const name = 'qwen2-ct-w4a16'
  const quantized = withQuantization(name, (quantization) => {
    const groups = Object.entries(quantization.config_groups as Record<string, Json>)
    const config_groups = Object.fromEntries(
      groups.map(([key, group]) => [key, { ...group, input_activations: { num_bits: 8 } }]),
    )
    return { ...quantization, config_groups }
  })
  expect(await logitsOf(quantized)).toEqual(await logitsOf(modelDirectory(name)))
  const { notices } = await openCheckpoint(quantized)
  expect(notices).toEqual([expect.stringMatching(/config_groups quantizes activations; billfish leaves them/)])
})

/** I32 words of `32 / bits` codes, along rows of `columns` codes or down columns, as signed numbers. */
function numbersOf(
  tensor: StoredTensor,
  bits: number,
  rows: number,
  columns: number,
  downColumns: boolean,
): StoredTensor {
  const words = new Uint32Array(Uint8Array.from(tensor.data).buffer)
  const perWord = 32 / bits
  const width = tensor.shape[1] as number
  const numbers = Int8Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns]
    const [word, place] = downColumns
      ? [Math.floor(row / perWord) * width + column, row % perWord]
      : [row * width + Math.floor(column / perWord), column % perWord]
    return (((words[word] as number) >>> (place * bits)) & (2 ** bits - 1)) - 2 ** (bits - 1)
  })
  return { dtype: 'I8', shape: [rows, columns], data: Buffer.from(numbers.buffer) }
}

test.each([
  ['qwen2-ct-w4a16-asym', 4],
  ['qwen2-ct-actorder', 4],
  ['qwen2-ct-w8a16', 8],
] as const)('%s with one number a byte computes the same', async (name, bits) => {
  const expected = await logitsOf(modelDirectory(name))
  const [file] = readdirSync(modelDirectory(name)).filter((entry) => /^model.*safetensors$/.test(entry))
  const stored = readSafetensors(join(modelDirectory(name), file as string))
  const shapeOf = (module: string) => {
    const { dtype, data } = stored.get(`${module}.weight_shape`) as StoredTensor
    return dtype === 'I64' ? [data.readInt32LE(0), data.readInt32LE(8)] : [data.readInt32LE(0), data.readInt32LE(4)]
  }
  for (const unpacksCodes of [false, true]) {
    const tensors: Record<string, StoredTensor> = {}
    for (const [key, tensor] of stored) {
      const module = key.slice(0, key.lastIndexOf('.'))
      if (key.endsWith('.weight_zero_point')) {
        const [out] = shapeOf(module)
        tensors[key] = numbersOf(tensor, bits, out as number, tensor.shape[1] as number, true)
      } else if (unpacksCodes && key.endsWith('.weight_packed')) {
        const [out, inputs] = shapeOf(module)
        tensors[`${module}.weight`] = numbersOf(tensor, bits, out as number, inputs as number, false)
      } else if (!unpacksCodes || !key.endsWith('.weight_shape')) tensors[key] = tensor
    }
    const config = configOf(name)
    const format = unpacksCodes ? 'int-quantized' : 'pack-quantized'
    const quantization_config: Json = { ...(config.quantization_config as Json), format }
    for (const group of Object.values(quantization_config.config_groups as Record<string, Json>)) delete group.format
    const files = { 'config.json': { ...config, quantization_config }, 'model.safetensors': safetensors(tensors) }
    expect(await logitsOf(directoryOf(files)), `codes in bytes: ${unpacksCodes}`).toEqual(expected)
  }
})

test('zero points of v2 in a symmetric file of v1, and files without zero points or group index', async () => {
  const name = 'qwen2-gptq-int4-g128'
  const expected = await logitsOf(modelDirectory(name))
  const eights = withTensors(name, (key, tensor) =>
    key.endsWith('.qzeros') ? { ...tensor, data: Buffer.alloc(tensor.data.length, 0x88) } : tensor,
  )
  expect(await logitsOf(eights)).toEqual(expected)
  const bare = withTensors(name, (key, tensor) => (/\.(qzeros|g_idx)$/.test(key) ? null : tensor))
  expect(await logitsOf(bare)).toEqual(expected)
})

describe('a config of another method than the tensors', () => {
  const gptqConfig = { quant_method: 'gptq', bits: 4, group_size: 128, sym: true, desc_act: false }
  const awqConfig = { quant_method: 'awq', bits: 4, group_size: 128, version: 'gemm', zero_point: true }
  const compressed = configOf('qwen2-ct-w4a16').quantization_config as Json
  const autoRound = { quant_method: 'auto-round', bits: 4, group_size: 32, packing_format: 'auto_round:auto_awq' }

  test.each<[string, string, (Json | undefined)[]]>([
    ['qwen2-gptq-int4-g128', 'GPTQ', [awqConfig, compressed, autoRound, undefined]],
    ['qwen2-gptq-int8-g128', 'GPTQ', [awqConfig, compressed, undefined]],
    ['qwen2-gptq-int4-g32-desc_act', 'GPTQ', [awqConfig, { ...awqConfig, group_size: 64 }, undefined]],
    ['qwen2-gptq-int4-channelwise', 'GPTQ', [awqConfig, compressed, undefined]],
    ['qwen2-awq-int4-g128', 'AWQ', [gptqConfig, { ...gptqConfig, bits: 8, sym: false }, compressed, undefined]],
    ['qwen3-awq-int4-g64', 'AWQ', [gptqConfig, compressed, undefined]],
    ['qwen2-ct-w4a16', 'compressed-tensors', [gptqConfig, awqConfig, undefined]],
    ['qwen2-ct-w8a16', 'compressed-tensors', [gptqConfig, awqConfig, undefined]],
    ['qwen2-ct-w4a16-asym', 'compressed-tensors', [gptqConfig, awqConfig, undefined]],
    ['qwen2-ct-actorder', 'compressed-tensors', [gptqConfig, awqConfig, undefined]],
  ])('%s is followed as %s', async (name, method, configs) => {
    const expected = await logitsOf(modelDirectory(name))
    for (const config of configs) {
      const directory = withQuantization(name, () => config as Json)
      expect(await logitsOf(directory), JSON.stringify(config)).toEqual(expected)
      const checkpoint = await openCheckpoint(directory)
      expect(describeFormat(checkpoint)).toMatch(new RegExp(`^${method}`))
      expect(checkpoint.notices).toEqual([
        expect.stringMatching(
          new RegExp(
            `^${directory}: .*(says|there is no).*, but tensors are stored in ${method} layout \\(.*which takes precedence\\.$`,
          ),
        ),
      ])
      if (config) expect(checkpoint.notices[0]).toMatch(/quantization_config says (gptq|awq|compressed-tensors), but/)
      else expect(checkpoint.notices[0]).toMatch(/there is no quantization config, but/)
    }
  })

  test.each(['qwen2-gptq-int4-asym', 'qwen2-gptq-v2-int4', 'qwen2-gptq-sym-odd-zeros', 'qwen3-autoround-v2'])(
    '%s is followed as GPTQ with the zero points that its codes lie around',
    async (name) => {
      const expected = await logitsOf(modelDirectory(name))
      for (const config of [awqConfig, compressed, undefined]) {
        expect(await logitsOf(withQuantization(name, () => config as Json))).toEqual(expected)
      }
    },
  )

  test('zero points of GPTQ that may be one too small or not are refused where the codes do not tell', async () => {
    const random = new Random(7)
    const words = (length: number) => Buffer.from(Uint32Array.from({ length }, () => random.word()).buffer)
    const noise = withTensors('qwen2-gptq-int4-asym', (key, tensor) =>
      /\.(qweight|qzeros)$/.test(key) ? { ...tensor, data: words(tensor.data.length / 4) } : tensor,
    )
    await expect(logitsOf(noise)).resolves.toHaveLength(ids.length * 320) // the config says it
    const config = { ...configOf('qwen2-gptq-int4-asym'), quantization_config: awqConfig }
    writeFileSync(join(noise, 'config.json'), JSON.stringify(config))
    await expect(logitsOf(noise)).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /has GPTQ tensors.*zero points \(tensor ".*qzeros".*set quant_method to gptq and checkpoint_format/,
      ),
    })
  })

  test.each<[string, Json, RegExp]>([
    ['qwen2-gptq-int4-g128', { quant_method: 'mxfp4' }, /MXFP4\..*stored in GPTQ layout .*correct quant_method/],
    ['qwen3-fp8-block', { quant_method: 'fbgemm_fp8' }, /FBGEMM.*stored in FP8 layout .*correct quant_method/],
    ['qwen2-awq-int4-g128', { quant_method: 'bitsandbytes', load_in_4bit: true }, /bitsandbytes.*stored in AWQ layout/],
    ['qwen3-ct-nvfp4', { quant_method: 'mxfp4' }, /MXFP4\..*stored in NVFP4 layout .*correct quant_method/],
    ['qwen2-ct-w4a16', { quant_method: 'hqq' }, /HQQ.*stored in compressed-tensors layout/],
    ['qwen2-awq-int4-g128', { quant_method: 'gptq', checkpoint_format: 'marlin' }, /Marlin.*stored in AWQ layout/],
  ])('%s is refused by a name that billfish cannot run, and what it looks like: %j', async (name, config, message) => {
    await expect(logitsOf(withQuantization(name, () => config))).rejects.toMatchObject({
      code: 'UNSUPPORTED_MODEL',
      message: expect.stringMatching(message),
    })
  })

  test('two methods in one checkpoint are each read as stored', async () => {
    const own = configOf('qwen2-gptq-int4-g128')
    const other = readSafetensors(join(modelDirectory('qwen2-awq-int4-g128'), 'model-00001-of-00002.safetensors'))
    const module = [...other.keys()].find((key) => key.endsWith('mlp.up_proj.qweight'))?.replace(/\.qweight$/, '') ?? ''
    expect(own.intermediate_size).toBe(configOf('qwen2-awq-int4-g128').intermediate_size)
    const tensors: Record<string, StoredTensor> = {}
    for (const file of readdirSync(modelDirectory('qwen2-gptq-int4-g128'))) {
      if (!file.endsWith('.safetensors') || file === 'golden.safetensors') continue
      for (const [key, tensor] of readSafetensors(join(modelDirectory('qwen2-gptq-int4-g128'), file))) {
        if (!key.startsWith(`${module}.`)) tensors[key] = tensor
      }
    }
    for (const [key, tensor] of other) if (key.startsWith(`${module}.`)) tensors[key] = tensor
    const directory = directoryOf({ 'config.json': own, 'model.safetensors': safetensors(tensors) })
    const checkpoint = await openCheckpoint(directory)
    expect(checkpoint.linear(module, 384, 256, 'none')).toMatchObject({ format: 'awq' })
    expect(checkpoint.notices).toEqual([expect.stringMatching(/says gptq, but tensors are stored in AWQ layout/)])
    expect(await logitsOf(directory)).toHaveLength(ids.length * 320)
  })
})
