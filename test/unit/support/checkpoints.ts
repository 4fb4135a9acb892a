/** Checkpoint directories for tests: written from scratch, and what an opened one has in it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect } from 'vitest'
import type { Checkpoint } from '../../../src/checkpoint/types'
import { BillfishError } from '../../../src/errors'
import { openCheckpoint } from '../../../src/open-checkpoint'

export interface StoredTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  /** Replaces the offsets that laying the tensors out one after another gives. */
  readonly data_offsets?: readonly unknown[]
  /** What it holds instead of zeros. */
  readonly data?: Uint8Array
}

const BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  I16: 2,
  BF16: 2,
  U8: 1,
  I8: 1,
  BOOL: 1,
}

/** A safetensors file from the text of its header and the number of bytes behind it (all zero). */
export function rawSafetensors(header: string, dataBytes: number, headerBytes = Buffer.byteLength(header)): Buffer {
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(headerBytes))
  return Buffer.concat([prefix, Buffer.from(header), Buffer.alloc(dataBytes)])
}

export function safetensors(tensors: Readonly<Record<string, StoredTensor>>): Buffer {
  let end = 0
  const contents: { begin: number; data: Uint8Array }[] = []
  const entries = Object.entries(tensors).map(([name, { data, ...tensor }]) => {
    const begin = end
    end += tensor.shape.reduce((product, dimension) => product * dimension, BYTES[tensor.dtype] ?? 1)
    if (data) contents.push({ begin, data })
    return [name, { data_offsets: [begin, end], ...tensor }]
  })
  const file = rawSafetensors(JSON.stringify(Object.fromEntries(entries)), end)
  for (const { begin, data } of contents) file.set(data, file.length - end + begin)
  return file
}

/** A tensor of 32-bit words. */
export function words(shape: readonly number[], word: (index: number) => number): StoredTensor {
  const values = Int32Array.from({ length: shape.reduce((product, dimension) => product * dimension, 1) }, (_, i) =>
    word(i),
  )
  return { dtype: 'I32', shape, data: new Uint8Array(values.buffer) }
}

const made: string[] = []
afterEach(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true })
})

/** A temporary directory with these files; objects are written as JSON. It is gone after the test. */
export function directoryOf(files: Readonly<Record<string, Buffer | string | object>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'billfish-test-'))
  made.push(directory)
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(directory, name, '..'), { recursive: true })
    const isRaw = typeof content === 'string' || Buffer.isBuffer(content)
    writeFileSync(join(directory, name), isRaw ? content : JSON.stringify(content))
  }
  return directory
}

export interface StoredLinear {
  readonly module: string
  readonly out: number
  readonly in: number
  readonly packed: boolean
}

/** Every linear (and every other matrix) that the checkpoint's tensors are, with the shape that they say. */
export function storedLinears(checkpoint: Checkpoint): StoredLinear[] {
  const { tensors, quantization } = checkpoint
  const linears: StoredLinear[] = []
  for (const { name, shape } of tensors.values()) {
    const module = name.slice(0, name.lastIndexOf('.'))
    const [rows = 0, columns = 0] = shape
    if (name.endsWith('.qweight')) {
      const out = tensors.get(`${module}.scales`)?.shape[1] ?? 0
      const zeroWords = tensors.get(`${module}.qzeros`)?.shape[1] ?? 0
      const codesAWord = quantization.method === 'gptq' ? out / zeroWords : 1
      linears.push({ module, out, in: rows * codesAWord, packed: true })
    } else if (name.endsWith('.weight_packed')) {
      const bits = quantization.method === 'compressed-tensors' ? (quantization.groups[0]?.bits ?? 4) : 4
      linears.push({ module, out: rows, in: (columns * 32) / bits, packed: true })
    } else if (name.endsWith('.weight') && shape.length === 2) {
      linears.push({ module, out: rows, in: columns, packed: false })
    }
  }
  return linears
}

/** What opening a checkpoint is refused with. */
export async function failure(directory: string): Promise<BillfishError> {
  const error: unknown = await openCheckpoint(directory).then(
    () => new Error('it opened'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(BillfishError)
  return error as BillfishError
}
