/** Checkpoint directories for tests, and what is in an opened one. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'
import type { Checkpoint } from '../../src/checkpoint/types'

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

/** All linears and other matrices of the checkpoint, with the shapes of their tensors. */
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
