import { BillfishError } from '../errors'
import type { PlanDevice } from './plan'

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
      `devices: ${devices.length} devices do not make groups of ${ranks} (tensorParallelSize). Give a multiple of ${ranks}.`,
    )
  }
  return Array.from({ length: members.length / ranks }, (_, group) => {
    const own = members.slice(group * ranks, (group + 1) * ranks)
    const shared = new Set(own.map(({ device }) => device)).size < ranks
    const least = (values: readonly number[]) => Math.min(...values)
    return {
      device: shared ? (own[0] as PlanDevice).device : own.map(({ device }) => device).join(','),
      memory: least(own.map(({ memory }) => memory)) / (shared ? ranks : 1),
      overhead: Math.max(...own.map(({ overhead = 0 }) => overhead)) / (shared ? ranks : 1),
      speed: least(own.map(({ speed = 1 }) => speed)),
    }
  })
}
