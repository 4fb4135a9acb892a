/** Configs that contradict the tensors, or say nothing: every model computes what it did before. */
import { readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type LoadOptions, loadModel } from '../../src/index'
import { modelDirectory } from '../support/fixtures'
import { readSafetensors, type StoredTensor, safetensorsOf } from '../support/safetensors'
import { directoryOf } from './support/checkpoints'

type Json = Record<string, unknown>

const ids = [3, 17, 88, 5, 201, 44, 9, 120, 77, 250, 31, 2]

async function logitsOf(directory: string, options: LoadOptions = {}): Promise<Float32Array> {
  await using model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64, ...options })
  return (await model.forward(ids)).logits
}

function configOf(name: string): Json {
  return JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
}

/** The fixture with another config.json, and no other quantisation config. Keys that are undefined are left out. */
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

test('act-order that the config denies is cut for ranks, too', async () => {
  const name = 'qwen2-gptq-int4-g32-desc_act'
  const ranks: LoadOptions = { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: 2 }
  const denied = withQuantization(name, (quantization) => ({ ...quantization, desc_act: false }))
  expect(await logitsOf(denied, ranks)).toEqual(await logitsOf(modelDirectory(name), ranks))
})

/** The fixture with other tensors; null leaves one out. */
function withTensors(name: string, change: (name: string, tensor: StoredTensor) => StoredTensor | null): string {
  const tensors: Record<string, StoredTensor> = {}
  for (const file of readdirSync(modelDirectory(name))) {
    if (!file.endsWith('.safetensors') || file === 'golden.safetensors') continue
    for (const [key, tensor] of readSafetensors(join(modelDirectory(name), file))) {
      const changed = change(key, tensor)
      if (changed) tensors[key] = changed
    }
  }
  return directoryOf({ 'config.json': configOf(name), 'model.safetensors': safetensorsOf(tensors) })
}

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
