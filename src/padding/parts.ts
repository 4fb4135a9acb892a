/** What a tensor of a padded checkpoint consists of, from its first to its last byte. */
import type { TensorRef } from '../native/weights'
import { type ChannelRun, ZEROS } from '../quantization/padding'

/** Bytes of the source file, as they are. */
export interface CopyPart {
  readonly kind: 'copy'
  /** From the start of the file. */
  readonly offset: number
  readonly bytes: number
}

/** One 32-bit word over and over; `bytes` is a multiple of 4 unless the word is 0. */
export interface FillPart {
  readonly kind: 'fill'
  readonly word: number
  readonly bytes: number
}

export interface LiteralPart {
  readonly kind: 'literal'
  readonly data: Uint8Array
}

/** Rows of a matrix whose columns are padded. */
export interface RowsPart {
  readonly kind: 'rows'
  /** Of the first row, from the start of the source file. */
  readonly offset: number
  readonly rows: number
  /** Bytes of a column: 2 for fp16, 4 for a word of codes. */
  readonly elementBytes: number
  readonly columns: number
  readonly paddedColumns: number
  readonly runs: readonly ChannelRun[]
  /** What zero columns hold: a word, or one for each row. 0 where a column has 2 bytes. */
  readonly fill: number | Int32Array
}

/** How codes lie in a word of 32 bits. */
export interface Packing {
  readonly bits: 4 | 8
  /** The place, from the lowest bits upwards, of each of the word's channels. */
  readonly places: readonly number[]
}

/** Rows of words whose codes are neighboring channels, which are padded. */
export interface CodeRowsPart {
  readonly kind: 'codeRows'
  /** Of the first row, from the start of the source file. */
  readonly offset: number
  readonly rows: number
  /** Words of a row, before and after. */
  readonly words: number
  readonly paddedWords: number
  readonly packing: Packing
  readonly runs: readonly ChannelRun[]
  /** What zero channels hold: the codes of a word, or of one for each row. */
  readonly fill: number | Int32Array
}

/** Rows of words, each of which has a code of several channels: row r those from r * (32 / bits) on, in their order. */
export interface CodeStackPart {
  readonly kind: 'codeStack'
  /** Of the tensor, from the start of the source file. */
  readonly offset: number
  readonly columns: number
  readonly bits: 4 | 8 | 32
  /** For every channel of the new rows the one of the source, or {@link ZEROS}. They ascend. */
  readonly channels: Int32Array
  /** What zero channels hold: the codes of a word, or of one for each column. */
  readonly fill: number | Int32Array
}

export type Part = CopyPart | FillPart | LiteralPart | RowsPart | CodeRowsPart | CodeStackPart

/** A tensor that becomes larger. */
export interface PaddedTensor {
  readonly source: TensorRef
  readonly shape: readonly number[]
  readonly parts: readonly Part[]
}

export function bytesOf(part: Part): number {
  switch (part.kind) {
    case 'literal':
      return part.data.byteLength
    case 'rows':
      return part.rows * part.paddedColumns * part.elementBytes
    case 'codeRows':
      return part.rows * part.paddedWords * 4
    case 'codeStack':
      return ((part.channels.length * part.bits) / 32) * part.columns * 4
    default:
      return part.bytes
  }
}

/** Pads the first dimension of `tensor`. */
export function padRows(tensor: TensorRef, runs: readonly ChannelRun[], word: number): PaddedTensor {
  const [rows = 1, ...inner] = tensor.shape
  const rowBytes = tensor.bytes / rows
  const parts = runs.map(({ start, count }): Part => {
    const bytes = count * rowBytes
    return start === ZEROS
      ? { kind: 'fill', word, bytes }
      : { kind: 'copy', offset: tensor.offset + start * rowBytes, bytes }
  })
  return { source: tensor, shape: [total(runs), ...inner], parts }
}

/** Pads the second dimension of the matrix `tensor`. */
export function padColumns(tensor: TensorRef, runs: readonly ChannelRun[], fill: number | Int32Array): PaddedTensor {
  const [rows = 0, columns = 0] = tensor.shape
  const paddedColumns = total(runs)
  const elementBytes = tensor.bytes / (rows * columns)
  const part: RowsPart = { kind: 'rows', offset: tensor.offset, rows, elementBytes, columns, paddedColumns, runs, fill }
  return { source: tensor, shape: [rows, paddedColumns], parts: [part] }
}

/** Pads the second dimension of the matrix `tensor`, whose words have the codes of neighboring columns. */
export function padCodeColumns(
  tensor: TensorRef,
  runs: readonly ChannelRun[],
  packing: Packing,
  fill: number | Int32Array,
): PaddedTensor {
  const [rows = 0, words = 0] = tensor.shape
  const paddedWords = (total(runs) * packing.bits) / 32
  const part: CodeRowsPart = { kind: 'codeRows', offset: tensor.offset, rows, words, paddedWords, packing, runs, fill }
  return { source: tensor, shape: [rows, paddedWords], parts: [part] }
}

/**
 * Pads the first dimension of the matrix `tensor`, whose words have the codes of neighboring rows; with `bits` 32 a word is
 * one code. Rows of words that are the source's, or all zeros, stay what they are.
 */
export function padCodeRows(
  tensor: TensorRef,
  runs: readonly ChannelRun[],
  bits: 4 | 8 | 32,
  fill: number | Int32Array,
): PaddedTensor {
  const [, columns = 0] = tensor.shape
  const { offset } = tensor
  const channels = Int32Array.from(
    runs.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => (start === ZEROS ? ZEROS : start + i))),
  )
  const channelsAWord = 32 / bits
  const rows = channels.length / channelsAWord
  const rowBytes = columns * 4
  /** Row of the source, minus this one, that is the same; or what else there is in it. */
  const kindOf = (row: number): number | 'zeros' | 'mixed' => {
    const own = channels.subarray(row * channelsAWord, (row + 1) * channelsAWord)
    const first = own[0] as number
    if (typeof fill === 'number' && own.every((channel) => channel === ZEROS)) return 'zeros'
    const isWhole = first !== ZEROS && first % channelsAWord === 0 && own.every((channel, i) => channel === first + i)
    return isWhole ? first / channelsAWord - row : 'mixed'
  }
  const parts: Part[] = []
  for (let row = 0; row < rows; ) {
    const kind = kindOf(row)
    let end = row + 1
    while (end < rows && kindOf(end) === kind) end++
    const bytes = (end - row) * rowBytes
    if (typeof kind === 'number') parts.push({ kind: 'copy', offset: offset + (row + kind) * rowBytes, bytes })
    else if (kind === 'zeros') parts.push({ kind: 'fill', word: fill as number, bytes })
    else {
      const own = channels.slice(row * channelsAWord, end * channelsAWord)
      parts.push({ kind: 'codeStack', offset, columns, bits, channels: own, fill })
    }
    row = end
  }
  return { source: tensor, shape: [rows, columns], parts }
}

/** Gives the tensor other contents. */
export function replaced(tensor: TensorRef, shape: readonly number[], data: ArrayBufferView): PaddedTensor {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return { source: tensor, shape, parts: [{ kind: 'literal', data: bytes }] }
}

function total(runs: readonly ChannelRun[]): number {
  return runs.reduce((sum, { count }) => sum + count, 0)
}
