/**
 * Proves that padded MLPs compute what the original ones do, layer by layer: both take the same random activations, and
 * must give the same outputs in fp64, bit for bit, since sums go in the same order and added zeros change none of them.
 * Every weight takes part, so one wrong bit of one shows.
 */
import { availableParallelism } from 'node:os'
import { forEachConcurrently } from '../checkpoint/concurrency'
import { readSafetensorsHeader } from '../checkpoint/safetensors'
import { readStoredValues } from '../checkpoint/stored-values'
import { TensorTable } from '../checkpoint/tensors'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../errors'
import { type LinearSpec, storedBytes, type TensorRef } from '../native/weights'
import { onAbort } from '../options/signal'
import { resolveLinear } from '../quantization/linear'
import { type PaddingPlacement, paddingRuns } from '../quantization/padding'
import { type Comparer, openComparer } from './compare-mlps'
import { startComparers } from './comparing-threads'
import type { GatedMlp, GatedMlps } from './gated-mlp'

/** Less is computed before threads have started. */
const THREADS_FROM_BYTES = 64 * 1024 * 1024
/** More would wait for the disk, and take memory. */
const MAX_THREADS = 8

/** The result of verifying a padded checkpoint. */
export interface PaddingVerification {
  /** Layers compared. */
  readonly layers: number
  /** Largest difference of an MLP's output; 0 means bit for bit the same. */
  readonly maxDifference: number
  /** Largest output, for scale. */
  readonly maxOutput: number
}

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined
  readonly onLayer?: ((done: number) => void) | undefined
}

/** With the zero points that are stored but not read, since the scheme is symmetric. */
function withUnreadZeros({ layer, ...linears }: GatedMlp, find: (name: string) => TensorRef | undefined): GatedMlp {
  const complete = (linear: LinearSpec): LinearSpec =>
    linear.kind === 'quantized' && linear.format === 'gptq' && linear.symmetric
      ? { ...linear, zeros: find(`${linear.name}.qzeros`) }
      : linear
  return { layer, gate: complete(linears.gate), up: complete(linears.up), down: complete(linears.down) }
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
  const stored = table.with(await readStoredValues(table, undefined))
  const linear = ({ name }: LinearSpec, out: number, inputs: number) =>
    resolveLinear(stored, checkpoint.quantization, name, out, inputs, false)
  return mlps.map(({ layer, gate, up, down }) => {
    const mlp = {
      layer,
      gate: linear(gate, padded, gate.in),
      up: linear(up, padded, up.in),
      down: linear(down, down.out, padded),
    }
    return withUnreadZeros(mlp, (name) => tensors.get(name))
  })
}

/**
 * Verifies all MLPs of a checkpoint against the padded files `paths`.
 *
 * @throws BillfishError INTERNAL where a padded MLP computes something else; INVALID_CHECKPOINT where the padded files
 *   are not what they should be; the signal's reason once it aborts
 */
export async function verifyPadding(
  checkpoint: Checkpoint,
  found: GatedMlps,
  paths: readonly string[],
  padded: number,
  placement: PaddingPlacement,
  { signal, onLayer }: VerifyOptions,
): Promise<PaddingVerification> {
  const paddedMlps = await openPadded(checkpoint, found, paths, padded)
  const runs = paddingRuns(found.width, padded, placement)
  const layers = found.mlps.length
  const files = { original: checkpoint.files, padded: paths }
  const bytes = found.mlps.flatMap(({ gate, up, down }) => [gate, up, down]).reduce((sum, w) => sum + storedBytes(w), 0)
  const threads = bytes < THREADS_FROM_BYTES ? 0 : Math.min(availableParallelism(), layers, MAX_THREADS)
  const comparers = threads > 0 ? startComparers(files, threads) : [await openComparer(files)]
  const close = () => Promise.all(comparers.map((comparer) => comparer.close()))
  const stopListening = onAbort(signal, () => void close().catch(() => {})) // closed again at the end, where it is told of
  let maxOutput = 0
  let done = 0
  try {
    onLayer?.(done)
    await forEachConcurrently(layers, comparers.length, async (i, comparer) => {
      signal?.throwIfAborted()
      const original = withUnreadZeros(found.mlps[i] as GatedMlp, (name) => checkpoint.tensors.get(name))
      const pair = { original, padded: paddedMlps[i] as GatedMlp, runs }
      const { difference, output } = await (comparers[comparer] as Comparer).compare(pair)
      if (difference !== 0) {
        throw new BillfishError(
          'INTERNAL',
          `The padded MLP of ${found.layers}.${i} differs from the original one by ${difference} (outputs up to ${output}), but ` +
            'must be the same; nothing was published. If the disk is sound, this is a mistake in billfish.',
        )
      }
      maxOutput = Math.max(maxOutput, output)
      onLayer?.(++done)
    })
  } catch (error) {
    signal?.throwIfAborted() // which ends what is under way
    throw error
  } finally {
    stopListening()
    await close()
  }
  return { layers, maxDifference: 0, maxOutput }
}
