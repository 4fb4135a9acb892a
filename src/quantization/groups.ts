import { invalidCheckpoint } from '../checkpoint/invalid'
import type { TensorTable } from '../checkpoint/tensors'
import { ceilDiv } from '../common/arithmetic'
import type { TensorRef } from '../native/weights'

/**
 * Number of inputs that share a scale. The tensors decide: a group index in natural order, or the number of groups in
 * the scales. The config decides if several sizes give that number, as with a short last group.
 *
 * @param stated group size in the config; -1: channelwise; undefined if unspecified
 * @param groups number of groups in the scales
 * @returns the group size; `inFeatures` if channelwise
 * @throws BillfishError INVALID_CHECKPOINT if neither is conclusive
 */
export function resolveGroupSize(
  table: TensorTable,
  scales: TensorRef,
  stated: number | undefined,
  inFeatures: number,
  groups: number,
  groupIndex?: TensorRef | undefined,
): number {
  const fits = (size: number | undefined) => size !== undefined && size > 0 && ceilDiv(inFeatures, size) === groups
  const stored = groupIndex && table.values.groupSizes.get(groupIndex.name)
  if (stored !== undefined && stored < inFeatures && fits(stored)) return stored
  if (groups === 1) return inFeatures
  if (stated !== undefined && fits(stated)) return stated
  if (groups > 0 && inFeatures % groups === 0) return inFeatures / groups
  throw invalidCheckpoint(
    `The group size of ${table.describe(scales)} is unknown: ${inFeatures} inputs do not divide into ${groups} groups, and ` +
      `the quantization config says ${stated === undefined ? 'nothing' : `group_size ${stated}`}; correct group_size in the config`,
  )
}

/**
 * Whether a group index differs from natural order.
 *
 * @param stated what the config says, if the values of the index are unknown
 */
export function hasActOrder(table: TensorTable, groupIndex: TensorRef, groupSize: number, stated: boolean): boolean {
  const stored = table.values.groupSizes.get(groupIndex.name)
  if (stored === undefined) return stated
  return stored !== Number.POSITIVE_INFINITY && stored !== groupSize
}

/** Request to a format reader: the linear `name` of shape [out, in], and its bias if one is stored. */
export interface LinearRequest {
  readonly name: string
  readonly out: number
  readonly in: number
  readonly bias: TensorRef | undefined
}
