import { BillfishError } from '../errors'
import type { StageSpec } from '../native/addon'
import { deviceKind } from '../native/device-kind'

/** What CUDA kernels are made for; their sources refuse the rest too, at the first step that runs them. */
const GPU_LIMITS = {
  /** Columns of a head (cuda/layer/attention_launch.h), in multiples of `headColumns`. */
  headDim: 256,
  headColumns: 8,
  /** Columns that a norm holds in a block's registers (cuda/layer/register_row.h), read as vectors of 8 or one by one. */
  normInVectors: 16_384,
  norm: 8192,
  /** Inputs of a group, unless one group is a whole row (cuda/gemm/layout.h). */
  groupInputs: 32,
}

/**
 * Whether the stage's device can compute it. The CPU has no such limits.
 * @throws BillfishError UNSUPPORTED_MODEL with the numbers
 */
export function checkDeviceLimits({ device, program, weights }: StageSpec): void {
  if (deviceKind(device) !== 'gpu') return
  const refuse = (what: string, limit: string): never => {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `${what}, but ${device.replace(/:.*/, '')} devices compute ${limit}. Place these layers on 'cpu'.`,
    )
  }
  for (const { headDim } of program.cacheLayers) {
    if (headDim <= GPU_LIMITS.headDim && headDim % GPU_LIMITS.headColumns === 0) continue
    refuse(
      `The model's heads have ${headDim} columns (head_dim)`,
      `heads of multiples of ${GPU_LIMITS.headColumns} up to ${GPU_LIMITS.headDim}`,
    )
  }
  for (const operator of program.operators) {
    if (operator.op !== 'rmsNorm' && operator.op !== 'addRmsNorm' && operator.op !== 'layerNorm') continue
    const width = operator.op === 'rmsNorm' ? operator.width : (program.values[operator.x]?.width ?? 0)
    const most = width % 8 === 0 ? GPU_LIMITS.normInVectors : GPU_LIMITS.norm
    if (width > most) refuse(`The model has norms over ${width} columns (hidden_size)`, `norms over at most ${most}`)
  }
  for (const weight of weights) {
    if (weight.kind !== 'quantized' || weight.groupSize >= weight.in) continue
    if (weight.groupSize % GPU_LIMITS.groupInputs === 0) continue
    refuse(
      `${weight.name} has groups of ${weight.groupSize} inputs`,
      `groups of multiples of ${GPU_LIMITS.groupInputs}`,
    )
  }
}
