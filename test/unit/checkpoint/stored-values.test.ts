import { truncateSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readTensors } from '../../../src/checkpoint/shards'
import { readStoredValues } from '../../../src/checkpoint/stored-values'
import type { StoredValues } from '../../../src/checkpoint/tensors'
import { directoryOf } from '../../support/directories'
import { safetensors, type TensorContents, words } from '../../support/tensors'

async function valuesOf(tensors: Record<string, TensorContents>): Promise<StoredValues> {
  const { table } = await readTensors(directoryOf({ 'model.safetensors': safetensors(tensors) }), undefined, undefined)
  return await readStoredValues(table, undefined)
}

const scales = (groups: number, out: number): TensorContents => ({ dtype: 'F16', shape: [groups, out] })

/** What is found of zeros for `out` outputs whose words are these. */
async function zerosOf(out: number, shape: [number, number], word: (i: number) => number): Promise<unknown> {
  const { zeros } = await valuesOf({ 'm.qzeros': words(shape, word), 'm.scales': scales(shape[0], out) })
  return zeros.has('m.qzeros') ? zeros.get('m.qzeros') : 'not read'
}

const groupSizeOf = async (groups: readonly number[]) =>
  (await valuesOf({ 'm.g_idx': words([groups.length], (i) => groups[i] as number) })).groupSizes.get('m.g_idx')

describe('stored zero points', () => {
  it.each([
    [64, [4, 8], 0x77777777, 7],
    [64, [4, 8], 0x88888888, 8],
    [64, [4, 8], 0, 0],
    [64, [4, 8], 0x66666666, undefined],
    [64, [4, 16], 0x7f7f7f7f, 127],
    [64, [4, 16], 0x80808080, 128],
    [64, [4, 16], 0x77777777, undefined],
    [64, [4, 8], 0x7f7f7f7f, undefined],
    [3, [4, 1], 0x77777777, 'not read'], // 3 outputs fill a word neither way
    [64, [4, 9], 0x77777777, 'not read'],
  ] as const)('of %i outputs in words %j that are all %i', async (out, shape, word, expected) => {
    expect(await zerosOf(out, [...shape], () => word)).toBe(expected)
  })

  it('differ wherever one of them does', async () => {
    for (const other of [0, 1, 7, 31])
      expect(await zerosOf(64, [4, 8], (i) => (i === other ? 0x77777767 : 0x77777777))).toBeUndefined()
  })

  it('end within a word, whose other codes do not count', async () => {
    const inLastWords = (word: number) => (i: number) => (i % 8 === 7 ? word : 0x77777777)
    expect(await zerosOf(61, [4, 8], inLastWords(0x00077777))).toBe(7)
    expect(await zerosOf(61, [4, 8], inLastWords(-0x7ff88889))).toBe(7)
    expect(await zerosOf(61, [4, 8], inLastWords(0x00067777))).toBeUndefined()
    expect(await zerosOf(61, [4, 8], (i) => (i === 3 ? 0x00077777 : inLastWords(0x00077777)(i)))).toBeUndefined()
    expect(await zerosOf(5, [3, 1], () => 0x00088888)).toBe(8)
  })

  it('may be larger than the read buffer', async () => {
    const count = 600_000 // words, 2.4 MB
    const last = (word: number) => (i: number) => (i === count - 1 ? word : 0x77777777)
    expect(await zerosOf(16, [count / 2, 2], last(0x77777777))).toBe(7)
    expect(await zerosOf(16, [count / 2, 2], last(0x77777776))).toBeUndefined()
    expect(await zerosOf(13, [count / 2, 2], (i) => (i % 2 ? 0x00077777 : 0x77777777))).toBe(7)
  })

  it('are those of each of many small tensors, in several files', async () => {
    const tensors = (from: number) => {
      const all: Record<string, TensorContents> = {}
      for (let i = from; i < from + 1500; i++) {
        all[`${i}.qzeros`] = words([1, 2], () => (i % 3 === 0 ? i : 0x77777777))
        all[`${i}.scales`] = scales(1, 16)
        all[`${i}.g_idx`] = words([4], (k) => (i % 2 === 0 ? k >> 1 : 3 - k))
      }
      return all
    }
    const shards = { 'a.safetensors': tensors(1), 'b.safetensors': tensors(1501) }
    const weight_map = Object.fromEntries(
      Object.entries(shards).flatMap(([file, stored]) => Object.keys(stored).map((name) => [name, file])),
    )
    const files = Object.fromEntries(Object.entries(shards).map(([file, stored]) => [file, safetensors(stored)]))
    const directory = directoryOf({ ...files, 'model.safetensors.index.json': { weight_map } })
    const { table } = await readTensors(directory, undefined, undefined)
    const { zeros, groupSizes } = await readStoredValues(table, undefined)
    for (let i = 1; i < 3001; i++) {
      expect(zeros.get(`${i}.qzeros`)).toBe(i % 3 === 0 ? undefined : 7)
      expect(groupSizes.get(`${i}.g_idx`)).toBe(i % 2 === 0 ? 2 : 0)
    }
  })
})

describe('a stored group index', () => {
  it.each([
    [[0, 0, 1, 1, 2, 2], 2],
    [[0, 0, 0, 1, 1, 1, 2], 3],
    [[0, 1, 2, 3], 1],
    [[0, 0, 0, 0], Number.POSITIVE_INFINITY],
    [[0], Number.POSITIVE_INFINITY],
    [[1, 0, 1, 0], 0],
    [[1, 1, 0, 0], 0],
    [[0, 0, 1, 2, 2, 1], 0],
    [[0, 0, 1, 1, 1, 2], 0],
    [[0, 0, 2, 2], 0],
    [[-1, 0], 0],
    [[0, 0, 1, 1, 2, 3], 0],
  ])('%j has groups of %i inputs in a row', async (groups, expected) => {
    expect(await groupSizeOf(groups)).toBe(expected)
  })
})

it('is refused if the file has been truncated', async () => {
  const directory = directoryOf({
    'model.safetensors': safetensors({ 'm.qzeros': words([64, 8], () => 0x77777777), 'm.scales': scales(64, 64) }),
  })
  const { table } = await readTensors(directory, undefined, undefined)
  truncateSync(join(directory, 'model.safetensors'), 300)
  await expect(readStoredValues(table, undefined)).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringContaining('ended after 300 bytes'),
  })
})

it('stops with its signal', async () => {
  const directory = directoryOf({
    'model.safetensors': safetensors({ 'm.g_idx': words([8], () => 0) }),
  })
  const { table } = await readTensors(directory, undefined, undefined)
  await expect(readStoredValues(table, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
})
