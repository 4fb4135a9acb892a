/** A model's loaded stages, as it tells of them. */
import type { LoadedStage, MemoryUse } from './model-state'
import type { StageModules } from './models/stages'

/** Sums per device, which may have several stages. */
export function byDevice(stages: readonly (MemoryUse & { readonly device: string })[]): Map<string, MemoryUse> {
  const devices = new Map<string, MemoryUse>()
  for (const { device, weights, kvCache, states, buffers } of stages) {
    const sum = devices.get(device) ?? { weights: 0, kvCache: 0, states: 0, buffers: 0 }
    devices.set(device, {
      weights: sum.weights + weights,
      kvCache: sum.kvCache + kvCache,
      states: sum.states + states,
      buffers: sum.buffers + buffers,
    })
  }
  return devices
}

/** Stages, named after their devices, and by number where several have the same. */
export function namedStages(stages: readonly StageModules[]): LoadedStage[] {
  const groups = stages.map(({ device }) => [...new Set(device.split(','))])
  const names = groups.map((devices) => devices.join(','))
  return stages.map(({ modules, branches = [] }, i) => {
    const name = names[i] as string
    return {
      name: names.filter((other) => other === name).length > 1 ? `stage ${i} (${name})` : name,
      devices: groups[i] as string[],
      modules,
      experts: Object.fromEntries(branches.map((branch) => [branch.device, branch.modules])),
    }
  })
}
