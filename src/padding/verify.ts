/**
 * Proves that padded MLPs compute what the original ones do, layer by layer: both take the same random activations, and
 * must give the same outputs in fp64, bit for bit, since sums go in the same order and added zeros change none of them.
 * Every weight takes part, so one wrong bit of one shows.
 */
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { readSafetensorsHeader } from '../checkpoint/safetensors'
import { TensorTable } from '../checkpoint/tensors'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../errors'
import type { LinearSpec } from '../native/weights'
import { resolveLinear } from '../quantization/linear'
import { type ChannelRun, type PaddingPlacement, paddingRuns, ZEROS } from '../quantization/padding'
import { throwIfPaddingAborted } from './abort'
import type { GatedMlp, GatedMlps } from './gated-mlp'
import { multiply, type OpenFiles } from './multiply'

export interface Verification {
  readonly layers: number
  /** Largest difference of an output, and the largest output beside it, for scale. 0: the same bit for bit. */
  readonly maxDifference: number
  readonly maxOutput: number
}

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined
  readonly onLayer?: ((done: number) => void) | undefined
}

/** The linears of padded files, with the same checks as in an original. */
async function openPadded(
  checkpoint: Checkpoint,
  { mlps }: GatedMlps,
  paths: readonly string[],
  padded: number,
): Promise<GatedMlp[]> {
  const headers = await Promise.all(paths.map((path, i) => readSafetensorsHeader(path, i, undefined)))
  const tensors = new Map(headers.flatMap((header) => header.tensors).map((tensor) => [tensor.name, tensor]))
  const unsupported = new Map(headers.flatMap((header) => header.unsupported).map((tensor) => [tensor.name, tensor]))
  const table = new TensorTable(paths, tensors, unsupported)
  const linear = ({ name }: LinearSpec, out: number, inputs: number) =>
    resolveLinear(table, checkpoint.quantization, name, out, inputs, false)
  return mlps.map(({ layer, gate, up, down }) => ({
    layer,
    gate: linear(gate, padded, gate.in),
    up: linear(up, padded, up.in),
    down: linear(down, down.out, padded),
  }))
}

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
interface MlpPair {
  readonly original: GatedMlp
  readonly padded: GatedMlp
  readonly runs: readonly ChannelRun[]
}

/** So large that no weight but 0 makes it vanish beside other summands. */
const HUGE = 1e200

/**
 * Compares an MLP with its padded form: the outputs of gate and of up, which must be 0 in the padded places; and the
 * outputs of down, whose inputs in those places are made huge, since its columns there must be 0 whatever comes in.
 *
 * @returns the largest difference and the largest output; NaN where either is
 */
async function compareMlps(originalFiles: OpenFiles, paddedFiles: OpenFiles, { original, padded, runs }: MlpPair) {
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

/** Opens files; `body` gets them. */
async function withFiles<Result>(
  paths: readonly string[],
  body: (files: OpenFiles) => Promise<Result>,
): Promise<Result> {
  const handles: FileHandle[] = []
  try {
    for (const path of paths) handles.push(await open(path, 'r'))
    return await body({ handles, paths })
  } finally {
    for (const handle of handles) await handle.close()
  }
}

/**
 * Verifies all MLPs of a checkpoint against the padded files `paths`.
 *
 * @throws BillfishError INTERNAL where a padded MLP computes something else; INVALID_CHECKPOINT where the padded files
 *   are not what they should be; ABORTED
 */
export async function verifyPadding(
  checkpoint: Checkpoint,
  found: GatedMlps,
  paths: readonly string[],
  padded: number,
  placement: PaddingPlacement,
  { signal, onLayer }: VerifyOptions,
): Promise<Verification> {
  const paddedMlps = await openPadded(checkpoint, found, paths, padded)
  const runs = paddingRuns(found.width, padded, placement)
  let maxOutput = 0
  onLayer?.(0)
  await withFiles(checkpoint.files, (originalFiles) =>
    withFiles(paths, async (paddedFiles) => {
      for (const [i, original] of found.mlps.entries()) {
        throwIfPaddingAborted(signal)
        const pair = { original, padded: paddedMlps[i] as GatedMlp, runs }
        const { difference, output } = await compareMlps(originalFiles, paddedFiles, pair)
        if (difference !== 0) {
          throw new BillfishError(
            'INTERNAL',
            `The padded MLP of ${found.layers}.${original.layer} differs from the original one by ${difference} (outputs up to ` +
              `${output}), but must be the same; nothing was published. If the disk is sound, this is a mistake in billfish.`,
          )
        }
        maxOutput = Math.max(maxOutput, output)
        onLayer?.(i + 1)
      }
    }),
  )
  return { layers: found.mlps.length, maxDifference: 0, maxOutput }
}
