import { BillfishError } from '../common/errors'
import { groupDevices, type StageModules } from '../models/stages'
import { deviceKind } from '../native/devices'
import type { PlanDevice } from './plan'

/** Most GPUs that can compute a stage together: each reads the memory of all others (cuda/layer/rank_sum.h). */
const MAX_GPU_RANKS = 8

/**
 * Groups devices for tensor parallelism: the first `ranks` of them, the next `ranks`, and so on. A group has the memory
 * and speed of its weakest member, since all members hold and do the same amount.
 * @throws BillfishError INVALID_OPTION if the devices do not divide into groups of `ranks`
 */
export function deviceGroups(devices: readonly PlanDevice[], ranks: number): PlanDevice[] {
  if (ranks === 1) return [...devices]
  // A single device hosts all ranks, as in a deviceMap.
  const [only, ...others] = devices
  const members = only && others.length === 0 ? Array.from({ length: ranks }, () => only) : devices
  if (members.length % ranks !== 0) {
    throw new BillfishError(
      'INVALID_OPTION',
      `devices: ${devices.length} devices do not make groups of ${ranks} (tensorParallelSize). Give a multiple of ${ranks}, or another tensorParallelSize.`,
    )
  }
  return Array.from({ length: members.length / ranks }, (_, group) => {
    const own = members.slice(group * ranks, (group + 1) * ranks)
    const isOne = new Set(own.map(({ device }) => device)).size < ranks
    const min = (values: readonly number[]) => Math.min(...values)
    return {
      device: isOne ? (own[0] as PlanDevice).device : own.map(({ device }) => device).join(','),
      memory: min(own.map(({ memory }) => memory)) / (isOne ? ranks : 1),
      overhead: Math.max(...own.map(({ overhead = 0 }) => overhead)) / (isOne ? ranks : 1),
      speed: min(own.map(({ speed = 1 }) => speed)),
      shared: own.some((device) => device.shared),
    }
  })
}

/** Groups of as many of the devices as make whole ones, or one of each: for what is told beside a map that is given. */
export function wholeGroups(devices: readonly PlanDevice[], ranks: number): PlanDevice[] {
  const members = devices.length - (devices.length % ranks)
  if (members > 0) return deviceGroups(devices.slice(0, members), ranks)
  return devices.flatMap((device) => deviceGroups([device], ranks))
}

/**
 * Checks that the device groups of a map, such as `'cuda:0,cuda:1'`, or one device for all ranks, can compute stages
 * together, and that a branch has one device, which computes it for all ranks.
 * @throws BillfishError INVALID_OPTION for a group of the wrong size, with a duplicate device, of mixed kinds or of too
 *   many GPUs, for a device in several groups, and for a branch on a group
 */
export function checkGroups(stages: readonly StageModules[], ranks: number): void {
  for (const { device: group, branches = [] } of stages) {
    for (const { device, modules } of branches) {
      if (!device.includes(',')) continue
      throw new BillfishError(
        'INVALID_OPTION',
        `deviceMap: ${modules[0]} is on ${device}, but its layer on ${group}. Experts that are elsewhere than their layer ` +
          "are on one device, which computes them for all ranks (tensorParallelSize). Name one device, or the layer's.",
      )
    }
  }
  const groupOf = new Map<string, string>()
  for (const group of new Set(stages.map(({ device }) => device))) {
    const devices = groupDevices(group, ranks)
    if (ranks > 1) checkMembers(group, ranks)
    for (const device of new Set(devices)) {
      const other = groupOf.get(device)
      groupOf.set(device, group)
      if (other === undefined) continue
      throw new BillfishError(
        'INVALID_OPTION',
        `deviceMap: ${device} is in two groups, ${other} and ${group}. A device must compute all its stages with the ` +
          'same devices in the same order (tensorParallelSize); use the same group for all of them.',
      )
    }
  }
}

function checkMembers(group: string, ranks: number): void {
  const devices = group.split(',')
  const twice = devices.find((device, i) => devices.indexOf(device) < i)
  if (twice !== undefined) {
    throw new BillfishError(
      'INVALID_OPTION',
      `deviceMap: ${group} names ${twice} twice. Name ${ranks} devices (tensorParallelSize), or one for all ranks.`,
    )
  }
  const [first = '', ...others] = devices
  const kind = (device: string) => (deviceKind(device) === 'cpu' ? 'cpu' : device.replace(/:.*/, ''))
  const mismatch = others.find((device) => kind(device) !== kind(first))
  if (mismatch !== undefined) {
    throw new BillfishError(
      'INVALID_OPTION',
      `deviceMap: ${mismatch} cannot share a stage with ${first}; tensor parallelism needs devices of one ` +
        'kind. Use such devices, or omit tensorParallelSize.',
    )
  }
  if (kind(first) === 'cpu' || ranks <= MAX_GPU_RANKS) return
  throw new BillfishError(
    'INVALID_OPTION',
    `tensorParallelSize is ${ranks}, but at most ${MAX_GPU_RANKS} GPUs can share a stage. Use ` +
      `${MAX_GPU_RANKS} or less, and more stages for more devices.`,
  )
}
