/** ModelOpt's checkpoints through the engine: those of compressed-tensors, with ModelOpt's names and configs. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../../src/index'
import { describeFormat, openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { difference, golden, modelDirectory } from '../../support/fixtures'
import { floatsOf, readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

function configOf(name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
}

function tensorsOf(name: string): [string, StoredTensor][] {
  const shards = readdirSync(modelDirectory(name)).filter((file) => /^model.*\.safetensors$/.test(file))
  return shards.flatMap((file) => [...readSafetensors(join(modelDirectory(name), file))])
}

/** The tensor under ModelOpt's name, beside scales of activations and of the cache, which are not read. */
function asModelOpt([name, tensor]: [string, StoredTensor]): [string, StoredTensor][] {
  const scalar = (value: number) => ({ dtype: 'F32', shape: [], data: Buffer.from(Float32Array.of(value).buffer) })
  if (name.endsWith('.weight_packed')) return [[name.replace(/_packed$/, ''), tensor]]
  if (!name.endsWith('.weight_global_scale')) return [[name, tensor]]
  const module = name.replace(/\.weight_global_scale$/, '')
  const scale: [string, StoredTensor] = [`${module}.weight_scale_2`, scalar(1 / (floatsOf(tensor)[0] as number))]
  const cache = /\.([kv])_proj$/.exec(module)?.[1]
  const others = [`${module}.input_scale`, ...(cache ? [`${module}.${cache}_scale`] : [])]
  return [scale, ...others.map((other): [string, StoredTensor] => [other, scalar(0.5)])]
}

async function logitsOf(directory: string, tokens: number[]): Promise<Float32Array> {
  await using model = await loadModel(directory, { deviceMap: 'cpu', dtype: 'float32', maxModelLength: 64 })
  return (await model.forward(tokens)).logits
}

test("NVFP4 under ModelOpt's names gives the golden's logits, with either config and without any", async () => {
  const name = 'qwen3-ct-nvfp4'
  const { quantization_config: _, ...config } = configOf(name)
  const model = safetensors(Object.fromEntries(tensorsOf(name).flatMap(asModelOpt)))
  const quantization = { quant_algo: 'W4A16_NVFP4', group_size: 16, exclude_modules: ['lm_head'] }
  const { quant_algo, exclude_modules: ignore } = quantization
  const expected = golden(name)
  for (const files of [
    { 'config.json': { ...config, quantization_config: { quant_method: 'modelopt', quant_algo, ignore } } },
    { 'config.json': config, 'hf_quant_config.json': { producer: { name: 'modelopt' }, quantization } },
    { 'config.json': config },
  ]) {
    const directory = directoryOf({ ...files, 'model.safetensors': model })
    expect(describeFormat(await openCheckpoint(directory))).toMatch(/^ModelOpt NVFP4, group 16; rest BF16/)
    const logits = await logitsOf(directory, expected.prompts.p33 as number[])
    expect(difference(logits, expected.tensor('p33.logits')).max).toBeLessThan(1.5e-4)
  }
})

test('FP8 with one scale a tensor is read with its config as with that of compressed-tensors', async () => {
  const name = 'qwen2-ct-fp8-tensor'
  const tokens = golden(name).prompts.p7 as number[]
  const expected = await logitsOf(modelDirectory(name), tokens)
  const quantized_layers = { 'model.layers.0': { quant_algo: 'FP8' }, 'model.layers.1.mlp': { quant_algo: 'FP8' } }
  for (const [algorithm, format] of [
    [{ quant_algo: 'FP8' }, 'ModelOpt FP8 e4m3, one scale a tensor; rest BF16'],
    [{ quant_algo: 'MIXED_PRECISION', quantized_layers }, 'ModelOpt FP8 e4m3, one scale a tensor; rest BF16'],
  ] as const) {
    const quantization_config = { quant_method: 'modelopt', ...algorithm }
    const directory = directoryOf({
      'config.json': { ...configOf(name), quantization_config },
      'model.safetensors': readFileSync(join(modelDirectory(name), 'model.safetensors')),
    })
    expect(describeFormat(await openCheckpoint(directory))).toBe(format)
    expect(await logitsOf(directory, tokens)).toEqual(expected)
  }
})
