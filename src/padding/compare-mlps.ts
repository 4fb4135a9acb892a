/** One MLP beside its padded form, on the thread that calls. */
import { type FileHandle, open } from 'node:fs/promises'
import { type ChannelRun, ZEROS } from '../quantization/padding'
import type { GatedMlp } from './gated-mlp'
import { multiply, type OpenFiles } from './multiply'

/** Numbers of about unit variance, the same for the same seed (mulberry32, and the sum of four of them). */
function randomNumbers(count: number, seed: number): Float64Array {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return Float64Array.from({ length: count }, () => (next() + next() + next() + next() - 2) * Math.sqrt(3))
}

/** Channels of the source in their padded places, `filler` in the others. */
function spread(h: Float64Array, runs: readonly ChannelRun[], filler: Float64Array): Float64Array {
  const result = filler.slice()
  let at = 0
  for (const { start, count } of runs) {
    if (start !== ZEROS) result.set(h.subarray(start, start + count), at)
    at += count
  }
  return result
}

function largest(values: Float64Array): number {
  return values.reduce((max, value) => (Math.abs(value) > max || Number.isNaN(value) ? Math.abs(value) : max), 0)
}

/** NaN anywhere gives NaN. */
function difference(a: Float64Array, b: Float64Array): number {
  return largest(a.map((value, i) => value - (b[i] as number)))
}

/** One MLP in its original and in its padded form. */
export interface MlpPair {
  readonly original: GatedMlp
  readonly padded: GatedMlp
  readonly runs: readonly ChannelRun[]
}

/** The largest difference and the largest output; NaN where either is. */
export interface Comparison {
  readonly difference: number
  readonly output: number
}

/** So large that no weight but 0 makes it vanish beside other summands. */
const HUGE = 1e200

/**
 * Compares an MLP with its padded form: the outputs of gate and of up, which must be 0 in the padded places; and the
 * outputs of down, whose inputs in those places are made huge, since its columns there must be 0 whatever comes in.
 */
async function compareMlps(
  originalFiles: OpenFiles,
  paddedFiles: OpenFiles,
  { original, padded, runs }: MlpPair,
): Promise<Comparison> {
  const x = randomNumbers(original.gate.in, original.layer)
  const zeros = new Float64Array(padded.gate.out)
  const differences: number[] = []
  const channels = async (part: 'gate' | 'up') => {
    const values = await multiply(originalFiles, original[part], x)
    differences.push(difference(await multiply(paddedFiles, padded[part], x), spread(values, runs, zeros)))
    return values
  }
  const gate = await channels('gate')
  const up = await channels('up')
  const product = gate.map((g, i) => (g / (1 + Math.exp(-g))) * (up[i] as number))
  const noise = randomNumbers(zeros.length, original.layer + 1).map((value) => value * HUGE)
  const y = await multiply(originalFiles, original.down, product)
  differences.push(difference(await multiply(paddedFiles, padded.down, spread(product, runs, noise)), y))
  return { difference: Math.max(...differences), output: largest(y) } // the maximum of NaN and anything is NaN
}

async function openAll(paths: readonly string[]): Promise<OpenFiles> {
  const handles: FileHandle[] = []
  try {
    for (const path of paths) handles.push(await open(path, 'r'))
    return { handles, paths }
  } catch (error) {
    for (const handle of handles) await handle.close()
    throw error
  }
}

/** Where the two forms of a checkpoint lie. */
export interface ComparedFiles {
  readonly original: readonly string[]
  readonly padded: readonly string[]
}

/** Compares MLPs, one at a time. */
export interface Comparer {
  compare(pair: MlpPair): Promise<Comparison>
  close(): Promise<void>
}

/** A comparer on this thread. */
export async function openComparer({ original, padded }: ComparedFiles): Promise<Comparer> {
  const originalFiles = await openAll(original)
  const paddedFiles = await openAll(padded)
  return {
    compare: (pair) => compareMlps(originalFiles, paddedFiles, pair),
    async close() {
      for (const handle of [...originalFiles.handles, ...paddedFiles.handles]) await handle.close()
    },
  }
}
