/** What `padCheckpoint` can be asked for, and the size that follows from it. */
import { z } from 'zod'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { optionsOf } from '../options/read-options'
import { abortSignal, callback, flag, whole } from '../options/values'
import { type PaddingPlacement, paddedSize, paddingUnit } from '../quantization/padding'
import type { GatedMlps } from './gated-mlp'
import { isChannelwise } from './pad-linear'

/** Channels of a rank are a multiple of this: kernels of other engines (Marlin) want it, whatever the format. */
const TILE = 64
/** What 16-bit models are padded for, unless they say otherwise: quantizers' usual group size. */
const DEFAULT_GROUP_SIZE = 128

/** No model has a twentieth of it; more would be a mistake that fills the disk. */
const MAX_CHANNELS = 2 ** 20

/** How far padding has come. */
export interface PadProgress {
  readonly phase: 'writing' | 'verifying'
  /** Bytes when writing, layers when verifying. */
  readonly done: number
  readonly total: number
}

/** Options of {@link padCheckpoint}. Give `parallelSizes`, `to`, or both. */
export interface PadOptions {
  /** Tensor-parallel sizes that the padded checkpoint must divide for, such as [2, 4, 8]. */
  readonly parallelSizes?: readonly number[] | undefined
  /** The padded size in channels. Default: the smallest that divides. */
  readonly to?: number | undefined
  /** Where the zero channels go. Default `'tail'`. Quantized checkpoints allow `'interleaved'` with act-order or one group. */
  readonly placement?: PaddingPlacement | undefined
  /**
   * Every rank gets whole groups of this many channels. Default: 128 for 16-bit checkpoints, which are usually padded to
   * be quantized later. Quantized checkpoints keep their own groups in any case.
   */
  readonly groupSize?: number | undefined
  /** Only reports what would be done. Default false. */
  readonly dryRun?: boolean | undefined
  /** Verifies every padded MLP against the original before the output gets its name. Default true. */
  readonly verify?: boolean | undefined
  /** Cancels the call, which rejects with its reason; the same call resumes later. */
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: PadProgress) => void) | undefined
}

const count = () => whole(1, Number.MAX_SAFE_INTEGER, 'a whole number from 1 upwards')

export const padOptions = optionsOf<PadOptions>('padCheckpoint()', {
  parallelSizes: z.array(count()).describe('an array of whole numbers, such as [2, 4, 8]'),
  to: count(),
  placement: z.enum(['tail', 'interleaved']).describe("'tail' or 'interleaved'"),
  groupSize: count(),
  dryRun: flag(),
  verify: flag(),
  signal: abortSignal(),
  onProgress: callback<(progress: PadProgress) => void>(),
})

/**
 * The size that options ask for, and the number that it is a multiple of.
 *
 * @throws BillfishError INVALID_OPTION
 */
export function choosePaddedSize(
  checkpoint: Checkpoint,
  { width, mlps }: GatedMlps,
  options: PadOptions,
): { padded: number; multiple: number } {
  const { to, parallelSizes = to === undefined ? [] : [1] } = options
  if (parallelSizes.length === 0) {
    throw new BillfishError('INVALID_OPTION', 'parallelSizes or to must say what to pad for.')
  }
  let groupSize = options.groupSize ?? (mlps.every(({ down }) => down.kind === 'matrix') ? DEFAULT_GROUP_SIZE : 1)
  for (const { down } of mlps) {
    if (down.kind === 'matrix' || isChannelwise(down, checkpoint)) continue
    groupSize = paddingUnit({ groupSize, tile: down.groupSize, parallelSizes: [1] })
  }
  const rule = { groupSize, tile: TILE, parallelSizes }
  const multiple = paddingUnit(rule)
  const least = paddedSize(width, rule)
  const padded = to ?? least
  const reason = `for ${parallelSizes.join(', ')} ranks with whole groups of ${groupSize} and tiles of ${TILE} it must be a multiple of ${multiple}`
  if (padded < width || padded % multiple !== 0) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${width} channels cannot be padded to ${padded}: ${reason}; the least one is ${least}.`,
    )
  }
  if (padded > MAX_CHANNELS) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${width} channels would become ${padded}, more than ${MAX_CHANNELS}: ${reason}; pad for fewer or smaller parallel sizes.`,
    )
  }
  return { padded, multiple }
}
