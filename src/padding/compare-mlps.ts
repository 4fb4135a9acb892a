/** One MLP beside its padded form, on the thread that calls. */
import { type FileHandle, open } from 'node:fs/promises'
import type { LinearSpec } from '../native/weights'
import { type ChannelRun, ZEROS } from '../quantization/padding'
import type { GatedMlp } from './gated-mlp'
import { multiply, type OpenFiles, readZeros } from './multiply'

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

/** Where the last channels of the source begin, there and padded; nothing but zeros follows them. */
function lastChannels(runs: readonly ChannelRun[]): { original: number; padded: number } {
  const last = runs.findLast(({ start }) => start !== ZEROS) as ChannelRun
  const behind = runs.slice(runs.indexOf(last))
  const channels = (some: readonly ChannelRun[]) => some.reduce((sum, { count }) => sum + count, 0)
  return { original: last.start, padded: channels(runs) - channels(behind) }
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
  const last = lastChannels(runs)
  const y = await multiply(originalFiles, original.down, product, last.original)
  const spreadProduct = spread(product, runs, noise)
  differences.push(difference(await multiply(paddedFiles, padded.down, spreadProduct, last.padded), y))
  for (const [part, outputs] of [
    ['gate', runs],
    ['up', runs],
    ['down', [{ start: 0, count: original.down.out }]],
  ] as const) {
    differences.push(await unreadZerosDifference(originalFiles, paddedFiles, original[part], padded[part], outputs))
  }
  return { difference: Math.max(...differences), output: largest(y) } // the maximum of NaN and anything is NaN
}

/**
 * The largest difference of zero points that billfish itself does not read, since the scheme is symmetric, but others may:
 * those of GPTQ, [groups, outputs]. Added ones are in the middle of the codes.
 */
async function unreadZerosDifference(
  originalFiles: OpenFiles,
  paddedFiles: OpenFiles,
  original: LinearSpec,
  padded: LinearSpec,
  runs: readonly ChannelRun[],
): Promise<number> {
  if (original.kind === 'matrix' || padded.kind === 'matrix' || !original.symmetric || !original.zeros) return 0
  const before = await readZeros(originalFiles, original)
  const after = await readZeros(paddedFiles, padded)
  const added = new Float64Array(padded.out).fill(2 ** (original.bits - 1))
  const differences = [0]
  for (let group = 0; group * padded.out < after.length; group++) {
    const row = new Float64Array(before.subarray(group * original.out, (group + 1) * original.out))
    const expected = row.length === 0 ? added : spread(row, runs, added)
    const actual = new Float64Array(after.subarray(group * padded.out, (group + 1) * padded.out))
    differences.push(difference(actual, expected))
  }
  return Math.max(...differences)
}

async function openAll(paths: readonly string[]): Promise<OpenFiles> {
  const handles: FileHandle[] = []
  try {
    for (const path of paths) handles.push(await open(path, 'r'))
    return { handles, paths }
  } catch (error) {
    await closeAll(handles)
    throw error
  }
}

async function closeAll(handles: readonly FileHandle[]): Promise<void> {
  for (const handle of handles) await handle.close()
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
  const paddedFiles = await openAll(padded).catch(async (error) => {
    await closeAll(originalFiles.handles)
    throw error
  })
  return {
    compare: (pair) => compareMlps(originalFiles, paddedFiles, pair),
    async close() {
      await closeAll([...originalFiles.handles, ...paddedFiles.handles])
    },
  }
}
