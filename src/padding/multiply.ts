/**
 * y = W x + b in fp64 for a linear as it is stored, in slabs of rows. Every output is summed from the first to the last
 * input (group by group where there are groups), so that zeros between or behind them do not change a bit of it.
 *
 * This is what the verification computes with. It shares nothing with the code that pads, nor with the engine's readers.
 */
import type { FileHandle } from 'node:fs/promises'
import { readExactly } from '../checkpoint/files'
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
 * @returns one number an output
 */
export async function multiply(files: OpenFiles, linear: LinearSpec, x: Float64Array): Promise<Float64Array> {
  const y = linear.kind === 'matrix' ? await dense(files, linear, x) : await quantized(files, linear, x)
  if (linear.bias) {
    const bias = floatsOf(await read(files, linear.bias), linear.bias.dtype)
    for (let n = 0; n < y.length; n++) y[n] = (y[n] as number) + (bias[n] as number)
  }
  return y
}

async function dense(
  files: OpenFiles,
  { weight, out, in: inputs }: MatrixSpec,
  x: Float64Array,
): Promise<Float64Array> {
  const y = new Float64Array(out)
  let scratch = new Float32Array(0)
  for await (const { row, rows, bytes } of slabs(files, weight)) {
    if (scratch.length < rows * inputs) scratch = new Float32Array(rows * inputs)
    const w = floatsOf(bytes, weight.dtype, scratch)
    let r = 0
    // Four outputs at a time: as many sums that do not wait for each other.
    for (; r + 4 <= rows; r += 4) {
      const at = r * inputs
      let [a, b, c, d] = [0, 0, 0, 0]
      for (let k = 0; k < inputs; k++) {
        const value = x[k] as number
        a += (w[at + k] as number) * value
        b += (w[at + inputs + k] as number) * value
        c += (w[at + 2 * inputs + k] as number) * value
        d += (w[at + 3 * inputs + k] as number) * value
      }
      y.set([a, b, c, d], row + r)
    }
    for (; r < rows; r++) {
      let sum = 0
      for (let k = 0; k < inputs; k++) sum += (w[r * inputs + k] as number) * (x[k] as number)
      y[row + r] = sum
    }
  }
  return y
}

/** What scales and zero points say: weight = scale * (code - zero). */
interface Grid {
  /** [groups, out], whatever the format's own order is. */
  readonly scales: Float32Array
  readonly zeros: Uint8Array
  /** The group of every input. */
  readonly groupOf: Int32Array
}

/** AutoAWQ's order of the columns in a word, from its lowest bits upwards. */
const AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7] as const

async function readGrid(files: OpenFiles, linear: QuantizedSpec): Promise<Grid> {
  const { format, bits, out, in: inputs, groupSize, symmetric } = linear
  const isCompressed = format === 'compressed-tensors'
  const groups = linear.scales.shape[isCompressed ? 1 : 0] as number
  const stored = floatsOf(await read(files, linear.scales), linear.scales.dtype)
  const scales = isCompressed ? transposed(stored, out, groups) : stored
  const zeros = new Uint8Array(groups * out).fill(2 ** (bits - 1))
  if (!symmetric && linear.zeros) unpackZeros(linear, words(await read(files, linear.zeros)), groups, zeros)
  const groupOf = linear.groupIndex
    ? words(await read(files, linear.groupIndex))
    : Int32Array.from({ length: inputs }, (_, k) => Math.floor(k / groupSize))
  return { scales, zeros, groupOf }
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) result[c * rows + r] = values[r * columns + c] as number
  }
  return result
}

function unpackZeros(linear: QuantizedSpec, packed: Int32Array, groups: number, zeros: Uint8Array): void {
  const { format, bits, out, zeroOffset } = linear
  const mask = 2 ** bits - 1
  const zerosAWord = 32 / bits
  const rowWords = Math.ceil(out / zerosAWord)
  for (let g = 0; g < groups; g++) {
    for (let n = 0; n < out; n++) {
      const at = Math.floor(n / zerosAWord)
      const word = packed[format === 'compressed-tensors' ? at * groups + g : g * rowWords + at] as number
      const place = format === 'awq' ? AWQ_ORDER.indexOf((n % 8) as 0) : n % zerosAWord
      zeros[g * out + n] = ((word >>> (place * bits)) + zeroOffset) & mask
    }
  }
}

async function quantized(files: OpenFiles, linear: QuantizedSpec, x: Float64Array): Promise<Float64Array> {
  const grid = await readGrid(files, linear)
  const sums = new GroupSums(linear, grid, x)
  for await (const { row, rows, bytes } of slabs(files, linear.codes)) {
    const codes = words(bytes)
    const columns = linear.codes.shape[1] as number
    for (let r = 0; r < rows; r++) {
      const line = codes.subarray(r * columns, (r + 1) * columns)
      if (linear.format === 'gptq') sums.addGptqRow(line, (row + r) * (32 / linear.bits))
      else if (linear.format === 'awq') sums.addAwqRow(line, row + r)
      else sums.addOutput(line, row + r)
    }
  }
  sums.endGroup()
  return sums.y
}

/** y = sum over groups of scale * (sum of (code - zero) * x) */
class GroupSums {
  readonly y: Float64Array
  /** Of the group under way, for every output. */
  private readonly sums: Float64Array
  private readonly zeros: Float64Array
  private group = -1

  constructor(
    private readonly linear: QuantizedSpec,
    private readonly grid: Grid,
    private readonly x: Float64Array,
  ) {
    this.y = new Float64Array(linear.out)
    this.sums = new Float64Array(linear.out)
    this.zeros = new Float64Array(linear.out)
  }

  /** A row of words, each with the codes of consecutive inputs from `k` on, one word an output. */
  addGptqRow(line: Int32Array, k: number): void {
    const { sums, zeros } = this
    const { bits } = this.linear
    const mask = 2 ** bits - 1
    for (let shift = 0; shift < 32; shift += bits) {
      const input = k + shift / bits
      this.begin(input)
      const value = this.x[input] as number
      for (let n = 0; n < line.length; n++) {
        const code = ((line[n] as number) >>> shift) & mask
        sums[n] = (sums[n] as number) + (code - (zeros[n] as number)) * value
      }
    }
  }

  /** The codes of input `k` for all outputs. */
  addAwqRow(line: Int32Array, k: number): void {
    this.begin(k)
    const { sums, zeros } = this
    const value = this.x[k] as number
    for (const [i, column] of AWQ_ORDER.entries()) {
      for (let c = 0, n: number = column; c < line.length; c++, n += 8) {
        const code = ((line[c] as number) >>> (4 * i)) & 15
        sums[n] = (sums[n] as number) + (code - (zeros[n] as number)) * value
      }
    }
  }

  /** The codes of all inputs of output `n`. */
  addOutput(line: Int32Array, n: number): void {
    const { bits, in: inputs, out } = this.linear
    const { groupOf, scales, zeros } = this.grid
    const mask = 2 ** bits - 1
    const codesAWord = 32 / bits
    let [group, zero, sum, y] = [-1, 0, 0, 0]
    const end = () => {
      if (group >= 0) y += (scales[group * out + n] as number) * sum
    }
    for (let k = 0; k < inputs; k++) {
      if (groupOf[k] !== group) {
        end()
        group = groupOf[k] as number
        zero = zeros[group * out + n] as number
        sum = 0
      }
      const code = ((line[Math.floor(k / codesAWord)] as number) >>> ((k % codesAWord) * bits)) & mask
      sum += (code - zero) * (this.x[k] as number)
    }
    end()
    this.y[n] = y
  }

  /** Ends the group before, if input `k` is of another one. In act-order that may be at every input. */
  private begin(k: number): void {
    const group = this.grid.groupOf[k] as number
    if (group === this.group) return
    this.endGroup()
    this.group = group
    const { out } = this.linear
    this.zeros.set(this.grid.zeros.subarray(group * out, (group + 1) * out))
  }

  endGroup(): void {
    const { out } = this.linear
    const { scales } = this.grid
    const at = this.group * out
    for (let n = 0; n < out && this.group >= 0; n++) {
      this.y[n] = (this.y[n] as number) + (scales[at + n] as number) * (this.sums[n] as number)
    }
    this.sums.fill(0)
  }
}
