import { rmSync, symlinkSync, truncateSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { openingError } from '../../support/refusals'
import { rawSafetensors, safetensors, type TensorContents } from '../../support/tensors'

const NORM: TensorContents = { dtype: 'F16', shape: [8] }

/** Opens a checkpoint of one file and expects to be refused with a message that has all of these parts in it. */
async function refused(file: Buffer, ...parts: string[]): Promise<void> {
  const error = await openingError(directoryOf({ 'config.json': {}, 'model.safetensors': file }))
  expect(error.code).toBe('INVALID_CHECKPOINT')
  for (const part of ['model.safetensors', ...parts]) expect(error.message).toContain(part)
}

const header = (tensors: object) => JSON.stringify(tensors)

describe('safetensors header', () => {
  it('is read with offsets from the start of the file', async () => {
    const text = header({
      __metadata__: { format: 'pt' },
      b: { dtype: 'F32', shape: [2, 3], data_offsets: [16, 40] },
      a: { dtype: 'BF16', shape: [8], data_offsets: [0, 16] },
      empty: { dtype: 'F16', shape: [0, 5], data_offsets: [16, 16] },
      scalar: { dtype: 'F64', shape: [], data_offsets: [40, 48] },
    })
    const directory = directoryOf({ 'config.json': {}, 'model.safetensors': rawSafetensors(`${text}   `, 48) })
    const checkpoint = await openCheckpoint(directory)
    const dataStart = 8 + text.length + 3
    expect(checkpoint.tensors.get('b')).toEqual({
      name: 'b',
      file: 0,
      dtype: 'F32',
      shape: [2, 3],
      offset: dataStart + 16,
      bytes: 24,
    })
    expect([...checkpoint.tensors.keys()].sort()).toEqual(['a', 'b', 'empty'])
    expect([...checkpoint.unsupportedTensors.keys()]).toEqual(['scalar'])
    expect(checkpoint.files).toEqual([join(directory, 'model.safetensors')])
    expect(checkpoint.bytes).toBe(dataStart + 48)
  })

  it('is refused when its length is impossible', async () => {
    const text = header({ a: { dtype: 'F16', shape: [8], data_offsets: [0, 16] } })
    await refused(Buffer.from('1234567'), '7 bytes')
    await refused(rawSafetensors(text, 16, text.length + 17), `header of ${text.length + 17} bytes`)
    await refused(rawSafetensors(text, 16, 0), 'header of 0 bytes')
    const prefix = Buffer.alloc(100, 0xff)
    await refused(prefix, '18446744073709551615')
    const huge = rawSafetensors('{', 0)
    huge.writeBigUInt64LE(2n ** 63n)
    await refused(Buffer.concat([huge, Buffer.alloc(10)]), '9223372036854775808')
  })

  it('is refused above the limit of 32 MiB', async () => {
    const directory = directoryOf({ 'config.json': {}, 'model.safetensors': rawSafetensors('{}', 0, 100_000_001) })
    truncateSync(join(directory, 'model.safetensors'), 300_000_000)
    expect((await openingError(directory)).message).toContain('must have 2 to 33554432')
  })

  it('is refused when it is not a JSON object in UTF-8', async () => {
    await refused(rawSafetensors('{"a":', 0), 'not valid JSON')
    await refused(rawSafetensors('["a"]', 0), 'not an object')
    await refused(rawSafetensors('{}}', 0), 'not valid JSON')
    await refused(Buffer.concat([rawSafetensors('{"', 0, 5), Buffer.from([0xff, 0xfe, 0x22])]), 'UTF-8')
  })

  it('is refused when it names a tensor twice, escaped or not', async () => {
    const a = '{"dtype":"F16","shape":[8],"data_offsets":[0,16]}'
    await refused(rawSafetensors(`{"a":${a},"a":${a}}`, 16), '"a"', 'twice')
    await refused(rawSafetensors(`{"a":${a},"\\u0061":${a}}`, 16), '"a"', 'twice')
    await refused(rawSafetensors(`{"a":{"dtype":"F16","shape":[8],"shape":[4],"data_offsets":[0,16]}}`, 16), '"shape"')
  })

  it('is refused when it nests or counts without end', async () => {
    await refused(rawSafetensors(`{"a":${'['.repeat(100_000)}`, 0), 'more than 3 levels')
    await refused(rawSafetensors(`{"a":${'{"b":'.repeat(50_000)}`, 0), 'more than 3 levels')
    await refused(rawSafetensors(`{"a":[${'0,'.repeat(2_100_000)}0]}`, 0), '2000000 values')
  })

  it.each([
    ['dtype F17', { dtype: 'F17', shape: [8], data_offsets: [0, 16] }, ['dtype "F17"']],
    ['dtype of the prototype', { dtype: 'constructor', shape: [8], data_offsets: [0, 16] }, ['dtype "constructor"']],
    ['no dtype', { shape: [8], data_offsets: [0, 16] }, ['dtype nothing']],
    ['negative dimension', { dtype: 'F16', shape: [-8], data_offsets: [0, 16] }, ['[-8]']],
    ['fractional dimension', { dtype: 'F16', shape: [8.5], data_offsets: [0, 16] }, ['[8.5]']],
    ['dimension beyond 2^53', { dtype: 'F16', shape: [2 ** 53, 0], data_offsets: [0, 16] }, ['9007199254740992']],
    ['shape that is no list', { dtype: 'F16', shape: 8, data_offsets: [0, 16] }, ['shape 8']],
    ['dimensions without end', { dtype: 'F16', shape: Array(17).fill(1), data_offsets: [0, 16] }, ['17 dimensions']],
    ['product beyond 2^53', { dtype: 'F16', shape: [2 ** 40, 2 ** 40], data_offsets: [0, 16] }, ['more than 2^53']],
    ['too small a shape', { dtype: 'F16', shape: [7], data_offsets: [0, 16] }, ['takes 14 bytes', 'hold 16']],
    ['half a byte', { dtype: 'F4', shape: [31], data_offsets: [0, 16] }, ['[0, 16]']],
    ['offsets in the wrong order', { dtype: 'F16', shape: [8], data_offsets: [16, 0] }, ['16 to 0']],
    ['offsets beyond the end', { dtype: 'F16', shape: [9], data_offsets: [0, 18] }, ['0 to 18', '16 bytes']],
    ['three offsets', { dtype: 'F16', shape: [8], data_offsets: [0, 16, 16] }, ['[0,16,16]']],
    ['an offset that is a string', { dtype: 'F16', shape: [8], data_offsets: ['0', 16] }, ['["0",16]']],
    ['no object', 7, ['described by 7']],
    ['null', null, ['described by null']],
  ])('is refused with %s', async (_, entry, parts) => {
    await refused(rawSafetensors(header({ 'model.norm.weight': entry }), 16), '"model.norm.weight"', ...parts)
  })

  it('is refused when tensors overlap, leave holes or do not reach the end', async () => {
    const two = (begin: number, end: number, dataBytes: number) =>
      rawSafetensors(
        header({
          a: { dtype: 'U8', shape: [8], data_offsets: [0, 8] },
          b: { dtype: 'U8', shape: [end - begin], data_offsets: [begin, end] },
        }),
        dataBytes,
      )
    await refused(two(4, 12, 12), '"b"', 'overlaps "a"')
    await refused(two(0, 8, 8), 'overlaps')
    await refused(two(10, 12, 12), '"b"', 'leaves 2 bytes unused')
    await refused(two(8, 12, 13), 'but the file has')
    await refused(rawSafetensors(header({ a: { dtype: 'U8', shape: [8], data_offsets: [1, 9] } }), 9), 'leaves 1 bytes')
  })

  it('is refused with metadata that is not an object of strings', async () => {
    await refused(rawSafetensors(header({ __metadata__: { format: 1 } }), 0), '__metadata__')
    await refused(rawSafetensors(header({ __metadata__: [] }), 0), '__metadata__')
  })

  it('accepts names of Object.prototype members', async () => {
    const file = rawSafetensors('{"__proto__":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}', 8)
    const checkpoint = await openCheckpoint(directoryOf({ 'config.json': {}, 'model.safetensors': file }))
    expect([...checkpoint.tensors.keys()]).toEqual(['__proto__'])
  })
})

describe('shards', () => {
  const index = (weight_map: unknown) => ({ metadata: { total_size: 1 }, weight_map })
  const one = safetensors({ a: NORM })
  const two = safetensors({ b: NORM })

  async function refusedShards(files: Record<string, Buffer | string | object>, ...parts: string[]): Promise<void> {
    const error = await openingError(directoryOf({ 'config.json': {}, ...files }))
    expect(error.code).toBe('INVALID_CHECKPOINT')
    for (const part of parts) expect(error.message).toContain(part)
  }

  it('are found by the index', async () => {
    const map = { b: 'two.safetensors', a: 'one.safetensors' }
    const directory = directoryOf({
      'config.json': {},
      'model.safetensors.index.json': index(map),
      'one.safetensors': one,
      'two.safetensors': two,
      'unrelated.safetensors': one,
    })
    const checkpoint = await openCheckpoint(directory)
    expect(checkpoint.files).toEqual([join(directory, 'one.safetensors'), join(directory, 'two.safetensors')])
    expect(checkpoint.tensors.get('b')?.file).toBe(1)
    expect(checkpoint.bytes).toBe(one.length + two.length)
  })

  it('may be more than are read at once', async () => {
    const names = Array.from({ length: 120 }, (_, i) => `model-${String(i).padStart(5, '0')}.safetensors`)
    const directory = directoryOf({
      'config.json': {},
      'model.safetensors.index.json': index(Object.fromEntries(names.map((name, i) => [`t${i}`, name]))),
      ...Object.fromEntries(names.map((name, i) => [name, safetensors({ [`t${i}`]: NORM })])),
    })
    const checkpoint = await openCheckpoint(directory)
    expect(checkpoint.tensors.size).toBe(120)
    for (const [i, name] of names.entries()) {
      expect(checkpoint.files[checkpoint.tensors.get(`t${i}`)?.file as number]).toBe(join(directory, name))
    }
  })

  it('may be symbolic links, as in the cache of the Hub', async () => {
    const directory = directoryOf({ 'config.json': {}, 'blobs/0a1b': one })
    symlinkSync('blobs/0a1b', join(directory, 'model.safetensors'))
    expect((await openCheckpoint(directory)).tensors.has('a')).toBe(true)
  })

  it.each([
    '../one.safetensors',
    '/etc/one.safetensors',
    'x/one.safetensors',
    'x\\one.safetensors',
    'C:one.safetensors',
    '..',
    'a\0.safetensors',
  ])('are refused outside the directory: %j', (file) =>
    refusedShards({ 'model.safetensors.index.json': index({ a: file }) }, '"a"', 'index.json'),
  )

  it('are refused when the index is malformed', async () => {
    for (const bad of [{}, [], index(null), index([]), index({}), index({ a: 7 }), index({ a: 'one.bin' })]) {
      await refusedShards(
        { 'model.safetensors.index.json': bad, 'one.safetensors': one },
        'model.safetensors.index.json',
      )
    }
    await refusedShards(
      { 'model.safetensors.index.json': '{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}' },
      'twice',
    )
  })

  it('are refused when one is missing', () =>
    refusedShards(
      { 'model.safetensors.index.json': index({ a: 'one.safetensors', b: 'two.safetensors' }), 'one.safetensors': one },
      'two.safetensors',
      'does not exist',
    ))

  it('are refused when a tensor lies elsewhere, nowhere or twice', async () => {
    const files = { 'one.safetensors': one, 'two.safetensors': two }
    const swapped = index({ a: 'two.safetensors', b: 'one.safetensors' })
    await refusedShards({ ...files, 'model.safetensors.index.json': swapped }, '"a"', 'is in "one.safetensors"')
    const silent = index({ x: 'one.safetensors', b: 'two.safetensors' })
    const twice = safetensors({ b: NORM, a: NORM })
    await refusedShards(
      { ...files, 'two.safetensors': twice, 'model.safetensors.index.json': silent },
      '"a"',
      'a second time in "two.safetensors", and the index does not say',
    )
  })

  it('take a tensor that two of them store from the one that the index names', async () => {
    const [first, second] = [safetensors({ a: NORM, c: NORM }), safetensors({ b: NORM, a: NORM, c: NORM })]
    for (const place of ['one.safetensors', 'two.safetensors']) {
      const checkpoint = await openCheckpoint(
        directoryOf({
          'config.json': {},
          'one.safetensors': first,
          'two.safetensors': second,
          'model.safetensors.index.json': index({ a: place, b: 'two.safetensors', c: 'one.safetensors' }),
        }),
      )
      const file = (name: string) => basename(checkpoint.files[checkpoint.tensors.get(name)?.file ?? -1] ?? '')
      expect(['a', 'b', 'c'].map(file)).toEqual([place, 'two.safetensors', 'one.safetensors'])
    }
  })

  it('may be missing if they hold only other parts than the text model', async () => {
    const files = (extra: Record<string, string>) => ({
      'config.json': {},
      'one.safetensors': safetensors({ a: NORM }),
      'model.safetensors.index.json': index({ a: 'one.safetensors', ...extra }),
    })
    for (const name of ['mtp.layers.0.x.weight', 'model.visual.blocks.0.x.weight', 'audio_tower.x']) {
      const { files: read } = await openCheckpoint(directoryOf(files({ [name]: 'extra.safetensors' })))
      expect(read.map((path) => basename(path))).toEqual(['one.safetensors'])
      const needed = files({ [name]: 'extra.safetensors', 'model.norm.weight': 'extra.safetensors' })
      expect((await openingError(directoryOf(needed))).message).toContain('extra.safetensors does not exist; download')
    }
  })

  it('may lack indexed tensors that the model does not use', async () => {
    const more = index({ a: 'one.safetensors', b: 'two.safetensors', 'mtp.fc.weight': 'two.safetensors' })
    const files = { 'one.safetensors': one, 'two.safetensors': two, 'model.safetensors.index.json': more }
    const checkpoint = await openCheckpoint(directoryOf({ 'config.json': {}, ...files }))
    expect([...checkpoint.tensors.keys()]).toEqual(['a', 'b'])
    expect(() => checkpoint.vector('mtp.fc.weight', [8])).toThrow('"mtp.fc.weight" is missing from the 2 files')
  })

  it('may be one file of another name, by config or alone', async () => {
    const alone = directoryOf({ 'config.json': {}, 'gptq_model-4bit-128g.safetensors': one })
    expect((await openCheckpoint(alone)).tensors.size).toBe(1)
    const named = directoryOf({
      'config.json': {},
      'quantize_config.json': { bits: 4, model_file_base_name: 'gptq_model-4bit-128g' },
      'gptq_model-4bit-128g.safetensors': one,
      'other.safetensors': two,
    })
    expect((await openCheckpoint(named)).tensors.has('a')).toBe(true)
  })

  it('are refused when it is not clear which they are', async () => {
    await refusedShards({ 'x.safetensors': one, 'y.safetensors': two }, '2 safetensors files', 'index')
    await refusedShards({ 'pytorch_model.bin': one }, 'no safetensors file', '"pytorch_model.bin"')
    const named = { bits: 4, model_file_base_name: '../x' }
    await refusedShards({ 'quantize_config.json': named, 'model.safetensors': one }, 'plain file name')
  })
})

describe('abort', () => {
  it("rejects with the signal's reason", async () => {
    const directory = directoryOf({ 'config.json': {}, 'model.safetensors': safetensors({ a: NORM }) })
    const open = (signal: AbortSignal) => openCheckpoint(directory, { signal })
    await expect(open(AbortSignal.abort('no longer wanted'))).rejects.toBe('no longer wanted')
    const controller = new AbortController()
    const opening = open(controller.signal)
    controller.abort()
    await expect(opening).rejects.toBe(controller.signal.reason)
  })
})

describe('vectors and tables', () => {
  const directory = () =>
    directoryOf({
      'config.json': {},
      'model.safetensors': safetensors({
        'norm.weight': NORM,
        'embed.weight': { dtype: 'BF16', shape: [10, 4] },
        'wide.weight': { dtype: 'F64', shape: [8] },
        ids: { dtype: 'I32', shape: [8] },
      }),
    })

  it('have the shapes that the model needs', async () => {
    const checkpoint = await openCheckpoint(directory())
    expect(checkpoint.vector('norm.weight', [8])).toMatchObject({ kind: 'vector', name: 'norm.weight', length: 8 })
    expect(checkpoint.table('embed.weight', 10, 4)).toMatchObject({ kind: 'matrix', out: 10, in: 4 })
    expect(() => checkpoint.vector('norm.weight', [9])).toThrow('[9]')
    expect(() => checkpoint.table('embed.weight', 4, 10)).toThrow('(BF16 [10, 4] in model.safetensors)')
    expect(() => checkpoint.vector('wide.weight', [8])).toThrow('F64')
    expect(() => checkpoint.vector('ids', [8])).toThrow('F16 or BF16 or F32')
    expect(() => checkpoint.vector('norm.bias', [8])).toThrow('"norm" has "norm.weight"')
  })
})

describe('weights of another kind than safetensors', () => {
  it('are named if they are GGUF', async () => {
    const unsupported = {
      code: 'UNSUPPORTED_MODEL',
      message: expect.stringMatching(/a-Q4_K_M\.gguf holds weights .*GGUF/),
    }
    const directory = directoryOf({ 'a-Q4_K_M.gguf': 'GGUF', 'config.json': {} })
    await expect(openCheckpoint(directory)).rejects.toMatchObject(unsupported)
    await expect(openCheckpoint(join(directory, 'a-Q4_K_M.gguf'))).rejects.toMatchObject(unsupported)
    await expect(openCheckpoint(directoryOf({ 'a-Q4_K_M.gguf': 'GGUF' }))).rejects.toMatchObject(unsupported)
    const both = directoryOf({ 'a.gguf': 'GGUF', 'config.json': {}, 'model.safetensors': safetensors({ a: NORM }) })
    expect((await openCheckpoint(both)).tensors.size).toBe(1)
  })
})

describe('links', () => {
  const files = { 'config.json': {}, 'model.safetensors': safetensors({ a: NORM }) }
  /** Laid out as the cache of the Hub is; returns the snapshot's directory. */
  function cache(): string {
    const blobs = Object.fromEntries(Object.entries(files).map(([name, content]) => [`blobs/of-${name}`, content]))
    const directory = directoryOf({ ...blobs, 'snapshots/main/README.md': 'x' })
    const snapshot = join(directory, 'snapshots/main')
    for (const name of Object.keys(files)) symlinkSync(`../../blobs/of-${name}`, join(snapshot, name))
    return snapshot
  }

  it('into blobs are followed', async () => {
    expect((await openCheckpoint(cache())).tensors.size).toBe(1)
  })

  it.each(['config.json', 'model.safetensors'])('to a missing blob are reported as such: %s', async (name) => {
    const snapshot = cache()
    rmSync(join(snapshot, '../../blobs', `of-${name}`))
    const { message } = await openingError(snapshot)
    expect(message).toContain(`${name} is a link to ../../blobs/of-${name}, which does not exist`)
  })

  it.each(['config.json', 'model.safetensors'])('that lead nowhere are refused: %s', async (name) => {
    const directory = directoryOf(files)
    rmSync(join(directory, name))
    symlinkSync(name, join(directory, name))
    expect((await openingError(directory)).message).toMatch(/cannot be read: ELOOP/)
    rmSync(join(directory, name))
    symlinkSync('/', join(directory, name))
    expect((await openingError(directory)).message).toMatch(/is a directory/)
  })
})

describe('Git LFS pointers', () => {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'ab'.repeat(32)}\nsize 4022680\n`
  const files = {
    'config.json': {},
    'one.safetensors': safetensors({ a: NORM }),
    'model.safetensors.index.json': { weight_map: { a: 'one.safetensors' } },
  }
  it.each([
    'config.json',
    'one.safetensors',
    'model.safetensors.index.json',
    'generation_config.json',
    'quantize_config.json',
  ])('are reported in place of %s', async (name) => {
    const { message } = await openingError(directoryOf({ ...files, [name]: pointer }))
    expect(message).toContain(`${name} is a Git LFS pointer to a file of 4022680 bytes`)
    expect(message).toContain('git lfs pull')
  })
})
