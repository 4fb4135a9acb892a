/**
 * Infers from the codes whether GPTQ's stored zero points are one too small (v1) or not (v2): weights are centered on
 * zero, so the mean code of a group is the zero point. A config that is wrong about it shifts every weight by a whole
 * step.
 */

import type { FileHandle } from 'node:fs/promises'
import { ceilDiv } from '../common/arithmetic'
import type { TensorRef } from '../native/weights'
import { readExactly, withFile } from './files'
import type { TensorTable } from './tensors'

/** Sample sizes: a few megabytes of a large model. */
const LINEARS = 6
const GROUPS = 3
const COLUMNS = 512
const ROWS = 128
/** Limit of inputs for which the whole group index is read. */
const MAX_INPUTS = 1 << 18
/**
 * Maximum distance, in steps, of the mean code from the zero point of v1 or v2. 4-bit weights have a standard deviation
 * of about three steps, and the mean of real weights is a hundredth of it. At 8 bits it is about fifty steps, so
 * nothing can be inferred.
 */
const TOLERANCE = 0.25
/** Maximum median absolute deviation; random codes and zero points have almost 4. */
const SPREAD = 2
/** Maximum standard error of the median. */
const MAX_ERROR = 0.1

/** The GPTQ tensors of one 4-bit linear with varying zero points. */
interface Linear {
  readonly codes: TensorRef
  readonly zeros: TensorRef
  readonly order: TensorRef | undefined
  readonly inputs: number
  readonly outputs: number
  readonly groups: number
}

function linearOf(table: TensorTable, name: string): Linear | undefined {
  const module = name.slice(0, -'qzeros'.length)
  const [zeros, codes, scales] = ['qzeros', 'qweight', 'scales'].map((part) => table.tensors.get(module + part))
  if (!zeros || codes?.dtype !== 'I32' || codes.shape.length !== 2 || scales?.shape.length !== 2) return undefined
  const [rows = 0, outputs = 0] = codes.shape
  const [groups = 0, columns] = scales.shape
  const inputs = rows * 8
  const isGptq = columns === outputs && zeros.shape[0] === groups && zeros.shape[1] === ceilDiv(outputs, 8)
  const order = table.tensors.get(`${module}g_idx`)
  if (!isGptq || groups < 1 || inputs > MAX_INPUTS) return undefined
  if (order === undefined ? inputs % groups !== 0 : order.dtype !== 'I32' || order.shape[0] !== inputs) return undefined
  return { codes, zeros, order, inputs, outputs, groups }
}

/** The group of every input. */
async function groupsOf(linear: Linear, file: FileHandle, path: string): Promise<Int32Array> {
  const { order, inputs, groups } = linear
  if (order === undefined)
    return Int32Array.from({ length: inputs }, (_, input) => Math.floor((input * groups) / inputs))
  return new Int32Array((await readExactly(file, order.offset, order.bytes, path)).buffer)
}

/** Mean code minus stored zero point, for a sample of groups and outputs. */
async function differences(linear: Linear, file: FileHandle, path: string): Promise<number[]> {
  const found: number[] = []
  const { codes, zeros, outputs, groups } = linear
  const columns = Math.min(COLUMNS, outputs)
  const words = async (tensor: TensorRef, row: number, count: number) =>
    new Uint32Array((await readExactly(file, tensor.offset + row * (tensor.shape[1] ?? 0) * 4, count * 4, path)).buffer)
  const groupOf = await groupsOf(linear, file, path)
  for (const group of evenlySpaced(groups, GROUPS)) {
    const inputs = [...groupOf.keys()].filter((input) => groupOf[input] === group)
    const chosen = evenlySpaced(inputs.length, ROWS).map((i) => inputs[i] as number)
    if (chosen.length < 16) continue
    const stored = await words(zeros, group, ceilDiv(columns, 8))
    const sums = new Float64Array(columns)
    let row = -1
    let line: Uint32Array = new Uint32Array()
    for (const input of chosen) {
      if (input >> 3 !== row) {
        row = input >> 3
        line = await words(codes, row, columns)
      }
      for (let column = 0; column < columns; column++) {
        sums[column] = (sums[column] as number) + nibble(line[column] as number, input & 7)
      }
    }
    for (let column = 0; column < columns; column++) {
      const zero = nibble(stored[column >> 3] as number, column & 7)
      // 15 encodes 0 in v1.
      if (zero !== 15) found.push((sums[column] as number) / chosen.length - zero)
    }
  }
  return found
}

function nibble(word: number, place: number): number {
  return (word >>> (4 * place)) & 15
}

/** At max `max` of the numbers below `count`, evenly spaced. */
function evenlySpaced(count: number, max: number): number[] {
  const length = Math.min(count, max)
  return Array.from({ length }, (_, i) => Math.floor((i * count) / length))
}

/**
 * @param ambiguous names of `qzeros` tensors whose zero points are not all in the middle
 * @returns 1 (v1) or 0 (v2); undefined if the codes are inconclusive
 * @throws BillfishError INVALID_CHECKPOINT if a file cannot be read; the reason of the signal if it aborts
 */
export async function inferZeroOffset(
  table: TensorTable,
  ambiguous: readonly string[],
  signal: AbortSignal | undefined,
): Promise<0 | 1 | undefined> {
  const samples: number[] = []
  for (const i of evenlySpaced(ambiguous.length, LINEARS)) {
    const linear = linearOf(table, ambiguous[i] as string)
    if (linear === undefined) continue
    const { codes, zeros, order } = linear
    const { file } = codes
    if (zeros.file !== file || (order && order.file !== file)) continue
    const path = table.files[file] as string
    signal?.throwIfAborted()
    samples.push(...(await withFile(path, (handle) => differences(linear, handle, path))))
  }
  if (samples.length === 0) return undefined
  const middle = median(samples)
  const deviation = median(samples.map((sample) => Math.abs(sample - middle)))
  // Standard error of the median of normal samples: 1.2533 * 1.4826 * MAD / sqrt(n).
  if (deviation > SPREAD || (1.86 * deviation) / Math.sqrt(samples.length) > MAX_ERROR) return undefined
  return ([0, 1] as const).find((offset) => Math.abs(middle - offset) < TOLERANCE)
}

function median(samples: readonly number[]): number {
  return [...samples].sort((a, b) => a - b)[samples.length >> 1] as number
}
