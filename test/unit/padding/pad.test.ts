import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { loadModel, padCheckpoint } from '../../../src/index'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf, scratchDirectory } from '../../support/directories'
import { difference, golden, greedyTokens, modelDirectory, paddedModels } from '../../support/fixtures'
import { readSafetensors, safetensors } from '../../support/tensors'

const scratch = scratchDirectory()
let outputs = 0
const newOutput = () => join(scratch, `out-${outputs++}`)
const readJson = (...path: string[]) => JSON.parse(readFileSync(join(...path), 'utf8'))

/** All tensors of a checkpoint. */
async function tensorsOf(directory: string) {
  const { files } = await openCheckpoint(directory)
  return new Map(files.flatMap((file) => [...readSafetensors(file)]))
}

describe.each(paddedModels)('%s', (name) => {
  const source = modelDirectory(name)

  it('answers as before when padded for 2 and 4', async () => {
    const output = newOutput()
    const result = await padCheckpoint(source, output, { parallelSizes: [2, 4] })
    expect(result).toMatchObject({
      written: true,
      paddedSize: Math.ceil(result.size / result.multiple) * result.multiple,
    })
    expect(result.verification).toMatchObject({ layers: result.layerCount, maxDifference: 0 })
    const factor = name.startsWith('qwen1') ? 2 : 1
    expect(readJson(output, 'config.json').intermediate_size).toBe(factor * result.paddedSize)
    expect(readdirSync(scratch).filter((entry) => entry.endsWith('.partial'))).toEqual([])

    const { prompts, greedy, tensor } = golden(name)
    await using model = await loadModel(output, { dtype: 'float32', maxModelLength: 64 })
    await using original = await loadModel(source, { dtype: 'float32', maxModelLength: 64 })
    const prompt = prompts.p33 as number[]
    expect(await greedyTokens(model, prompt)).toEqual(greedy.p33)
    const [{ logits }, unpadded] = [await model.forward(prompt), await original.forward(prompt)]
    expect(difference(logits, unpadded.logits).max).toBeLessThan(2e-5)
    expect(difference(logits, tensor('p33.logits')).max).toBeLessThan(1e-2)
  })

  it('keeps all other tensors byte for byte, and the beginning of padded ones', async () => {
    const output = newOutput()
    const { size, paddedSize, paddedTensors } = await padCheckpoint(source, output, { to: 3584, verify: false })
    expect(paddedSize).toBe(3584)
    const [before, after] = [await tensorsOf(source), await tensorsOf(output)]
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort())
    let changed = 0
    for (const [tensor, { dtype, shape, data }] of before) {
      const other = after.get(tensor)
      expect(other?.dtype).toBe(dtype)
      if (other?.data.equals(data)) continue
      changed++
      expect(tensor).toMatch(/\.mlp\.(gate_proj|up_proj|down_proj|w1|w2|c_proj)\./)
      if (tensor.endsWith('weight_shape')) continue
      const grown = shape.findIndex((length, i) => length !== other?.shape[i])
      const [from, to] = [shape[grown] as number, other?.shape[grown] as number]
      if (tensor.endsWith('scale_inv'))
        expect([from, to]).toEqual([size, paddedSize].map((channels) => Math.ceil(channels / 128)))
      else expect(to / from).toBeCloseTo(paddedSize / size)
      const rowBytes = data.length / (grown === 0 ? 1 : (shape[0] as number))
      expect(other?.data.subarray(0, rowBytes).equals(data.subarray(0, rowBytes))).toBe(true)
    }
    expect(changed).toBe(paddedTensors)
  })
})

describe('what is written', () => {
  it('keeps config.json except for one number, __metadata__, and other files', async () => {
    const source = mkdtempSync(join(scratch, 'in-'))
    cpSync(modelDirectory('qwen2-awq-int4-g128'), source, { recursive: true })
    writeFileSync(join(source, 'tokenizer.json'), 'a tokenizer')
    mkdirSync(join(source, 'extra', 'inner'), { recursive: true })
    copyFileSync(join(source, 'config.json'), join(source, 'extra', 'inner', 'config.json'))
    writeFileSync(join(source, 'pytorch_model.bin'), 'weights')
    const output = newOutput()
    const result = await padCheckpoint(source, output, { parallelSizes: [2] })
    expect(result.leftOut).toEqual(['golden.safetensors', 'pytorch_model.bin'])
    const text = readFileSync(join(source, 'config.json'), 'utf8')
    expect(readFileSync(join(output, 'config.json'), 'utf8')).toBe(
      text.replace('"intermediate_size": 384', '"intermediate_size": 512'),
    )
    expect(readFileSync(join(output, 'tokenizer.json'), 'utf8')).toBe('a tokenizer')
    expect(readFileSync(join(output, 'extra/inner/config.json'), 'utf8')).toBe(text)
    const [before, after] = [source, output].map((directory) => readJson(directory, 'model.safetensors.index.json'))
    expect(after.weight_map).toEqual(before.weight_map)
    const tensors = await tensorsOf(output)
    if (before.metadata?.total_size !== undefined) {
      expect(after.metadata.total_size).toBe([...tensors.values()].reduce((sum, { data }) => sum + data.length, 0))
    }
    const [file = ''] = readdirSync(output).filter((name) => name.endsWith('.safetensors'))
    const header = readFileSync(join(output, file))
    expect(header.toString('utf8', 8, 60)).toMatch(/^\{"__metadata__":\{"format":"pt"\},/)
    expect(Number(header.readBigUInt64LE(0)) % 8).toBe(0)
  })

  it('scales of new groups are 0, codes and zero points in the middle, g_idx goes on', async () => {
    const output = newOutput()
    await padCheckpoint(modelDirectory('qwen2-gptq-int4-g32-desc_act'), output, { to: 512 })
    const tensors = await tensorsOf(output)
    const down = (part: string) => tensors.get(`model.layers.0.mlp.down_proj.${part}`)
    const words = (data: Buffer | undefined) =>
      new Set(Array.from({ length: (data?.length ?? 0) / 4 }, (_, i) => data?.readUInt32LE(4 * i)))
    expect(down('qweight')?.shape).toEqual([64, 128])
    expect(words(down('qweight')?.data.subarray(48 * 128 * 4))).toEqual(new Set([0x88888888]))
    expect(words(down('qzeros')?.data.subarray(12 * 16 * 4))).toEqual(new Set([0x77777777]))
    expect(words(down('scales')?.data.subarray(12 * 128 * 2))).toEqual(new Set([0]))
    const groups = down('g_idx')?.data.subarray(384 * 4)
    expect(Array.from({ length: 128 }, (_, i) => groups?.readInt32LE(4 * i))).toEqual(
      Array.from({ length: 128 }, (_, i) => 12 + Math.floor(i / 32)),
    )
    const v2 = newOutput()
    await padCheckpoint(modelDirectory('qwen2-gptq-v2-int4'), v2, { to: 512 })
    const zeros = (await tensorsOf(v2)).get('model.layers.0.mlp.gate_proj.qzeros')
    expect(zeros?.data.readUInt32LE(((zeros.shape[1] as number) - 1) * 4)).toBe(0x88888888)
  })

  it("leaves a vision tower alone, whose MLPs have the same names, and pads the language model's", async () => {
    // As in Qwen2.5-VL: visual.blocks.N.mlp.gate_proj, up_proj and down_proj; and the newer layout of names.
    const config = readJson(modelDirectory('qwen2-vl-bf16'), 'config.json')
    const { intermediate_size, ...shared } = config
    const original = readSafetensors(join(modelDirectory('qwen2-vl-bf16'), 'model.safetensors'))
    const renamed = new Map(
      [...original].map(([name, tensor]) => [
        name.startsWith('model.') ? name.replace('model.', 'model.language_model.') : `model.${name}`,
        tensor,
      ]),
    )
    for (const part of ['gate_proj', 'up_proj', 'down_proj']) {
      const tensor = original.get(`model.layers.0.mlp.${part}.weight`)
      if (tensor) renamed.set(`model.visual.blocks.0.mlp.${part}.weight`, tensor)
    }
    const source = directoryOf({
      'config.json': {
        ...shared,
        model_type: 'qwen2_5_vl',
        text_config: { ...shared, model_type: 'qwen2_5_vl_text', intermediate_size },
        vision_config: { ...config.vision_config, intermediate_size },
      },
      'model.safetensors': safetensors(Object.fromEntries(renamed)),
    })
    const output = newOutput()
    const result = await padCheckpoint(source, output, { parallelSizes: [2] })
    expect(result).toMatchObject({
      layers: 'model.language_model.layers',
      size: 160,
      paddedSize: 256,
      paddedTensors: 9,
    })
    expect(result.lookAlikes).toEqual(
      ['gate_proj', 'up_proj', 'down_proj'].map((part) => `model.visual.blocks.0.mlp.${part}`),
    )
    const written = readJson(output, 'config.json')
    expect(written.text_config.intermediate_size).toBe(256)
    expect(written.vision_config.intermediate_size).toBe(160)
    for (const [name, { shape, data }] of await tensorsOf(output)) {
      if (!name.includes('visual')) continue
      expect(shape).toEqual(renamed.get(name)?.shape)
      expect(data.equals(renamed.get(name)?.data as Buffer)).toBe(true)
    }
  })

  it.each([
    ['qwen2-bf16', 'model.', 'model.'],
    ['qwen2-bf16', 'model.', 'model.language_model.'],
    ['qwen2-bf16', 'model.', 'language_model.model.'],
    ['qwen2-bf16', 'model.', 'language_model.'],
    ['qwen2-bf16', 'model.', ''],
    ['qwen1-fp16', 'transformer.', 'transformer.'],
    ['qwen1-gptq-int8', 'transformer.', 'transformer.'],
  ])('%s, whose %s is called %s', async (name, before, after) => {
    const tensors = [...(await tensorsOf(modelDirectory(name)))].map(
      ([tensor, value]) => [tensor.replace(before, after), value] as const,
    )
    const source = directoryOf({
      'config.json': readJson(modelDirectory(name), 'config.json'),
      'model.safetensors': safetensors(Object.fromEntries(tensors)),
    })
    const result = await padCheckpoint(source, newOutput(), { parallelSizes: [7] })
    expect(result.layers).toBe(`${after}${before === 'transformer.' ? 'h' : 'layers'}`)
    expect(result.verification).toMatchObject({ layers: result.layerCount, maxDifference: 0 })
  })

  it('tensors of unknown names and types stay what they are, byte for byte, wherever they stand in the file', async () => {
    const strange = {
      'a.first.tensor': { dtype: 'F8_E4M3', shape: [3, 7], data: Buffer.from('F8 numbers, of a byte') },
      'model.layers.0.self_attn.rotary_emb.inv_freq': {
        dtype: 'F64',
        shape: [2],
        data: Buffer.from('two F64 numbers.'),
      },
      'model.layers.1.extra.mask': { dtype: 'BOOL', shape: [5], data: Buffer.from([0, 1, 1, 0, 1]) },
      'model.layers.1.extra.empty': { dtype: 'F16', shape: [0, 384], data: Buffer.alloc(0) },
      'z.last.scalar': { dtype: 'I64', shape: [], data: Buffer.from('a number') },
    }
    const tensors = await tensorsOf(modelDirectory('qwen2-bf16'))
    const inOrder = [...tensors, ...Object.entries(strange)].sort(([a], [b]) => (a < b ? -1 : 1))
    const source = directoryOf({
      'config.json': readJson(modelDirectory('qwen2-bf16'), 'config.json'),
      'model.safetensors': safetensors(Object.fromEntries(inOrder)),
    })
    const output = newOutput()
    await padCheckpoint(source, output, { parallelSizes: [2] })
    const written = readSafetensors(join(output, 'model.safetensors'))
    expect([...written.keys()]).toEqual(inOrder.map(([name]) => name))
    for (const [name, tensor] of Object.entries(strange)) expect(written.get(name)).toEqual(tensor)
  })

  it('Qwen2-VL as released has its text config at the top', async () => {
    const output = newOutput()
    const result = await padCheckpoint(modelDirectory('qwen2-vl-bf16'), output, {
      parallelSizes: [2],
      placement: 'interleaved',
    })
    expect(result).toMatchObject({ layers: 'model.layers', paddedSize: 256 })
    expect(readJson(output, 'config.json').intermediate_size).toBe(256)
  })
})

describe('nothing is written', () => {
  test('in a dry run', async () => {
    const output = newOutput()
    const result = await padCheckpoint(modelDirectory('qwen2-bf16'), output, { parallelSizes: [2], dryRun: true })
    expect(result).toMatchObject({ written: false, size: 384, paddedSize: 512, files: 3 })
    const real = await padCheckpoint(modelDirectory('qwen2-bf16'), newOutput(), { parallelSizes: [2], verify: false })
    expect(real).toEqual({ ...result, written: true })
    expect(existsSync(output)).toBe(false)
    expect(existsSync(`${output}.partial`)).toBe(false)
  })

  test('if the size is already right', async () => {
    const output = newOutput()
    const result = await padCheckpoint(modelDirectory('qwen2-bf16'), output, { parallelSizes: [3] })
    expect(result).toMatchObject({ written: false, size: 384, paddedSize: 384 })
    expect(existsSync(output)).toBe(false)
  })
})

it('calls onProgress with all bytes and all layers', async () => {
  const seen: string[] = []
  const output = newOutput()
  await padCheckpoint(modelDirectory('qwen2-bf16'), output, {
    parallelSizes: [2],
    onProgress: ({ phase, done, total }) => seen.push(`${phase} ${done}/${total}`),
  })
  const bytes = readdirSync(output)
    .filter((name) => name.endsWith('.safetensors'))
    .reduce((sum, name) => sum + statSync(join(output, name)).size, 0)
  expect(seen[0]).toBe(`writing 0/${bytes}`)
  expect(seen).toContain(`writing ${bytes}/${bytes}`)
  expect(seen.slice(-5)).toEqual([0, 1, 2, 3, 4].map((layer) => `verifying ${layer}/4`))
})
