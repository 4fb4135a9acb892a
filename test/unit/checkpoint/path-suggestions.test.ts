import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { planModel } from '../../../src/plan'
import { loadTokenizer } from '../../../src/tokenizer'
import { directoryOf } from '../../support/directories'
import { safetensors } from '../../support/tensors'

const cached = (name: string) => ({
  [`models--${name}/blobs/x`]: 'x',
  [`models--${name}/refs/main`]: 'abc123',
  [`models--${name}/snapshots/000old/config.json`]: {},
  [`models--${name}/snapshots/abc123/config.json`]: {},
})

async function messageFor(path: string): Promise<string> {
  const error = await openCheckpoint(path).then(
    () => new Error('it opened'),
    (reason: Error & { code?: string }) => reason,
  )
  expect(error).toMatchObject({ code: 'INVALID_CHECKPOINT' })
  return error.message
}

afterEach(() => vi.unstubAllEnvs())

test('a file instead of its directory is reported as such, by every function that opens it', async () => {
  const file = join(directoryOf({ 'config.json': {} }), 'config.json')
  const hint = expect.stringContaining(`; pass its directory, ${join(file, '..')}`)
  expect(await messageFor(file)).toEqual(hint)
  await expect(planModel(file)).rejects.toMatchObject({ code: 'INVALID_OPTION', message: hint })
  await expect(loadTokenizer(file)).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT', message: hint })
})

describe('a name on the Hub', () => {
  test('is refused with the command that downloads it', async () => {
    vi.stubEnv('HF_HUB_CACHE', directoryOf({ other: 'x' }))
    const command = 'hf download Qwen/Qwen2.5-7B-Instruct --local-dir Qwen2.5-7B-Instruct'
    expect(await messageFor('Qwen/Qwen2.5-7B-Instruct')).toContain(command)
    await expect(planModel('Qwen/Qwen2.5-7B-Instruct')).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(command),
    })
    await expect(loadTokenizer('Qwen/Qwen2.5-7B-Instruct')).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(new RegExp(`^Qwen/Qwen2.5-7B-Instruct does not exist: .*${command}`)),
    })
    expect(await messageFor('/nowhere/at/all')).not.toContain('hf download')
  })

  test.each([
    'https://huggingface.co/Qwen/Qwen3-8B',
    'huggingface.co/Qwen/Qwen3-8B',
    'hf.co/Qwen/Qwen3-8B',
    'hf://Qwen/Qwen3-8B',
    'models--Qwen--Qwen3-8B',
  ])('is read from %s', async (given) => {
    vi.stubEnv('HF_HUB_CACHE', directoryOf({ other: 'x' }))
    expect(await messageFor(given)).toContain('run hf download Qwen/Qwen3-8B --local-dir Qwen3-8B')
  })

  test.each([
    ['HF_HUB_CACHE', ''],
    ['HF_HOME', 'hub/'],
    ['XDG_CACHE_HOME', 'huggingface/hub/'],
  ])('is found in the cache that %s names', async (variable, within) => {
    for (const name of ['HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'HF_HOME']) vi.stubEnv(name, '')
    const files = Object.entries(cached('Qwen--Qwen3-8B')).map(([name, content]) => [`${within}${name}`, content])
    const directory = directoryOf(Object.fromEntries(files))
    vi.stubEnv(variable, directory)
    const snapshot = join(directory, within, 'models--Qwen--Qwen3-8B/snapshots/abc123')
    expect(await messageFor('Qwen/Qwen3-8B')).toContain(`open ${snapshot}`)
  })
})

test('a path that a shell would have expanded is explained', async () => {
  expect(await messageFor('~/models/Qwen3-8B')).toContain('only shells expand ~')
})

test('a GGUF file is called that, whatever its name', async () => {
  const directory = directoryOf({ 'sha256-abc': 'GGUF and more', short: 'GG', 'config.json': {} })
  await expect(openCheckpoint(join(directory, 'sha256-abc'))).rejects.toMatchObject({
    code: 'UNSUPPORTED_MODEL',
    message: expect.stringContaining('GGUF'),
  })
  expect(await messageFor(join(directory, 'short'))).toContain('is a file')
})

describe('a directory without a checkpoint', () => {
  test("a model's in the cache leads to its main snapshot", async () => {
    const model = join(directoryOf(cached('a--b')), 'models--a--b')
    expect(await messageFor(model)).toContain(`open ${join(model, 'snapshots/abc123')}`)
  })

  test('the cache leads to a snapshot in it', async () => {
    const directory = directoryOf({ ...cached('a--b'), ...cached('c--d') })
    const message = await messageFor(directory)
    expect(message).toContain('with 2 models')
    expect(message).toContain(join(directory, 'models--a--b/snapshots/abc123'))
  })

  test('a parent directory leads to its subdirectory', async () => {
    const directory = directoryOf({ 'README.md': 'x', 'weights/config.json': {} })
    expect(await messageFor(directory)).toContain(`there is one in ${join(directory, 'weights')}`)
  })

  test('is called empty if it is', async () => {
    const directory = directoryOf({ 'README.md': 'x' })
    expect(await messageFor(directory)).toMatch(/has no config\.json: expected a checkpoint directory .* Hub$/)
    symlinkSync('itself', join(directory, 'itself'))
    expect(await messageFor(join(directory, 'itself'))).toContain('ELOOP')
  })

  test('but a file leads to its directory', async () => {
    const directory = directoryOf({ 'model.safetensors': safetensors({}), 'config.json': {} })
    const message = await messageFor(join(directory, 'model.safetensors'))
    expect(message).toContain(
      `is a file: expected a checkpoint directory as on the Hugging Face Hub; pass its directory`,
    )
    expect(message.endsWith(directory)).toBe(true)
  })
})
