/**
 * Proves that padded files hold the original MLPs and zero channels: the addon reads both with the readers that models are
 * loaded with, which share nothing with the code that pads, and compares them channel by channel, bit by bit.
 */
import { resolve } from 'node:path'
import { readSafetensorsHeader } from '../checkpoint/safetensors'
import { readStoredValues } from '../checkpoint/stored-values'
import { TensorTable } from '../checkpoint/tensors'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { addon } from '../native/addon'
import type { PaddedLinear } from '../native/padding'
import { runTask } from '../native/task'
import type { LinearSpec, TensorRef } from '../native/weights'
import { resolveLinear } from '../quantization/linear'
import { type PaddingPlacement, paddingRuns } from '../quantization/padding'
import type { GatedMlp, GatedMlps } from './gated-mlp'

/** The result of verifying a padded checkpoint. */
export interface PaddingVerification {
  /** Layers compared. */
  readonly layers: number
  /**
   * Always 0: every channel of the original is there bit for bit, and every added one contributes exactly zero. Anything
   * else is an error.
   */
  readonly maxDifference: 0
}

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined
  readonly onLayer?: ((done: number) => void) | undefined
}

/** The linears of an MLP in the order in which they are compared. */
const PARTS = ['gate', 'up', 'down'] as const

/** With the zero points that are stored but not read, since the scheme is symmetric: other engines may read them. */
function withUnreadZeros(linear: LinearSpec, tensors: ReadonlyMap<string, TensorRef>): LinearSpec {
  return linear.kind === 'quantized' && linear.format === 'gptq'
    ? { ...linear, zeros: tensors.get(`${linear.name}.qzeros`) }
    : linear
}

/** The tensors of padded files, with the same checks as in an original. */
async function openPadded(paths: readonly string[]): Promise<TensorTable> {
  const headers = await Promise.all(paths.map((path, i) => readSafetensorsHeader(path, i, undefined)))
  const tensors = new Map(headers.flatMap((header) => header.tensors).map((tensor) => [tensor.name, tensor]))
  const unsupported = new Map(headers.flatMap((header) => header.unsupported).map((tensor) => [tensor.name, tensor]))
  const table = new TensorTable(paths, tensors, unsupported)
  return table.with(await readStoredValues(table, undefined))
}

/**
 * Verifies all MLPs of a checkpoint against the padded files `paths`.
 *
 * @throws BillfishError INTERNAL where a padded MLP differs, naming tensor, channel and values; INVALID_CHECKPOINT where the
 *   files are not what they should be; the signal's reason once it aborts
 */
export async function verifyPadding(
  checkpoint: Checkpoint,
  found: GatedMlps,
  paths: readonly string[],
  padded: number,
  placement: PaddingPlacement,
  { signal, onLayer }: VerifyOptions,
): Promise<PaddingVerification> {
  const table = await openPadded(paths)
  const runs = paddingRuns(found.width, padded, placement)
  const pairOf = (mlp: GatedMlp, part: (typeof PARTS)[number]): PaddedLinear => {
    const original = mlp[part]
    const [out, inputs] = part === 'down' ? [original.out, padded] : [padded, original.in]
    const linear = resolveLinear(table, checkpoint.quantization, original.name, out, inputs, false)
    return {
      original: withUnreadZeros(original, checkpoint.tensors),
      padded: withUnreadZeros(linear, table.tensors),
      ...(part === 'down' ? { inputs: runs } : { outputs: runs }),
    }
  }
  const linears = found.mlps.flatMap((mlp) => PARTS.map((part) => pairOf(mlp, part)))
  const { end, results } = await runTask(
    () =>
      new (addon().NativeTask)({
        kind: 'padding',
        originalFiles: checkpoint.files.map((path) => resolve(path)),
        paddedFiles: paths.map((path) => resolve(path)),
        linears,
      }),
    linears.length,
    { signal, onProgress: (done) => done % PARTS.length === 0 && onLayer?.(done / PARTS.length) },
  )
  if (end.difference !== null) {
    const { layer } = found.mlps[Math.floor(results.length / PARTS.length)] as GatedMlp
    throw new BillfishError(
      'INTERNAL',
      `The padded MLP of ${found.layers}.${layer} differs from the original one, but must be the same: ${end.difference}. ` +
        'Nothing was published; if the disk is sound, this is a bug in billfish.',
    )
  }
  return { layers: found.mlps.length, maxDifference: 0 }
}
