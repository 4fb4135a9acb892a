import { BillfishError } from '../../common/errors'
import type { Model } from '../../models/architecture'
import { modulesOf } from '../../models/stages'
import { resolveDeviceMap } from '../device-map'
import { isCpu } from '../host-budgets'
import type { PlanDevice } from '../plan'
import type { Budget } from './budgets'
import { type InferModules, inferWithin } from './infer-device-map'

const STRATEGIES: readonly Strategy[] = ['balanced', 'balanced_low_0', 'sequential']

/**
 * accelerate's placement strategies: `'sequential'` fills one device after the other, `'balanced'` gives each about the
 * same, `'balanced_low_0'` keeps the first one light.
 */
export type Strategy = 'balanced' | 'balanced_low_0' | 'sequential'

export function isStrategy(deviceMap: unknown): deviceMap is Strategy {
  return STRATEGIES.some((strategy) => strategy === deviceMap)
}

/**
 * The device map that accelerate would compute, over `devices` in order, as it takes GPUs by index. A CPU after other
 * devices takes what does not fit on them, and the disk takes the rest.
 * @param stored result of storedModules()
 * @returns module -> device, for every module
 * @throws BillfishError INVALID_OPTION for several CPUs after other devices
 */
export function strategyMap(
  model: Model,
  stored: InferModules,
  strategy: Strategy,
  devices: readonly PlanDevice[],
): Map<string, string> {
  const { spread, overflow } = roles(devices)
  const budgets: Budget[] = spread.map(({ memory }, index) => ({ device: index, bytes: memory }))
  if (overflow) budgets.push({ device: 'cpu', bytes: overflow.memory })
  budgets.push({ device: 'disk', bytes: Number.POSITIVE_INFINITY })

  const inferred = inferWithin(stored, strategy, budgets)
  const named = Object.entries(inferred).map(([module, device]) => {
    if (typeof device === 'number') return [module, spread[device]?.device as string]
    return [module, device === 'cpu' ? (overflow?.device as string) : device]
  })
  return resolveDeviceMap(Object.fromEntries(named), modulesOf(model))
}

/** Which devices share the model, and which one takes the overflow. */
function roles(devices: readonly PlanDevice[]): { spread: PlanDevice[]; overflow: PlanDevice | undefined } {
  const candidates = devices.filter(({ device }) => device !== 'disk')
  const gpu = candidates.findIndex(({ device }) => !isCpu(device))
  const overflow = candidates.filter(({ device }, i) => isCpu(device) && gpu >= 0 && i > gpu)
  if (overflow.length > 1) {
    throw new BillfishError(
      'INVALID_OPTION',
      `devices: ${overflow.map(({ device }) => device).join(' and ')} come after ${candidates[gpu]?.device}; ` +
        "'balanced', 'balanced_low_0' and 'sequential' support one CPU for what does not fit on GPUs. List one, or use 'auto'.",
    )
  }
  return { spread: candidates.filter((device) => !overflow.includes(device)), overflow: overflow[0] }
}
