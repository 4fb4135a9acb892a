import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../src/index'
import { checkHiddenStates } from '../../src/pipeline/finite'
import { golden, modelDirectory } from '../support/fixtures'

const name = 'qwen3-bf16'
const prompt = golden(name).prompts.p7 as number[]
const modules = ['model.embed_tokens', 'model.layers.0', 'model.layers.1']
let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'billfish-finite-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

function headerOf(file: string): Record<string, unknown> {
  const bytes = readFileSync(file)
  return JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString())
}

test('the first state that is not finite is named, with position and channel', () => {
  const good = Float32Array.of(1, 2, 3, 4)
  const states = [good, Float32Array.of(1, 2, 3, Number.NaN), Float32Array.of(1, Number.NaN, 3, Number.NaN)]
  expect(() => checkHiddenStates(states, modules, 2, 10)).toThrow(
    expect.objectContaining({
      code: 'NON_FINITE',
      message: expect.stringMatching(/^The output of model\.layers\.0 is NaN at position 11, channel 1:/),
    }),
  )
  checkHiddenStates([good, good], modules, 2, 0)
  checkHiddenStates([], modules, 2, 0)
})

test('forward refuses what damaged weights give, and the model stays usable', async () => {
  cpSync(modelDirectory(name), directory, { recursive: true, dereference: true })
  const tensor = 'model.embed_tokens.weight'
  const shards = readdirSync(directory).filter((entry) => entry.endsWith('.safetensors'))
  const file = join(directory, shards.find((shard) => headerOf(join(directory, shard))[tensor]) as string)
  const bytes = readFileSync(file)
  const table = headerOf(file)[tensor] as { data_offsets: [number, number]; shape: [number, number] }
  const token = prompt[2] as number
  const row = 8 + Number(bytes.readBigUInt64LE(0)) + table.data_offsets[0] + token * table.shape[1] * 2
  bytes.writeUInt16LE(0x7fc0, row + 2 * 5) // a bf16 NaN
  writeFileSync(file, bytes)
  await using model = await loadModel(directory, { maxModelLength: 64 })
  const spoilt = { code: 'NON_FINITE' }
  await expect(model.forward(prompt)).rejects.toMatchObject(spoilt)
  await expect(model.forward(prompt, { hiddenStates: true })).rejects.toMatchObject({
    ...spoilt,
    message: expect.stringContaining('model.embed_tokens'),
  })
  const other = [0, 1, 2].find((id) => !prompt.includes(id)) ?? 3
  const { logits } = await model.forward([other, other])
  expect(logits.every(Number.isFinite)).toBe(true)
})
