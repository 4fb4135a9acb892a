/** What `billfish pad` refuses, with which code and words; nothing is written then. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type PadOptions, padCheckpoint } from '../../../src/index'
import { scratchDirectory } from '../../support/directories'
import { modelDirectory } from '../../support/fixtures'
import { readSafetensors, safetensors } from '../../support/tensors'

const scratch = scratchDirectory()
let count = 0
const newPath = (name: string) => join(scratch, `${name}-${count++}`)
const dense = modelDirectory('qwen2-bf16') // 384 channels, three shards
const quantized = modelDirectory('qwen2-gptq-int4-g128')

async function expectRefusal(source: string, options: object, code: string, message: RegExp, output = newPath('out')) {
  const isThere = existsSync(output)
  const run = padCheckpoint(source, output, options as PadOptions)
  await expect(run).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  expect(existsSync(output)).toBe(isThere)
  expect(existsSync(`${output}.partial`)).toBe(false)
}

function copied(source: string, change: (directory: string) => void): string {
  const directory = newPath('source')
  cpSync(source, directory, { recursive: true })
  change(directory)
  return directory
}

describe('options', () => {
  const isNoCount = (name: string, value: string) =>
    new RegExp(`^${name} is ${value}, but must be a whole number from 1 upwards\\.$`)
  test.each([
    [{}, /^parallelSizes or to must say what to pad for/],
    [{ parallelSizes: [] }, /^parallelSizes or to must say what to pad for/],
    [{ parallelSizes: null }, /^parallelSizes is null, but must be an array of whole numbers, such as \[2, 4, 8\]/],
    [{ parallelSizes: '2,4' }, /^parallelSizes is "2,4", but must be an array/],
    [{ parallelSizes: [2, 0] }, isNoCount('parallelSizes\\[1\\]', '0')],
    [{ parallelSizes: [-2] }, isNoCount('parallelSizes\\[0\\]', '-2')],
    [{ parallelSizes: [1.5] }, isNoCount('parallelSizes\\[0\\]', '1\\.5')],
    [{ parallelSizes: ['4'] }, isNoCount('parallelSizes\\[0\\]', '"4"')],
    [{ parallelSizes: [Number.NaN] }, isNoCount('parallelSizes\\[0\\]', 'NaN')],
    [{ parallelSizes: [2 ** 31] }, /parallel size is 2147483648, but must be a whole number from 1 to 2147483647/],
    [{ parallelSizes: [2 ** 30, 3] }, /parallel sizes 1073741824, 3 have no common multiple .* fewer or smaller/],
    [
      { parallelSizes: [65536] },
      /384 channels would become 8388608, more than 1048576: for 65536 ranks .* fewer or smaller parallel sizes/,
    ],
    [{ parallelSizes: [2], groupSize: 0 }, isNoCount('groupSize', '0')],
    [{ parallelSizes: [2], groupSize: -128 }, isNoCount('groupSize', '-128')],
    [{ parallelSizes: [2], placement: 'middle' }, /^placement is "middle", but must be 'tail' or 'interleaved'/],
    [{ to: 383 }, /384 channels cannot be padded to 383: .* a multiple of 128; the least one is 384/],
    [{ to: 500 }, /384 channels cannot be padded to 500: .* a multiple of 128; the least one is 384/],
    [{ to: 512.5 }, isNoCount('to', '512\\.5')],
    [{ to: 0 }, isNoCount('to', '0')],
    [{ to: '512' }, isNoCount('to', '"512"')],
    [{ to: Number.POSITIVE_INFINITY }, isNoCount('to', 'Infinity')],
    [{ to: 2 ** 21 }, /384 channels would become 2097152, more than 1048576/],
    [
      { parallelSizes: [2, 4], to: 768 },
      /cannot be padded to 768: for 2, 4 ranks with whole groups of 128 and tiles of 64 it must be a multiple of 512; the least one is 512/,
    ],
    [
      { to: 1024, placement: 'interleaved' },
      /640 zero channels cannot be interleaved with 384 .* use placement 'tail'/,
    ],
  ])('%j', (options, message) => expectRefusal(dense, options, 'INVALID_OPTION', message))

  test.each<[string, object, RegExp]>([
    ['a bigint', { to: 512n }, isNoCount('to', '512n')],
    ['a symbol', { to: Symbol('512') }, isNoCount('to', 'a symbol')],
    ['a function', { parallelSizes: Math.max }, /^parallelSizes is a function, but must be an array/],
  ])('%s, which JSON cannot represent', (_, options, message) =>
    expectRefusal(dense, options, 'INVALID_OPTION', message),
  )

  test('interleaving in groups without act-order', () =>
    expectRefusal(
      quantized,
      { parallelSizes: [2], placement: 'interleaved' },
      'INVALID_OPTION',
      /down_proj is quantized in groups of 128 .* the quantization config does not say desc_act, .* Pad at the end/,
    ))
})

describe('places', () => {
  const options = { parallelSizes: [2] }
  const isInside = /lies in the checkpoint's own directory .*; name one beside it/
  const exists = /exists, and is not overwritten; name another directory, or remove it/

  test('an output that exists: a directory, a file, a dangling link', async () => {
    const [directory, file, link] = [newPath('there'), newPath('there'), newPath('there')]
    mkdirSync(directory)
    writeFileSync(file, 'a file')
    for (const output of [directory, file]) await expectRefusal(dense, options, 'INVALID_OPTION', exists, output)
    symlinkSync(newPath('nowhere'), link)
    await expectRefusal(dense, options, 'INVALID_OPTION', exists, link)
    expect(readFileSync(file, 'utf8')).toBe('a file')
  })

  test('an output in the checkpoint, under any name, or the checkpoint itself', async () => {
    const source = copied(dense, () => {})
    const link = newPath('link')
    symlinkSync(source, link)
    for (const [from, output] of [
      [source, join(source, 'out')],
      [source, join(source, '..out')],
      [source, join(link, 'out')],
      [link, join(source, 'out')],
      [source, source],
    ] as const) {
      await expectRefusal(from, options, 'INVALID_OPTION', isInside, output)
    }
  })

  test('an output whose unfinished files would overwrite the checkpoint', async () => {
    const output = newPath('out')
    cpSync(dense, `${output}.partial`, { recursive: true })
    await expect(padCheckpoint(`${output}.partial`, output, options)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(
        /out-\d+\.partial is needed for unfinished files, but the checkpoint .* is there; name/,
      ),
    })
    expect(existsSync(join(`${output}.partial`, 'config.json'))).toBe(true)
  })

  test('an output in a missing directory, or below a file', async () => {
    await expectRefusal(
      dense,
      options,
      'INVALID_OPTION',
      /no does not exist; create it first/,
      join(scratch, 'no', 'where'),
    )
    const file = newPath('file')
    writeFileSync(file, '')
    await expectRefusal(dense, options, 'INVALID_OPTION', /cannot be written: ENOTDIR/, join(file, 'out'))
  })

  test('values that are not paths', async () => {
    await expect(padCheckpoint('', 'out', options)).rejects.toThrow(/directory is an empty string, but must be a path/)
    await expect(padCheckpoint(dense, undefined as never, options)).rejects.toThrow(
      /output is undefined, but must be a path/,
    )
  })
})

describe('checkpoints', () => {
  const options = { parallelSizes: [5] }
  const shard = (directory: string) => join(directory, 'model-00002-of-00003.safetensors')
  const withConfig = (changes: object) => (directory: string) => {
    const path = join(directory, 'config.json')
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...changes }))
  }
  test.each([
    [
      'a shard that is cut off',
      (d: string) => truncateSync(shard(d), statSync(shard(d)).size - 100),
      /truncated or damaged/,
    ],
    [
      'a shard that is missing',
      (d: string) => rmSync(shard(d)),
      /00002-of-00003\.safetensors does not exist; download/,
    ],
    [
      'a shard that is garbage',
      (d: string) => writeFileSync(shard(d), 'garbage, more than 8 bytes'),
      /not a safetensors file/,
    ],
    [
      'a shard that cannot be read',
      (d: string) => {
        rmSync(shard(d))
        mkdirSync(shard(d))
      },
      /00002-of-00003\.safetensors is a directory/,
    ],
    [
      'a size that is no size',
      withConfig({ intermediate_size: -1 }),
      /intermediate_size is -1, but must be a positive/,
    ],
    [
      "a size that is not the tensors'",
      withConfig({ intermediate_size: 512 }),
      /"model\.layers\.0\.mlp\.gate_proj\.weight" \(BF16 \[384, 128\] .* does not have the shape \[512, 128\]/,
    ],
    [
      'too few layers',
      withConfig({ num_hidden_layers: 3 }),
      /layer that config\.json does not count \(num_hidden_layers 3\)/,
    ],
    ['too many layers', withConfig({ num_hidden_layers: 5 }), /"model\.layers\.4\.mlp\.gate_proj\.weight" is missing/],
    [
      'no config',
      (d: string) => rmSync(join(d, 'config.json')),
      /has no config\.json: expected a checkpoint directory/,
    ],
  ])('%s', async (_, change, message) => {
    await expectRefusal(copied(dense, change), options, 'INVALID_CHECKPOINT', message)
  })

  test('a shard that is cut off while it is read', async () => {
    const source = copied(dense, () => {})
    const last = join(source, 'model-00003-of-00003.safetensors')
    const output = newPath('out')
    const onProgress = () => truncateSync(last, 4096)
    await expect(padCheckpoint(source, output, { ...options, onProgress })).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /00003-of-00003\.safetensors ended at byte 4096: it has changed since it was opened/,
      ),
    })
    expect(existsSync(output)).toBe(false)
  })

  test.each([
    ['qwen2-moe-gptq-int4', /qwen2_moe is a mixture of experts, whose files billfish does not pad/],
    ['qwen3-moe-bf16', /qwen3_moe is a mixture of experts/],
    ['qwen3-moe-fused-bf16', /qwen3_moe is a mixture of experts/], // its first layer has an MLP
  ])('a mixture of experts: %s', (name, message) =>
    expectRefusal(modelDirectory(name), options, 'UNSUPPORTED_MODEL', message),
  )

  test.each([
    ['qwen3-fp8-block', 'gate_proj has scales of blocks'],
    ['qwen3-ct-nvfp4', 'down_proj has scales of groups'],
  ])('floats that would move away from their scales: %s', (name, message) =>
    expectRefusal(
      modelDirectory(name),
      { parallelSizes: [2], placement: 'interleaved' },
      'INVALID_OPTION',
      new RegExp(`${message} of channels, so these cannot move. Pad at the end`),
    ),
  )

  test('tensors that are unknown or missing', async () => {
    const directory = copied(modelDirectory('qwen2-ct-w8a16'), () => {})
    const file = join(directory, 'model.safetensors')
    const tensors = Object.fromEntries(readSafetensors(file))
    const write = (more: object) => writeFileSync(file, safetensors({ ...tensors, ...more }))
    const refused = (message: RegExp) => expectRefusal(directory, { parallelSizes: [7] }, 'INVALID_CHECKPOINT', message)
    const strange = { dtype: 'F16', shape: [384], data: Buffer.alloc(768) }
    write({ 'model.layers.1.mlp.act_fn.scales': strange })
    await refused(
      /tensor model\.layers\.1\.mlp\.act_fn\.scales belongs to an MLP that would be padded, but what it holds is not known/,
    )
    write({ 'model.layers.3.mlp.down_proj.weight': strange })
    await refused(/num_hidden_layers 3/)
    delete tensors['model.layers.1.mlp.up_proj.weight_packed']
    write({})
    await refused(/model\.layers\.1\.mlp\.up_proj\.weight" is missing/)
    copyFileSync(join(modelDirectory('qwen1-fp16'), 'config.json'), join(directory, 'config.json'))
    await refused(/no tensor is named as the MLP .* wanted is transformer\.h\.0\.mlp\.c_proj/)
  })
})
