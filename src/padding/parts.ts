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

export type Part = CopyPart | FillPart | LiteralPart | RowsPart

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

/** Adds `data`, whole rows, behind `tensor`. */
export function appendRows(tensor: TensorRef, data: Uint8Array): PaddedTensor {
  const [rows = 1, ...inner] = tensor.shape
  const added = data.byteLength / (tensor.bytes / rows)
  return {
    source: tensor,
    shape: [rows + added, ...inner],
    parts: [
      { kind: 'copy', offset: tensor.offset, bytes: tensor.bytes },
      { kind: 'literal', data },
    ],
  }
}

function total(runs: readonly ChannelRun[]): number {
  return runs.reduce((sum, { count }) => sum + count, 0)
}
