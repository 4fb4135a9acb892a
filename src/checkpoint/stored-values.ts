/**
 * Reads the few tensors whose values decide how a linear is interpreted: zero points and group indices. Configs are
 * often wrong about both, and plans depend on them because packed weights differ in size.
 */

import type { FileHandle } from 'node:fs/promises'
import { ceilDiv } from '../common/arithmetic'
import { forEachInSlices, yieldToEventLoop } from '../common/event-loop'
import type { TensorRef } from '../native/weights'
import { forEachConcurrently } from './concurrency'
import { isMissing, readExactly, withFile } from './files'
import { invalidCheckpoint } from './invalid'
import type { StoredValues, TensorTable } from './tensors'
import { inferZeroOffset } from './zero-offset'

/** Limit for a scanned tensor; the largest known ones have about 20 MB. */
const MAX_SCANNED_BYTES = 256 * 1024 * 1024

/** Bytes read and scanned without a pause; a multiple of a word. */
const WINDOW_BYTES = 1 << 20
/** Tensors scanned without a pause. */
const MAX_WINDOW_TENSORS = 1000
const CONCURRENT_FILES = 4

/** Scans the bytes of a tensor chunk by chunk, in order. */
interface Scan {
  readonly tensor: TensorRef
  /** @returns false once further bytes cannot change the outcome */
  feed(bytes: Buffer): boolean
}

const UNIFORM_CODES = { 4: [7, 8, 0], 8: [127, 128, 0] } as const

class ZerosScan implements Scan {
  #code: number | undefined
  #begun = false
  #uniform = true
  #column = 0

  readonly #lastMask: number
  readonly #filled: (word: number) => Buffer

  /** @param lastMask the bits of the last word of a row that are in use */
  constructor(
    readonly tensor: TensorRef,
    readonly bits: 4 | 8,
    lastMask: number,
    filled: (word: number) => Buffer,
  ) {
    this.#lastMask = lastMask
    this.#filled = filled
  }

  get outcome(): number | undefined {
    return this.#uniform ? this.#code : undefined
  }

  feed(bytes: Buffer): boolean {
    if (!this.#begun) this.#begin(bytes.readUInt32LE(0))
    this.#uniform &&= this.#code !== undefined && this.#isFilledWith(wordOf(this.#code, this.bits), bytes)
    return this.#uniform
  }

  #begin(first: number): void {
    this.#begun = true
    const mask = this.tensor.shape[1] === 1 ? this.#lastMask : 0xffffffff
    this.#code = UNIFORM_CODES[this.bits].find((code) => ((first ^ wordOf(code, this.bits)) & mask) === 0)
  }

  #isFilledWith(word: number, bytes: Buffer): boolean {
    if (this.#lastMask === 0xffffffff) return bytes.compare(this.#filled(word), 0, bytes.length) === 0
    const columns = this.tensor.shape[1] as number
    for (let at = 0; at < bytes.length; at += 4) {
      const mask = this.#column === columns - 1 ? this.#lastMask : 0xffffffff
      if (((bytes.readUInt32LE(at) ^ word) & mask) !== 0) return false
      this.#column = this.#column === columns - 1 ? 0 : this.#column + 1
    }
    return true
  }
}

function wordOf(code: number, bits: 4 | 8): number {
  return (code * (bits === 4 ? 0x11111111 : 0x01010101)) >>> 0
}

class GroupIndexScan implements Scan {
  #natural = true
  /** 0 until the second group begins. */
  #size = 0
  #group = 0
  #members = 0

  constructor(readonly tensor: TensorRef) {}

  get outcome(): number {
    if (!this.#natural) return 0
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#size
  }

  feed(bytes: Buffer): boolean {
    for (let at = 0; at < bytes.length && this.#natural; at += 4) this.#take(bytes.readInt32LE(at))
    return this.#natural
  }

  #take(group: number): void {
    if (this.#members === this.#size && this.#size > 0) this.#next()
    else if (this.#size === 0 && group === 1 && this.#members > 0) {
      this.#size = this.#members
      this.#next()
    }
    this.#natural = group === this.#group
    this.#members++
  }

  #next(): void {
    this.#group++
    this.#members = 0
  }
}

/** Bit width and mask of the last word, derived from the scales; undefined if the shapes are ambiguous. */
function packingOf(zeros: TensorRef, scales: TensorRef | undefined): { bits: 4 | 8; lastMask: number } | undefined {
  const [, words] = zeros.shape
  const outputs = scales?.shape[1]
  if (zeros.shape.length !== 2 || outputs === undefined || outputs < 1) return undefined
  const [four, eight] = [ceilDiv(outputs, 8) === words, ceilDiv(outputs, 4) === words]
  if (four === eight) return undefined
  const bits = four ? 4 : 8
  const used = (outputs * bits) % 32
  return { bits, lastMask: used === 0 ? 0xffffffff : 2 ** used - 1 }
}

/** Groups scans of adjacent tensors to be read at once; a single tensor may be longer than a window. */
function windowsOf(scans: readonly Scan[]): Scan[][] {
  const windows: Scan[][] = []
  let begin = 0
  for (const scan of [...scans].sort((a, b) => a.tensor.offset - b.tensor.offset)) {
    const { offset, bytes } = scan.tensor
    const current = windows.at(-1)
    if (current && current.length < MAX_WINDOW_TENSORS && offset + bytes - begin <= WINDOW_BYTES) current.push(scan)
    else {
      windows.push([scan])
      begin = offset
    }
  }
  return windows
}

async function readWindow(file: FileHandle, path: string, window: readonly Scan[]): Promise<void> {
  const begin = window[0]?.tensor.offset as number
  const last = window.at(-1)?.tensor as TensorRef
  const end = last.offset + last.bytes
  for (let at = begin; at < end; at += WINDOW_BYTES) {
    const length = Math.min(WINDOW_BYTES, end - at)
    const bytes = await readExactly(file, at, length, path)
    for (const scan of window) {
      const from = Math.max(0, scan.tensor.offset - at)
      const until = Math.min(length, scan.tensor.offset + scan.tensor.bytes - at)
      if (!scan.feed(Buffer.from(bytes.buffer, from, until - from)) && window.length === 1) return
    }
  }
}

/**
 * Scans the zero points and group indices of all quantized linears: about half a megabyte per linear of a 72B model, in
 * chunks, without blocking the event loop.
 *
 * @throws BillfishError INVALID_CHECKPOINT if a file cannot be read; the reason of the signal if it aborts
 */
export async function readStoredValues(table: TensorTable, signal: AbortSignal | undefined): Promise<StoredValues> {
  const buffers = new Map<number, Buffer>()
  const filled = (word: number) => {
    let buffer = buffers.get(word)
    if (!buffer) {
      const one = Buffer.alloc(4)
      one.writeUInt32LE(word)
      buffer = Buffer.alloc(WINDOW_BYTES, one)
      buffers.set(word, buffer)
    }
    return buffer
  }
  const zeros: ZerosScan[] = []
  const orders: GroupIndexScan[] = []
  const byFile = new Map<number, Scan[]>()
  const add = (scan: Scan) => {
    const scans = byFile.get(scan.tensor.file)
    if (scans) scans.push(scan)
    else byFile.set(scan.tensor.file, [scan])
  }
  await forEachInSlices(table.tensors.values(), (tensor) => {
    const { name, dtype, bytes } = tensor
    if (dtype !== 'I32' || bytes === 0) return
    if (!/\.(qzeros|(weight_)?g_idx)$/.test(name)) return
    if (bytes > MAX_SCANNED_BYTES) {
      throw invalidCheckpoint(
        `Tensor ${table.describe(tensor)} has ${bytes} bytes, but zero points and group indices may have at most ${MAX_SCANNED_BYTES}`,
      )
    }
    if (name.endsWith('.qzeros')) {
      const packing = packingOf(tensor, table.tensors.get(`${name.slice(0, -'qzeros'.length)}scales`))
      if (!packing) return
      const scan = new ZerosScan(tensor, packing.bits, packing.lastMask, filled)
      zeros.push(scan)
      add(scan)
    } else {
      const scan = new GroupIndexScan(tensor)
      orders.push(scan)
      add(scan)
    }
  })
  const files = [...byFile]
  await forEachConcurrently(files.length, CONCURRENT_FILES, async (i) => {
    const [file, scans] = files[i] as [number, Scan[]]
    const path = table.files[file] as string
    try {
      const body = async (handle: FileHandle) => {
        for (const window of windowsOf(scans)) {
          signal?.throwIfAborted()
          await readWindow(handle, path, window)
          await yieldToEventLoop() // files are read at the same time
        }
      }
      await withFile(path, body, signal)
    } catch (error) {
      if (isMissing(error)) throw invalidCheckpoint(`${path} no longer exists`, error)
      throw error
    }
  })
  const codes = new Map<string, number | undefined>()
  const ambiguous: string[] = []
  await forEachInSlices(zeros, ({ tensor, bits, outcome }) => {
    codes.set(tensor.name, outcome)
    if (bits === 4 && (outcome === undefined || outcome === 0)) ambiguous.push(tensor.name)
  })
  const groupSizes = new Map<string, number>()
  await forEachInSlices(orders, ({ tensor, outcome }) => groupSizes.set(tensor.name, outcome))
  return { zeroOffset: await inferZeroOffset(table, ambiguous, signal), zeros: codes, groupSizes }
}
