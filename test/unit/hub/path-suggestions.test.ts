import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
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

test('a file instead of its directory is reported as such, by every function that opens it', async () => {
  const file = join(directoryOf({ 'config.json': {} }), 'config.json')
  const hint = expect.stringContaining(`; pass its directory, ${join(file, '..')}`)
  expect(await messageFor(file)).toEqual(hint)
  await expect(planModel(file)).rejects.toMatchObject({ code: 'INVALID_OPTION', message: hint })
  await expect(loadTokenizer(file)).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT', message: hint })
})

describe('the address of a model on the Hub', () => {
  test.each([
    'https://huggingface.co/Qwen/Qwen3-8B',
    'huggingface.co/Qwen/Qwen3-8B',
    'hf.co/Qwen/Qwen3-8B',
    'hf://Qwen/Qwen3-8B',
    'models--Qwen--Qwen3-8B',
  ])('%s leads to its name, which downloads it', async (given) => {
    const hint = expect.stringContaining("the Hub's model is called Qwen/Qwen3-8B")
    expect(await messageFor(given)).toEqual(hint)
    await expect(planModel(given)).rejects.toMatchObject({ code: 'INVALID_OPTION', message: hint })
    await expect(loadTokenizer(given)).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT', message: hint })
  })

  test('is not seen in other paths', async () => {
    expect(await messageFor('/nowhere/at/all')).not.toContain('is called')
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
    expect(await messageFor(directory)).toMatch(
      /has no config\.json: expected a checkpoint directory .* a model's name there$/,
    )
    symlinkSync('itself', join(directory, 'itself'))
    expect(await messageFor(join(directory, 'itself'))).toContain('ELOOP')
  })

  test('but a file leads to its directory', async () => {
    const directory = directoryOf({ 'model.safetensors': safetensors({}), 'config.json': {} })
    const message = await messageFor(join(directory, 'model.safetensors'))
    expect(message).toContain(
      `is a file: expected a checkpoint directory as on the Hugging Face Hub, or a model's name there; pass its directory`,
    )
    expect(message.endsWith(directory)).toBe(true)
  })
})
