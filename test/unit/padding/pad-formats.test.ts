/**
 * Formats that no fixture has: zero points of channelwise layers, groups that are cut off, biases. The weights are random
 * words, so every code and zero point occurs.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { padCheckpoint } from '../../../src/index'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { Random } from '../../support/random.cjs'
import { readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

const hidden = 64

const random = new Random(1)

function words(...shape: number[]): StoredTensor {
  const data = Buffer.alloc(4 * shape.reduce((product, length) => product * length, 1))
  for (let at = 0; at < data.length; at += 4) data.writeUInt32LE(random.word(), at)
  return { dtype: 'I32', shape, data }
}

/** Random fp16 numbers from 2^-7 to 2^-5. */
function halves(...shape: number[]): StoredTensor {
  const data = words(...shape).data
  const numbers = Buffer.alloc(data.length / 2)
  for (let at = 0; at < numbers.length; at += 2) numbers.writeUInt16LE(0x2000 | (data.readUInt16LE(2 * at) & 0x7ff), at)
  return { dtype: 'F16', shape, data: numbers }
}

interface Format {
  readonly method: 'gptq' | 'awq' | 'compressed-tensors'
  readonly bits: 4 | 8
  readonly groupSize: number
  readonly symmetric?: boolean
  readonly v2?: boolean
  /** What every word of the zero points is; random words otherwise. */
  readonly zeros?: number
  /** Groups are shuffled over the inputs. */
  readonly actOrder?: boolean
  /** A group index is stored that is all zeros, as by tools that do not use it. */
  readonly unusedIndex?: boolean
}

function quantization({ method, bits, groupSize, symmetric = false, v2, actOrder = false }: Format) {
  switch (method) {
    case 'gptq':
      return {
        quant_method: 'gptq',
        bits,
        group_size: groupSize,
        sym: symmetric,
        desc_act: actOrder,
        checkpoint_format: v2 ? 'gptq_v2' : 'gptq',
      }
    case 'awq':
      return { quant_method: 'awq', bits, group_size: groupSize, zero_point: !symmetric, version: 'gemm' }
    case 'compressed-tensors': {
      const strategy = groupSize === -1 ? 'channel' : 'group'
      const actorder = actOrder ? 'group' : null
      const weights = { num_bits: bits, group_size: groupSize, symmetric, strategy, type: 'int', actorder }
      return {
        quant_method: 'compressed-tensors',
        format: 'pack-quantized',
        config_groups: { group_0: { targets: ['Linear'], weights } },
      }
    }
  }
}

function linear(name: string, format: Format, out: number, inputs: number): [string, StoredTensor][] {
  const { method, bits, groupSize, symmetric } = format
  const groups = groupSize === -1 ? 1 : Math.ceil(inputs / groupSize)
  const codes = 32 / bits
  const bias: [string, StoredTensor] = [`${name}.bias`, halves(out)]
  const groupIndex = (suffix: string): [string, StoredTensor][] => {
    if (!format.actOrder && !format.unusedIndex) return []
    const data = Buffer.alloc(4 * inputs)
    for (let k = 0; k < inputs && !format.unusedIndex; k++)
      data.writeInt32LE(Math.floor(((k * 37) % inputs) / groupSize), 4 * k)
    return [[`${name}.${suffix}`, { dtype: 'I32', shape: [inputs], data }]]
  }
  if (method === 'compressed-tensors') {
    const shape = Buffer.alloc(8)
    shape.writeInt32LE(out)
    shape.writeInt32LE(inputs, 4)
    return [
      [`${name}.weight_packed`, words(out, inputs / codes)],
      [`${name}.weight_scale`, halves(out, groups)],
      ...(symmetric ? [] : [[`${name}.weight_zero_point`, words(out / codes, groups)] as [string, StoredTensor]]),
      [`${name}.weight_shape`, { dtype: 'I32', shape: [2], data: shape }],
      ...groupIndex('weight_g_idx'),
      bias,
    ]
  }
  const zeros = words(groups, out / codes)
  for (let at = 0; format.zeros !== undefined && at < zeros.data.length; at += 4)
    zeros.data.writeUInt32LE(format.zeros, at)
  return [
    [`${name}.qweight`, method === 'gptq' ? words(inputs / codes, out) : words(inputs, out / codes)],
    [`${name}.scales`, halves(groups, out)],
    ...groupIndex('g_idx'),
    ...(method === 'awq' && symmetric ? [] : [[`${name}.qzeros`, zeros] as [string, StoredTensor]]),
    bias,
  ]
}

function checkpoint(format: Format, width: number): string {
  const mlp = 'model.layers.0.mlp'
  const tensors = [
    ...linear(`${mlp}.gate_proj`, format, width, hidden),
    ...linear(`${mlp}.up_proj`, format, width, hidden),
    ...linear(`${mlp}.down_proj`, format, hidden, width),
  ]
  return directoryOf({
    'config.json': {
      model_type: 'qwen2',
      hidden_size: hidden,
      intermediate_size: width,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      vocab_size: 32,
      quantization_config: quantization(format),
    },
    'model.safetensors': safetensors(Object.fromEntries(tensors)),
  })
}

const formats: [Format, number, number][] = [
  [{ method: 'gptq', bits: 4, groupSize: -1 }, 80, 128],
  [{ method: 'gptq', bits: 8, groupSize: -1, v2: true }, 80, 128],
  [{ method: 'gptq', bits: 4, groupSize: 32 }, 80, 128], // the last group has 16 inputs, of 32
  [{ method: 'gptq', bits: 8, groupSize: 64, v2: true }, 80, 128],
  [{ method: 'gptq', bits: 4, groupSize: 32, unusedIndex: true }, 80, 128],
  [{ method: 'gptq', bits: 4, groupSize: 16, unusedIndex: true, actOrder: true }, 80, 128], // desc_act is only what the config says
  [{ method: 'compressed-tensors', bits: 4, groupSize: 16, unusedIndex: true }, 80, 128],
  [{ method: 'gptq', bits: 4, groupSize: 16, symmetric: true, zeros: 0x77777777 }, 80, 128],
  [{ method: 'gptq', bits: 4, groupSize: 16, symmetric: true }, 80, 128], // contradicted by its zeros
  [{ method: 'gptq', bits: 4, groupSize: 48 }, 80, 384], // lcm(48, 64) * 2
  [{ method: 'awq', bits: 4, groupSize: -1 }, 80, 128],
  [{ method: 'awq', bits: 4, groupSize: 32 }, 80, 128],
  [{ method: 'awq', bits: 4, groupSize: 16, symmetric: true }, 80, 128],
  [{ method: 'compressed-tensors', bits: 4, groupSize: -1 }, 80, 128],
  [{ method: 'compressed-tensors', bits: 8, groupSize: -1 }, 80, 128],
  [{ method: 'compressed-tensors', bits: 4, groupSize: 32 }, 80, 128],
  [{ method: 'compressed-tensors', bits: 8, groupSize: 16 }, 80, 128],
  [{ method: 'compressed-tensors', bits: 4, groupSize: 16, symmetric: true }, 80, 128],
]

/** Whose channels may stand anywhere: one group, or act-order. */
const movable: [Format, number, number][] = [
  [{ method: 'gptq', bits: 4, groupSize: 32, actOrder: true }, 160, 256],
  [{ method: 'gptq', bits: 4, groupSize: 32, actOrder: true }, 80, 128], // the last group has 16 inputs, of 32
  [{ method: 'gptq', bits: 8, groupSize: 16, actOrder: true, v2: true }, 80, 128],
  [{ method: 'gptq', bits: 4, groupSize: 16, actOrder: true, symmetric: true, zeros: 0x77777777 }, 72, 128], // 56 of 72: word by word
  [{ method: 'gptq', bits: 4, groupSize: -1 }, 80, 128],
  [{ method: 'gptq', bits: 8, groupSize: -1, symmetric: true, zeros: 0x7f7f7f7f }, 64, 128], // as many zeros as channels
  [{ method: 'awq', bits: 4, groupSize: -1 }, 80, 128],
  [{ method: 'awq', bits: 4, groupSize: -1, symmetric: true }, 80, 128],
  [{ method: 'compressed-tensors', bits: 4, groupSize: 32, actOrder: true }, 160, 256],
  [{ method: 'compressed-tensors', bits: 8, groupSize: 32, actOrder: true }, 80, 128],
  [{ method: 'compressed-tensors', bits: 4, groupSize: 16, actOrder: true, symmetric: true }, 80, 128],
  [{ method: 'compressed-tensors', bits: 4, groupSize: -1 }, 72, 128],
]

test.each([
  ...[...formats, ...movable].map((format) => [...format, 'tail'] as const),
  ...movable.map((format) => [...format, 'interleaved'] as const),
])('%j: %i channels become %i, %s', async (format, width, expected, placement) => {
  const output = join(directoryOf({}), 'out')
  const result = await padCheckpoint(checkpoint(format, width), output, { parallelSizes: [2], placement })
  expect(result).toMatchObject({ written: true, paddedSize: expected })
  expect(result.verification).toEqual({ layers: 1, maxDifference: 0 })
  expect(readdirSync(output).sort()).toEqual(['config.json', 'model.safetensors'])
  const padded = await openCheckpoint(output) // whose config and tensors agree
  expect(padded.linear('model.layers.0.mlp.down_proj', hidden, expected, 'required').in).toBe(expected)
  const bias = readSafetensors(join(output, 'model.safetensors')).get('model.layers.0.mlp.up_proj.bias')
  const added = Array.from({ length: expected - width }, (_, i) => (placement === 'tail' ? width + i : 2 * i + 1))
  const biases = Array.from({ length: expected }, (_, i) => bias?.data.readUInt16LE(2 * i))
  expect(biases.flatMap((value, i) => (value === 0 ? [i] : []))).toEqual(added)
})

test('layers whose groups differ are padded to whole groups of all', async () => {
  const format: Format = { method: 'gptq', bits: 4, groupSize: 16 }
  const layer = (i: number, down: Format) => [
    ...linear(`model.layers.${i}.mlp.gate_proj`, format, 80, hidden),
    ...linear(`model.layers.${i}.mlp.up_proj`, format, 80, hidden),
    ...linear(`model.layers.${i}.mlp.down_proj`, down, hidden, 80),
  ]
  const source = directoryOf({
    'config.json': {
      model_type: 'qwen2',
      hidden_size: hidden,
      intermediate_size: 80,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      vocab_size: 32,
      quantization_config: {
        ...quantization(format),
        dynamic: { '+:model.layers.1.mlp.down_proj': { group_size: 48 } },
      },
    },
    'model.safetensors': safetensors(
      Object.fromEntries([...layer(0, format), ...layer(1, { ...format, groupSize: 48 })]),
    ),
  })
  const result = await padCheckpoint(source, join(directoryOf({}), 'out'), { parallelSizes: [2] })
  expect(result).toMatchObject({ paddedSize: 384, multiple: 384, layerCount: 2 }) // lcm(16, 48, 64) * 2
  await expect(padCheckpoint(source, join(directoryOf({}), 'out'), { to: 128 })).rejects.toThrow(
    /80 channels cannot be padded to 128: for 1 ranks with whole groups of 48 and tiles of 64 it must be a multiple of 192/,
  )
})

test.each<[Format, RegExp]>([
  [
    { method: 'gptq', bits: 4, groupSize: 16 },
    /down_proj is quantized in groups of 16 .* since there is no model\.layers\.0\.mlp\.down_proj\.g_idx, so/,
  ],
  [
    { method: 'gptq', bits: 4, groupSize: 16, actOrder: true, unusedIndex: true },
    /since model\.layers\.0\.mlp\.down_proj\.g_idx is all zeros, so the group of an input follows from its place/,
  ],
  [
    { method: 'awq', bits: 4, groupSize: 16 },
    /since AWQ stores no g_idx, so the group of an input follows from its place/,
  ],
  [
    { method: 'compressed-tensors', bits: 4, groupSize: 16 },
    /since there is no .*\.weight_g_idx, so .* Pad at the end \(without interleaving\), or pad the 16-bit model/,
  ],
])('the channels of %j cannot be interleaved', async (format, message) => {
  const options = { parallelSizes: [2], placement: 'interleaved' } as const
  const run = padCheckpoint(checkpoint(format, 80), join(directoryOf({}), 'out'), options)
  await expect(run).rejects.toMatchObject({ code: 'INVALID_OPTION', message: expect.stringMatching(message) })
})

test.each<[Format, number, RegExp]>([
  [
    { method: 'gptq', bits: 4, groupSize: 128 },
    80,
    /down_proj has 80 inputs, less than a group of 128; it cannot be padded/,
  ],
  [
    { method: 'gptq', bits: 4, groupSize: 20 },
    80,
    /groups of 20 inputs, which share words of 8 codes; it cannot be padded/,
  ],
])('%j with %i channels is refused', async (format, width, message) => {
  const run = padCheckpoint(checkpoint(format, width), join(directoryOf({}), 'out'), { parallelSizes: [2] })
  await expect(run).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT', message: expect.stringMatching(message) })
})

test.each([0x77777777, 0x88888888])(
  'symmetric zeros stay what they are, whatever the config says: words %i',
  async (zeros) => {
    for (const v2 of [false, true]) {
      const format: Format = { method: 'gptq', bits: 4, groupSize: 16, symmetric: true, v2, zeros }
      const output = join(directoryOf({}), 'out')
      await padCheckpoint(checkpoint(format, 80), output, { parallelSizes: [2] })
      for (const [name, { data }] of readSafetensors(join(output, 'model.safetensors'))) {
        if (!name.endsWith('.qzeros')) continue
        for (let at = 0; at < data.length; at += 4) expect(data.readUInt32LE(at)).toBe(zeros)
      }
      const padded = await openCheckpoint(output)
      expect(padded.linear('model.layers.0.mlp.up_proj', 128, hidden, 'required')).toMatchObject({ symmetric: true })
    }
  },
)
