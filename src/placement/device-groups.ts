import { BillfishError } from '../errors'
import { groupDevices } from '../models/stages'
import { deviceKind } from '../native/device-kind'
import type { PlanDevice } from './plan'

/** Ranks that GPUs can be of one stage: as many read each other's memory (cuda/layer/rank_sum.h). */
const MAX_GPU_RANKS = 8

/**
 * Devices that compute stages together under tensor parallelism: the first `ranks` of them, the next ones, and so on. A
 * group is as good as the least of its members, since all of them hold and do the same.
 * @throws BillfishError INVALID_OPTION where devices would be left over
 */
export function deviceGroups(devices: readonly PlanDevice[], ranks: number): PlanDevice[] {
  if (ranks === 1) return [...devices]
  // One device can stand in for a group of itself, as in a deviceMap.
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
    const least = (values: readonly number[]) => Math.min(...values)
    return {
      device: isOne ? (own[0] as PlanDevice).device : own.map(({ device }) => device).join(','),
      memory: least(own.map(({ memory }) => memory)) / (isOne ? ranks : 1),
      overhead: Math.max(...own.map(({ overhead = 0 }) => overhead)) / (isOne ? ranks : 1),
      speed: least(own.map(({ speed = 1 }) => speed)),
      shared: own.some((device) => device.shared),
    }
  })
}

/**
 * Whether devices can compute stages together as a map says.
 * @param groups the devices of every stage, `'cuda:0,cuda:1'`, or one for all ranks
 * @throws BillfishError INVALID_OPTION for groups of another size, with a device twice, of several kinds or of too many
 *   GPUs, and for devices of several groups
 */
export function checkGroups(groups: Iterable<string>, ranks: number): void {
  const groupOf = new Map<string, string>()
  for (const group of new Set(groups)) {
    const devices = groupDevices(group, ranks)
    if (ranks > 1) checkMembers(group, ranks)
    for (const device of new Set(devices)) {
      const other = groupOf.get(device)
      groupOf.set(device, group)
      if (other === undefined) continue
      throw new BillfishError(
        'INVALID_OPTION',
        `deviceMap: ${device} is in two groups, ${other} and ${group}. A device computes all its stages together with the ` +
          'same devices, in the same order (tensorParallelSize); name the same group for all of them.',
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
  const stranger = others.find((device) => kind(device) !== kind(first))
  if (stranger !== undefined) {
    throw new BillfishError(
      'INVALID_OPTION',
      `deviceMap: ${stranger} cannot compute a stage together with ${first}; tensor parallelism is for devices of one ` +
        'kind. Name such devices, or leave tensorParallelSize out.',
    )
  }
  if (kind(first) === 'cpu' || ranks <= MAX_GPU_RANKS) return
  throw new BillfishError(
    'INVALID_OPTION',
    `tensorParallelSize is ${ranks}, but at most ${MAX_GPU_RANKS} GPUs can compute a stage together. Use ` +
      `${MAX_GPU_RANKS} or less, and more stages for more devices.`,
  )
}
