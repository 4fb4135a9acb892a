import { BillfishError } from '../../errors'
import type { Model } from '../../models/architecture'
import { modulesOf } from '../../models/stages'
import { resolveDeviceMap } from '../device-map'
import { isCpu } from '../host-budgets'
import type { PlanDevice } from '../plan'
import type { Budget } from './budgets'
import { type InferModules, inferWithin } from './infer-device-map'

const STRATEGIES: readonly Strategy[] = ['balanced', 'balanced_low_0', 'sequential']

/**
 * Hugging Face's ways to spread a model, with accelerate's answers: `'sequential'` fills one device after the other,
 * `'balanced'` gives each about as much, `'balanced_low_0'` spares the first one.
 */
export type Strategy = 'balanced' | 'balanced_low_0' | 'sequential'

export function isStrategy(deviceMap: unknown): deviceMap is Strategy {
  return STRATEGIES.some((strategy) => strategy === deviceMap)
}

/**
 * The map that accelerate would make of the model, over `devices` in their order as it takes GPUs by index. A CPU after
 * other devices is where weights go that these have no room for, and the disk takes what nothing else has room for.
 * @param stored what storedModules() says of the model
 * @returns module -> device, complete
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

/** Which devices share the model, and which one is there for what they have no room for. */
function roles(devices: readonly PlanDevice[]): { spread: PlanDevice[]; overflow: PlanDevice | undefined } {
  const candidates = devices.filter(({ device }) => device !== 'disk')
  const gpu = candidates.findIndex(({ device }) => !isCpu(device))
  const overflow = candidates.filter(({ device }, i) => isCpu(device) && gpu >= 0 && i > gpu)
  if (overflow.length > 1) {
    throw new BillfishError(
      'INVALID_OPTION',
      `devices: ${overflow.map(({ device }) => device).join(' and ')} come after ${candidates[gpu]?.device}; ` +
        "'balanced', 'balanced_low_0' and 'sequential' know one CPU for what GPUs have no room for. Name one, or use 'auto'.",
    )
  }
  return { spread: candidates.filter((device) => !overflow.includes(device)), overflow: overflow[0] }
}
