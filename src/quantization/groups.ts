import { invalidCheckpoint } from '../checkpoint/invalid'
import type { TensorTable } from '../checkpoint/tensors'
import type { TensorRef } from '../native/weights'

/**
 * How many inputs share a scale, from what the config says and how many groups the scales have. A config that says
 * nothing is made up for where the tensors leave no choice: one group, or groups that divide the inputs evenly.
 *
 * @param stated - -1: channelwise; undefined: the config is silent
 * @param groups - groups that the scales have
 * @returns the group size, `inFeatures` when channelwise
 * @throws BillfishError INVALID_CHECKPOINT where config and tensor contradict each other
 */
export function resolveGroupSize(
  table: TensorTable,
  scales: TensorRef,
  stated: number | undefined,
  inFeatures: number,
  groups: number,
): number {
  if (stated === undefined) {
    if (groups > 0 && inFeatures % groups === 0) return inFeatures / groups
    throw invalidCheckpoint(
      `The group size of ${table.describe(scales)} is unknown: the quantisation config does not say it, and ${inFeatures} ` +
        `inputs do not divide into ${groups} groups; add group_size to the config`,
    )
  }
  const size = stated === -1 ? inFeatures : Math.min(stated, inFeatures)
  const expected = Math.ceil(inFeatures / size)
  if (groups === expected) return size
  throw invalidCheckpoint(
    `The quantisation config says group_size ${stated}, so ${inFeatures} inputs make ${expected} groups, but ` +
      `${table.describe(scales)} has ${groups}; config and tensors do not belong together`,
  )
}
