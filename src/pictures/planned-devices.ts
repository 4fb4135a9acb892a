import type { PlannedStage } from '../placement/plan'

/** The parts of a plan that are shown. */
export interface ShownPlan {
  readonly stages: readonly (PlannedStage & { readonly budget: number | null })[]
  readonly fits: boolean
}

/** A stage and its place in the pipeline, from 1: the same for all devices that compute it together. */
export interface NumberedStage extends PlannedStage {
  readonly number: number
}

/** Everything one device holds according to a plan, in bytes. */
export interface PlannedDevice {
  readonly device: string
  /** Its stages, in the order of the forward pass. */
  readonly stages: readonly NumberedStage[]
  readonly weights: number
  readonly kvCache: number
  readonly states: number
  readonly buffers: number
  readonly overhead: number
  readonly total: number
  /** Its memory limit; null if there is none. */
  readonly budget: number | null
}

/** The devices of a plan, in the order of the forward pass. */
export function plannedDevices({ stages }: ShownPlan): PlannedDevice[] {
  const names = [...new Set(stages.map(({ device }) => device))]
  let number = 0
  const numbered = stages.map((stage) => {
    if (!stage.branch && stage.rank === 0) number++
    return { ...stage, number }
  })
  return names.map((device) => {
    const own = numbered.filter((stage) => stage.device === device)
    const sum = (part: 'weights' | 'kvCache' | 'states' | 'buffers' | 'overhead' | 'total') =>
      own.reduce((bytes, stage) => bytes + stage[part], 0)
    return {
      device,
      stages: own,
      weights: sum('weights'),
      kvCache: sum('kvCache'),
      states: sum('states'),
      buffers: sum('buffers'),
      overhead: sum('overhead'),
      total: sum('total'),
      budget: own[0]?.budget ?? null,
    }
  })
}
