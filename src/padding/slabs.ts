/**
 * The bytes of a file, made of {@link Part}s, in slabs that are read, padded and written one by one, in any order: memory
 * is bounded by a slab, whatever a tensor's size.
 */
import type { FileHandle } from 'node:fs/promises'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { type ChannelRun, ZEROS } from '../quantization/padding'
import { placeCodes, sourceRows, stackRow } from './packed-codes'
import { bytesOf, type CodeRowsPart, type CodeStackPart, type Part, type RowsPart } from './parts'

/** Large enough for system calls not to count, small enough for what is read to be in a cache still when it is written. */
const SLAB_BYTES = 1024 * 1024

/** A part, or some of its bytes; of parts that have rows whole ones. */
interface Piece {
  readonly part: Part
  /** From the beginning of the part. */
  readonly from: number
  readonly bytes: number
}

/** Bytes [offset, offset + bytes) of the file that is written. */
export interface Slab {
  readonly offset: number
  readonly bytes: number
  readonly pieces: readonly Piece[]
}

/** Neighboring tensors that are copied become one part: most of a file is a few long ranges. */
function joined(parts: Iterable<Part>): Part[] {
  const result: Part[] = []
  for (const part of parts) {
    const last = result.at(-1)
    if (part.kind === 'copy' && last?.kind === 'copy' && last.offset + last.bytes === part.offset) {
      result[result.length - 1] = { ...last, bytes: last.bytes + part.bytes }
    } else if (bytesOf(part) > 0) result.push(part)
  }
  return result
}

/** Where a part may be cut. */
function granularity(part: Part): number {
  if (part.kind === 'rows') return part.paddedColumns * part.elementBytes
  if (part.kind === 'codeRows') return part.paddedWords * 4
  if (part.kind === 'codeStack') return part.columns * 4
  return part.kind === 'fill' && part.word !== 0 ? 4 : 1
}

/** Cuts parts that follow one another from byte `start` of the file on into slabs of about {@link SLAB_BYTES}. */
export function slabsOf(parts: Iterable<Part>, start: number): Slab[] {
  const slabs: Slab[] = []
  let offset = start
  let pieces: Piece[] = []
  let bytes = 0
  const flush = () => {
    if (bytes > 0) slabs.push({ offset, bytes, pieces })
    offset += bytes
    pieces = []
    bytes = 0
  }
  for (const part of joined(parts)) {
    const step = granularity(part)
    const size = bytesOf(part)
    for (let from = 0; from < size; ) {
      const room = Math.floor((SLAB_BYTES - bytes) / step) * step
      if (room === 0 && bytes > 0) flush()
      else {
        const length = Math.min(size - from, Math.max(room, step))
        pieces.push({ part, from, bytes: length })
        bytes += length
        from += length
      }
    }
  }
  flush()
  return slabs
}

/** Makes slabs; one of them at a time. */
export class SlabReader {
  #target = Buffer.alloc(0)
  #rows = Buffer.alloc(0)
  /** One row of words: a target may begin anywhere. */
  #words = new Int32Array(0)

  readonly #file: FileHandle
  readonly #path: string

  constructor(file: FileHandle, path: string) {
    this.#file = file
    this.#path = path
  }

  /** The slab's bytes, which are good until the next call. */
  async read(slab: Slab): Promise<Buffer> {
    if (this.#target.length < slab.bytes) this.#target = Buffer.allocUnsafeSlow(Math.max(slab.bytes, SLAB_BYTES))
    let at = 0
    for (const piece of slab.pieces) {
      await this.#place(piece, at)
      at += piece.bytes
    }
    return this.#target.subarray(0, slab.bytes)
  }

  async #place({ part, from, bytes }: Piece, at: number): Promise<void> {
    switch (part.kind) {
      case 'copy':
        return readInto(this.#file, this.#path, this.#target, at, bytes, part.offset + from)
      case 'literal':
        this.#target.set(part.data.subarray(from, from + bytes), at)
        return
      case 'fill':
        fillWords(this.#target, at, bytes, part.word)
        return
      case 'rows':
        return this.#placeRows(part, from, bytes, at)
      case 'codeRows':
        return this.#placeCodeRows(part, from, bytes, at)
      case 'codeStack':
        return this.#placeCodeStack(part, from, bytes, at)
    }
  }

  /** Reads bytes of the source to the beginning of {@link rows}. */
  async #readRows(offset: number, bytes: number): Promise<void> {
    if (this.#rows.length < bytes) this.#rows = Buffer.allocUnsafeSlow(Math.max(bytes, SLAB_BYTES))
    await readInto(this.#file, this.#path, this.#rows, 0, bytes, offset)
  }

  async #placeRows(part: RowsPart, from: number, bytes: number, at: number): Promise<void> {
    const rowBytes = part.columns * part.elementBytes
    const firstRow = from / granularity(part)
    const rows = bytes / granularity(part)
    await this.#readRows(part.offset + firstRow * rowBytes, rows * rowBytes)
    for (let row = 0; row < rows; row++) {
      const word = typeof part.fill === 'number' ? part.fill : (part.fill[firstRow + row] as number)
      padRow(part, this.#rows, row * rowBytes, this.#target, at + row * granularity(part), word)
    }
  }

  async #placeCodeRows(part: CodeRowsPart, from: number, bytes: number, at: number): Promise<void> {
    const rowBytes = part.words * 4
    const firstRow = from / granularity(part)
    const rows = bytes / granularity(part)
    await this.#readRows(part.offset + firstRow * rowBytes, rows * rowBytes)
    const target = this.#wordsOf(part.paddedWords)
    for (let row = 0; row < rows; row++) {
      const fill = typeof part.fill === 'number' ? part.fill : (part.fill[firstRow + row] as number)
      placeCodes(new Int32Array(this.#rows.buffer, row * rowBytes, part.words), target, part.runs, part.packing, fill)
      this.#target.set(bytesOfWords(target), at + row * granularity(part))
    }
  }

  async #placeCodeStack(part: CodeStackPart, from: number, bytes: number, at: number): Promise<void> {
    const rowBytes = granularity(part)
    const firstRow = from / rowBytes
    const rows = bytes / rowBytes
    const { first, end } = sourceRows(part, firstRow, rows)
    await this.#readRows(part.offset + first * rowBytes, (end - first) * rowBytes)
    const source = new Int32Array(this.#rows.buffer, 0, (end - first) * part.columns)
    const target = this.#wordsOf(part.columns)
    for (let row = 0; row < rows; row++) {
      stackRow(part, firstRow + row, source, first, target)
      this.#target.set(bytesOfWords(target), at + row * rowBytes)
    }
  }

  #wordsOf(count: number): Int32Array {
    if (this.#words.length < count) this.#words = new Int32Array(count)
    return this.#words.subarray(0, count)
  }
}

function bytesOfWords(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}

function fillWords(target: Buffer, at: number, bytes: number, word: number): void {
  if (word === 0) target.fill(0, at, at + bytes)
  else {
    const pattern = Buffer.alloc(4)
    pattern.writeInt32LE(word)
    target.fill(pattern, at, at + bytes)
  }
}

/** Below this many bytes a loop is faster than a call. */
const SHORT_RUN = 32

function padRow(part: RowsPart, source: Buffer, from: number, target: Buffer, to: number, word: number): void {
  const { elementBytes } = part
  let at = to
  for (const { start, count } of part.runs satisfies readonly ChannelRun[]) {
    const bytes = count * elementBytes
    if (start === ZEROS) fillWords(target, at, bytes, word)
    else {
      const begin = from + start * elementBytes
      if (bytes > SHORT_RUN) target.set(source.subarray(begin, begin + bytes), at)
      else for (let i = 0; i < bytes; i++) target[at + i] = source[begin + i] as number
    }
    at += bytes
  }
}

/**
 * Reads exactly `bytes` bytes from `offset` of the file on, to `at` in `target`.
 *
 * @throws BillfishError INVALID_CHECKPOINT where the file ends before that
 */
async function readInto(
  file: FileHandle,
  path: string,
  target: Buffer,
  at: number,
  bytes: number,
  offset: number,
): Promise<void> {
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.read(target, at + done, bytes - done, offset + done)
    if (bytesRead === 0) {
      throw invalidCheckpoint(`${path} ended at byte ${offset + done}: it has changed since it was opened; begin again`)
    }
    done += bytesRead
  }
}
