import type { CooperativeTask } from '../common/event-loop'
import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { placedStages, traceRanks } from '../models/stages'
import type { MemoryLimits } from '../native/addon'
import type { ModelLimits } from './limits'
import { bytesOf, countedStage, wholePages } from './planner/stage-memory'

/** A device that a plan may use. */
export interface PlanDevice {
  readonly device: string
  /** Bytes; Infinity for no limit. */
  readonly memory: number
  /** Bytes that the runtime of the device takes; 0 by default. */
  readonly overhead?: number | undefined
  /** Relative speed of reading weights; 1 by default. */
  readonly speed?: number | undefined
  /** Whether its memory is host memory shared with other devices; false by default. */
  readonly shared?: boolean | undefined
}

/** Bytes available to stages on a device. */
export function capacityOf({ memory, overhead = 0 }: PlanDevice): number {
  return memory - overhead
}

/** What one rank of a stage holds, in bytes; exact except for `overhead`. */
export interface PlannedStage {
  readonly device: string
  /** Index among the `ranks` devices that compute the stage together; 0 of 1 without tensor parallelism. */
  readonly rank: number
  readonly ranks: number
  readonly modules: readonly string[]
  /** Whether these are experts of the stage listed before, which computes its steps together with them. */
  readonly branch?: true
  readonly weights: number
  readonly kvCache: number
  /** Recurrent states of all sequences. */
  readonly states: number
  readonly buffers: number
  /** What CUDA itself takes, an estimate, counted with a device's first stage: {@link DeviceOptions.deviceOverhead}. */
  readonly overhead: number
  readonly total: number
  /** Bytes of weights read to decode one token. */
  readonly read: number
}

/**
 * Computes the bytes of every stage.
 * @param deviceOf where a module is; experts without a device are with their layer
 * @param overheadOn bytes that the runtime of a device takes
 */
export function* planStages(
  model: Model,
  source: WeightSource,
  limits: MemoryLimits & Pick<ModelLimits, 'tensorParallelSize'>,
  deviceOf: (module: string) => string | undefined,
  overheadOn: (device: string) => number = () => 0,
): CooperativeTask<PlannedStage[]> {
  const begun = new Set<string>()
  const ranks = limits.tensorParallelSize
  const stages: PlannedStage[] = []
  for (const stage of placedStages(model, deviceOf)) {
    for (const traced of yield* traceRanks(model, source, stage, ranks)) {
      const { device } = traced
      const branch = stage.branches?.[traced.rank - ranks]
      const part = branch
        ? ({ device, rank: 0, ranks: 1, modules: branch.modules, branch: true } as const)
        : { device, rank: traced.rank, ranks, modules: stage.modules }
      const planned = (yield* countedStage(traced))(device, limits)
      const memory = wholePages(planned)
      const overhead = begun.has(device) ? 0 : overheadOn(device)
      begun.add(device)
      const total = bytesOf(memory) + overhead
      stages.push({ ...part, ...memory, overhead, total, read: planned.read })
      yield
    }
  }
  return stages
}
