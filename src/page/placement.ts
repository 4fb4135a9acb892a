/** Where a model's modules and bytes are, device by device. */
import type { ModelStatus } from '../server/status'

/** Modules next to each other on a device, in parts of all modules, 0 to 1. */
export interface Run {
  readonly start: number
  readonly length: number
  /** Of these layers, the device has only the experts. */
  readonly isExpertsOnly: boolean
}

export interface DevicePlacement {
  readonly device: string
  readonly modules: readonly string[]
  readonly runs: readonly Run[]
}

/** The devices in the order in which a token meets them; those that have only experts last. */
export function placementOf({ stages, memory }: Pick<ModelStatus, 'stages' | 'memory'>): DevicePlacement[] {
  const all = stages.flatMap(({ modules }) => modules)
  const placed = new Map<string, { modules: string[]; runs: Run[] }>()
  const add = (device: string, modules: readonly string[], positions: readonly number[], isExpertsOnly: boolean) => {
    const own = placed.get(device) ?? { modules: [], runs: [] }
    own.modules.push(...modules)
    own.runs.push(...runsOf(positions, all.length).map((run) => ({ ...run, isExpertsOnly })))
    placed.set(device, own)
  }
  for (const { devices, modules } of stages) {
    const positions = modules.map((module) => all.indexOf(module))
    for (const device of devices) add(device, modules, positions, false)
  }
  for (const [device, experts] of stages.flatMap((stage) => Object.entries(stage.experts))) {
    const positions = experts.map((module) => all.findIndex((layer) => module.startsWith(`${layer}.`)))
    add(device, experts, positions, true)
  }
  for (const { device } of memory) if (!placed.has(device)) add(device, [], [], false)
  return [...placed].map(([device, own]) => ({ device, ...own }))
}

function runsOf(positions: readonly number[], total: number): { start: number; length: number }[] {
  const runs: { first: number; count: number }[] = []
  for (const position of positions) {
    const last = runs.at(-1)
    if (last && last.first + last.count === position) last.count++
    else runs.push({ first: position, count: 1 })
  }
  return runs.map(({ first, count }) => ({ start: first / total, length: count / total }))
}
