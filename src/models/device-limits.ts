import { BillfishError } from '../common/errors'
import type { StageSpec } from '../native/addon'
import { deviceKind } from '../native/devices'

/** Limits of the CUDA kernels, which also check them on the first step that runs them. */
const GPU_LIMITS = {
  /** Head dimension (cuda/layer/attention_launch.h), in multiples of `headColumns`. */
  headDim: 256,
  headColumns: 8,
  /** Rows of a recurrent state (cuda/operators/gated_delta_rule.cu). */
  keyDim: 256,
  /** Columns that a norm keeps in registers (cuda/layer/held_run.h), read as vectors of 8 or one by one. */
  normInVectors: 16_384,
  norm: 8192,
  /** Experts whose tokens a block counts, and the granularity of their inputs (cuda/gemm/grouped_linear.cu). */
  experts: 4096,
  expertInputs: 8,
  /** Granularity of group sizes, unless one group is a whole row (cuda/gemm/layout.h); of 4-bit floats. */
  groupInputs: 32,
  fp4GroupInputs: 16,
}

/**
 * Checks that the device of the stage can compute it. The CPU has no such limits.
 * @throws BillfishError UNSUPPORTED_MODEL with the numbers
 */
export function checkDeviceLimits({ device, program, weights }: StageSpec): void {
  if (deviceKind(device) !== 'gpu') return
  const reject = (what: string, limit: string): never => {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `${what}, but ${device.replace(/:.*/, '')} devices support ${limit}. Place these layers on 'cpu'.`,
    )
  }
  for (const { headDim } of program.cacheLayers) {
    if (headDim <= GPU_LIMITS.headDim && headDim % GPU_LIMITS.headColumns === 0) continue
    reject(
      `The model's heads have ${headDim} columns (head_dim)`,
      `heads of multiples of ${GPU_LIMITS.headColumns} up to ${GPU_LIMITS.headDim}`,
    )
  }
  for (const operator of program.operators) {
    if (operator.op === 'gatedDeltaRule') {
      const keyDim = (program.values[operator.q]?.width ?? 0) / operator.keyHeads
      if (keyDim > GPU_LIMITS.keyDim) {
        reject(`The model's states have ${keyDim} rows (linear_key_head_dim)`, `states of at most ${GPU_LIMITS.keyDim}`)
      }
    }
    if (operator.op !== 'rmsNorm' && operator.op !== 'addRmsNorm' && operator.op !== 'layerNorm') continue
    const width = operator.op === 'rmsNorm' ? operator.width : (program.values[operator.x]?.width ?? 0)
    const max = width % 8 === 0 ? GPU_LIMITS.normInVectors : GPU_LIMITS.norm
    if (width > max) reject(`The model has norms over ${width} columns (hidden_size)`, `norms over at most ${max}`)
  }
  for (const weight of weights) {
    if (weight.kind !== 'experts') continue
    if (weight.experts.length > GPU_LIMITS.experts) {
      reject(`${weight.name} has ${weight.experts.length} experts`, `at most ${GPU_LIMITS.experts}`)
    }
    if (weight.in % GPU_LIMITS.expertInputs !== 0) {
      reject(`${weight.name} has ${weight.in} inputs`, `experts of multiples of ${GPU_LIMITS.expertInputs} inputs`)
    }
  }
  for (const all of weights) {
    const weight = all.kind === 'experts' ? all.first : all
    if (weight.kind !== 'quantized' || weight.groupSize >= weight.in) continue
    const granularity = weight.format === 'fp4' ? GPU_LIMITS.fp4GroupInputs : GPU_LIMITS.groupInputs
    if (weight.groupSize % granularity === 0) continue
    reject(`${weight.name} has groups of ${weight.groupSize} inputs`, `groups of multiples of ${granularity}`)
  }
}
