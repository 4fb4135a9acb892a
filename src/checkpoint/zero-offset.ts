/**
 * Whether GPTQ's stored zero points are one too small (v1) or not (v2), told from the codes: weights are spread around
 * zero, so that the codes of a group are, on average, the zero point. A config that says the wrong one moves every weight
 * by a whole step.
 */
import type { FileHandle } from 'node:fs/promises'
import type { TensorRef } from '../native/weights'
import { readExactly, withFile } from './files'
import type { TensorTable } from './tensors'

/** What is looked at: some megabytes of a large model. */
const LINEARS = 6
const GROUPS = 3
const COLUMNS = 512
const ROWS = 128
/** Inputs of a linear whose group index is read as a whole. */
const MAX_INPUTS = 1 << 18
/**
 * How far the average code may lie from v1's or v2's zero point, in steps. Weights of 4 bits have a standard deviation of
 * some three steps, of which the mean of real ones is a hundredth. At 8 bits it is some fifty steps: nothing is told there.
 */
const TOLERANCE = 0.25
/** Half of all differences lie closer to the middle one than this; random codes and zero points have nearly 4. */
const SPREAD = 2
/** Of the middle one. */
const MAX_ERROR = 0.1

/** GPTQ's tensors of one linear with 4 bits whose zero points differ. */
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
  const isGptq = columns === outputs && zeros.shape[0] === groups && zeros.shape[1] === Math.ceil(outputs / 8)
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

/** Of some groups and outputs: the average code less the stored zero point. */
async function differences(linear: Linear, file: FileHandle, path: string): Promise<number[]> {
  const found: number[] = []
  const { codes, zeros, outputs, groups } = linear
  const columns = Math.min(COLUMNS, outputs)
  const words = async (tensor: TensorRef, row: number, count: number) =>
    new Uint32Array((await readExactly(file, tensor.offset + row * (tensor.shape[1] ?? 0) * 4, count * 4, path)).buffer)
  const groupOf = await groupsOf(linear, file, path)
  for (const group of spread(groups, GROUPS)) {
    const inputs = [...groupOf.keys()].filter((input) => groupOf[input] === group)
    const chosen = spread(inputs.length, ROWS).map((i) => inputs[i] as number)
    if (chosen.length < 16) continue
    const stored = await words(zeros, group, Math.ceil(columns / 8))
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
      // 15 is v1's way to write 0.
      if (zero !== 15) found.push((sums[column] as number) / chosen.length - zero)
    }
  }
  return found
}

function nibble(word: number, place: number): number {
  return (word >>> (4 * place)) & 15
}

/** At most `most` of the numbers below `count`, as far apart as they can be. */
function spread(count: number, most: number): number[] {
  const length = Math.min(count, most)
  return Array.from({ length }, (_, i) => Math.floor((i * count) / length))
}

/**
 * @param undecided names of the `qzeros` whose zero points are not all in the middle
 * @returns 1 (v1) or 0 (v2); undefined where the codes do not tell
 * @throws BillfishError INVALID_CHECKPOINT where a file cannot be read; the signal's reason when aborted
 */
export async function inferZeroOffset(
  table: TensorTable,
  undecided: readonly string[],
  signal: AbortSignal | undefined,
): Promise<0 | 1 | undefined> {
  const samples: number[] = []
  for (const i of spread(undecided.length, LINEARS)) {
    const linear = linearOf(table, undecided[i] as string)
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
  // Of a median of normal numbers: 1.2533 * 1.4826 * their median deviation / sqrt(n).
  if (deviation > SPREAD || (1.86 * deviation) / Math.sqrt(samples.length) > MAX_ERROR) return undefined
  return ([0, 1] as const).find((offset) => Math.abs(middle - offset) < TOLERANCE)
}

function median(samples: readonly number[]): number {
  return [...samples].sort((a, b) => a - b)[samples.length >> 1] as number
}
