import type { PlannedStage } from '../placement/plan'

/** What of a plan is shown. */
export interface ShownPlan {
  readonly stages: readonly (PlannedStage & { readonly budget: number | null })[]
  readonly fits: boolean
}

/** A stage and its place in the pipeline, from 1: the same for all devices that compute it together. */
export interface NumberedStage extends PlannedStage {
  readonly number: number
}

/** All that one device holds by a plan, in bytes. */
export interface PlannedDevice {
  readonly device: string
  /** Its stages, in the order of the forward pass. */
  readonly stages: readonly NumberedStage[]
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
  readonly overhead: number
  readonly total: number
  /** What it may hold; null without a limit. */
  readonly budget: number | null
}

/** The devices of a plan in the order in which the forward pass first comes to them. */
export function plannedDevices({ stages }: ShownPlan): PlannedDevice[] {
  const names = [...new Set(stages.map(({ device }) => device))]
  const numbered = stages.map((stage, index) => ({ ...stage, number: 1 + Math.floor(index / stage.ranks) }))
  return names.map((device) => {
    const own = numbered.filter((stage) => stage.device === device)
    const sum = (part: 'weights' | 'kvCache' | 'buffers' | 'overhead' | 'total') =>
      own.reduce((bytes, stage) => bytes + stage[part], 0)
    return {
      device,
      stages: own,
      weights: sum('weights'),
      kvCache: sum('kvCache'),
      buffers: sum('buffers'),
      overhead: sum('overhead'),
      total: sum('total'),
      budget: own[0]?.budget ?? null,
    }
  })
}
