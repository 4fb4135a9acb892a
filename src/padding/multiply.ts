/**
 * y = W x + b in fp64 for a linear as it is stored, in slabs of rows. Every output is summed from the first to the last
 * input, so that zeros between or behind them do not change a bit of it.
 *
 * This is what the verification computes with. It shares nothing with the code that pads, nor with the engine's readers;
 * its inner loops are binding/padding/products.h.
 */
import type { FileHandle } from 'node:fs/promises'
import { readExactly } from '../checkpoint/files'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { addon } from '../native/addon'
import type { LinearSpec, MatrixSpec, QuantizedSpec, TensorRef } from '../native/weights'
import { readInto } from './read-into'
import { floatsOf } from './stored-floats'

/** Opened files, by TensorRef.file, with their paths for messages. */
export interface OpenFiles {
  readonly handles: readonly FileHandle[]
  readonly paths: readonly string[]
}

const SLAB_BYTES = 4 * 1024 * 1024

function read({ handles, paths }: OpenFiles, tensor: TensorRef): Promise<Uint8Array> {
  return readExactly(handles[tensor.file] as FileHandle, tensor.offset, tensor.bytes, paths[tensor.file] as string)
}

/** The rows of a matrix a slab at a time. Two buffers take turns: the next slab is read while one is computed with. */
async function* slabs({ handles, paths }: OpenFiles, tensor: TensorRef) {
  const handle = handles[tensor.file] as FileHandle
  const path = paths[tensor.file] as string
  const rows = tensor.shape[0] as number
  const rowBytes = tensor.bytes / rows
  const rowsASlab = Math.min(rows, Math.max(1, Math.floor(SLAB_BYTES / rowBytes)))
  const buffers = [Buffer.allocUnsafeSlow(rowsASlab * rowBytes), Buffer.allocUnsafeSlow(rowsASlab * rowBytes)]
  const readFrom = async (row: number) => {
    const buffer = buffers[(row / rowsASlab) % 2] as Buffer
    const bytes = Math.min(rowsASlab, rows - row) * rowBytes
    await readInto(handle, path, buffer, 0, bytes, tensor.offset + row * rowBytes)
    return buffer.subarray(0, bytes)
  }
  let next = readFrom(0)
  for (let row = 0; row < rows; row += rowsASlab) {
    const bytes = await next
    if (row + rowsASlab < rows) {
      next = readFrom(row + rowsASlab)
      next.catch(() => {}) // awaited above, unless the reader stops before
    }
    yield { row, rows: bytes.byteLength / rowBytes, bytes }
  }
}

const words = (bytes: Uint8Array) => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)

/**
 * @param x - one number an input
 * @param leading - so many inputs are added one after another; others in 16 sums, by their place behind these. Zeros among
 *   the leading inputs, and behind all, change no bit
 * @returns one number an output
 */
export async function multiply(
  files: OpenFiles,
  linear: LinearSpec,
  x: Float64Array,
  leading = 0,
): Promise<Float64Array> {
  const y = await (linear.kind === 'matrix' ? dense(files, linear, x, leading) : quantized(files, linear, x, leading))
  if (linear.bias) {
    const bias = floatsOf(await read(files, linear.bias), linear.bias.dtype)
    for (let n = 0; n < y.length; n++) y[n] = (y[n] as number) + (bias[n] as number)
  }
  return y
}

async function dense(
  files: OpenFiles,
  { weight, out }: MatrixSpec,
  x: Float64Array,
  leading: number,
): Promise<Float64Array> {
  const y = new Float64Array(out)
  const type = weight.dtype as 'F32' | 'F16' | 'BF16' // what a MatrixSpec may have
  for await (const { row, rows, bytes } of slabs(files, weight)) {
    addon().multiplyFloats({ values: bytes, type, x, leading, y: y.subarray(row, row + rows) })
  }
  return y
}

/**
 * With a scale of 0 codes and zero points would not matter, but added ones have to agree, for readers that look at them alone.
 * A third is no fp16 or bf16 number, so no other scale is taken for a 0.
 */
const INSTEAD_OF_ZERO = 1 / 3

async function quantized(
  files: OpenFiles,
  linear: QuantizedSpec,
  x: Float64Array,
  leading: number,
): Promise<Float64Array> {
  const { format, in: inputs, groupSize, groupIndex } = linear
  const groupOf = groupIndex
    ? words(await read(files, groupIndex))
    : Int32Array.from({ length: inputs }, (_, k) => Math.floor(k / groupSize))
  if (groupIndex) checkGroupIndex(files, groupIndex, groupOf, groupsOf(linear))
  const scales = floatsOf(await read(files, linear.scales), linear.scales.dtype)
  for (let i = 0; i < scales.length; i++) if (scales[i] === 0) scales[i] = INSTEAD_OF_ZERO
  const zeros = linear.symmetric ? filled(linear, groupsOf(linear)) : await readZeros(files, linear)
  if (format === 'compressed-tensors') return byRows(files, linear, { scales, zeros, groupOf }, x, leading)
  if (format === 'gptq') return byColumns(files, linear, { scales, zeros, groupOf }, x)
  const inPlaces = { scales: toPlaces(scales, linear.out), zeros: toPlaces(zeros, linear.out), groupOf }
  return fromPlaces(await byColumns(files, linear, inPlaces, x))
}

/** @throws BillfishError INVALID_CHECKPOINT */
function checkGroupIndex({ paths }: OpenFiles, { file, name }: TensorRef, groupOf: Int32Array, groups: number): void {
  const wrong = groupOf.findIndex((group) => group < 0 || group >= groups)
  if (wrong < 0) return
  throw invalidCheckpoint(
    `${paths[file]}: ${name} says that input ${wrong} is of group ${groupOf[wrong]}, but there are ${groups} groups`,
  )
}

/** What scales and zero points say: weight = scale * (code - zero). In the format's own order. */
interface Grid {
  readonly scales: Float32Array
  readonly zeros: Uint8Array
  /** The group of every input. */
  readonly groupOf: Int32Array
}

function groupsOf({ format, scales }: QuantizedSpec): number {
  return scales.shape[format === 'compressed-tensors' ? 1 : 0] as number
}

/** Zero points in the middle of the codes. */
function filled({ bits, out }: QuantizedSpec, groups: number): Uint8Array {
  return new Uint8Array(groups * out).fill(2 ** (bits - 1))
}

/** Stored zero points, whether they count or not: [outputs, groups] of compressed-tensors, [groups, outputs] of others. */
export async function readZeros(files: OpenFiles, linear: QuantizedSpec): Promise<Uint8Array> {
  const { format, bits, out, zeroOffset } = linear
  const groups = groupsOf(linear)
  const zeros = filled(linear, groups)
  if (!linear.zeros) return zeros
  const packed = words(await read(files, linear.zeros))
  const mask = 2 ** bits - 1
  const zerosAWord = 32 / bits
  const rowWords = Math.ceil(out / zerosAWord)
  for (let g = 0; g < groups; g++) {
    for (let n = 0; n < out; n++) {
      const at = Math.floor(n / zerosAWord)
      const isCompressed = format === 'compressed-tensors'
      const word = packed[isCompressed ? at * groups + g : g * rowWords + at] as number
      const place = format === 'awq' ? AWQ_ORDER.indexOf((n % 8) as 0) : n % zerosAWord
      zeros[isCompressed ? n * groups + g : g * out + n] = ((word >>> (place * bits)) + zeroOffset) & mask
    }
  }
  return zeros
}

/** AutoAWQ's order of the columns in a word, from its lowest bits upwards. */
const AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7] as const

/** Rows of outputs from their order to that of [8 places in a word, words of a row]. */
function toPlaces<Numbers extends Float32Array | Uint8Array>(values: Numbers, out: number): Numbers {
  const result = values.slice() as Numbers
  for (let row = 0; row < values.length; row += out) {
    for (const [place, column] of AWQ_ORDER.entries()) {
      for (let c = 0; c < out / 8; c++) result[row + place * (out / 8) + c] = values[row + 8 * c + column] as number
    }
  }
  return result
}

function fromPlaces(values: Float64Array): Float64Array {
  const result = new Float64Array(values.length)
  for (const [place, column] of AWQ_ORDER.entries()) {
    for (let c = 0; c < values.length / 8; c++) {
      result[8 * c + column] = values[place * (values.length / 8) + c] as number
    }
  }
  return result
}

/** Slabs have all inputs of some outputs. */
async function byRows(
  files: OpenFiles,
  { codes, bits, out }: QuantizedSpec,
  { scales, zeros, groupOf }: Grid,
  x: Float64Array,
  leading: number,
): Promise<Float64Array> {
  const y = new Float64Array(out)
  const groups = scales.length / out
  for await (const { row, rows, bytes } of slabs(files, codes)) {
    addon().multiplyRows({
      codes: words(bytes),
      bits,
      scales: scales.subarray(row * groups, (row + rows) * groups),
      zeros: zeros.subarray(row * groups, (row + rows) * groups),
      groupOf,
      x,
      leading,
      y: y.subarray(row, row + rows),
    })
  }
  return y
}

/** Slabs have all outputs of some inputs. */
async function byColumns(
  files: OpenFiles,
  { codes, bits, out, in: inputs, format }: QuantizedSpec,
  { scales, zeros, groupOf }: Grid,
  x: Float64Array,
): Promise<Float64Array> {
  const y = new Float64Array(out)
  const inputsARow = inputs / (codes.shape[0] as number)
  for await (const { row, rows, bytes } of slabs(files, codes)) {
    const [from, to] = [row * inputsARow, (row + rows) * inputsARow]
    addon().addColumns({
      codes: words(bytes),
      order: format === 'awq' ? 'awq' : 'gptq',
      bits,
      scales,
      zeros,
      groupOf: groupOf.subarray(from, to),
      x: x.subarray(from, to),
      y,
    })
  }
  return y
}
