import type { PlannedStage } from './plan'

/** Every `cpu:N` is the same CPU. */
export function isCpu(device: string): boolean {
  return device === 'cpu' || device.startsWith('cpu:')
}

/** Whether the device computes from host memory; the CPU computes the stages on disk, too. */
export function isHost(device: string): boolean {
  return isCpu(device) || device === 'disk'
}

/** Host-memory bytes of a stage: everything except weights on disk. */
function residentBytes({ device, total, weights }: PlannedStage): number {
  return device === 'disk' ? total - weights : total
}

/**
 * Budgets of the CPU devices without one of their own: they share what the others leave of `hostBytes`, in proportion
 * to what they need, so that either all of them fit or none does.
 * @param stages stages of a plan
 * @param budgets explicit budgets, device -> bytes
 * @returns device -> bytes; the disk is included only if memory is too small for what it keeps there
 */
export function hostBudgets(
  stages: readonly PlannedStage[],
  budgets: ReadonlyMap<string, number>,
  hostBytes: number,
): Map<string, number> {
  const onHost = stages.filter(({ device }) => isHost(device))
  const given = onHost.filter(({ device }) => budgets.has(device))
  const shared = onHost.filter(({ device }) => !budgets.has(device))
  const sum = (of: readonly PlannedStage[]) => of.reduce((bytes, stage) => bytes + residentBytes(stage), 0)
  const left = Math.max(0, hostBytes - sum(given))
  const needed = sum(shared)
  const shares = new Map<string, number>()
  for (const device of new Set(shared.map((stage) => stage.device))) {
    const own = shared.filter((stage) => stage.device === device)
    const resident = sum(own)
    const share = Math.floor((left * resident) / needed)
    if (needed > left) {
      const elsewhere = own.reduce((bytes, { total }) => bytes + total, 0) - resident
      shares.set(device, Math.min(share, resident - 1) + elsewhere)
    } else if (device !== 'disk') {
      shares.set(device, Math.max(share, resident))
    }
  }
  return shares
}
