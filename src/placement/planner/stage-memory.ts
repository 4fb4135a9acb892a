import { roundUp } from '../../common/arithmetic'
import { asBillfishError } from '../../common/errors'
import { type CooperativeTask, runSync } from '../../common/event-loop'
import type { TracedStage } from '../../models/stages'
import { addon, type MemoryLimits, type PlannedMemory, type StageSpec } from '../../native/addon'
import { handOverInSlices } from '../../native/hand-over'

/** Bytes of one stage on its device, by use. */
export type StageMemory = Pick<PlannedMemory, 'weights' | 'kvCache' | 'states' | 'buffers'>

/** Counts a stage's bytes on a device such as `'cpu'` or `'cuda:0'`. */
export type CountMemory = (device: string, limits: MemoryLimits) => PlannedMemory

/** Hands a stage over to the native side, which counts its bytes by what the backends allocate by. */
export function* countedStage({ rank, program, weights }: TracedStage): CooperativeTask<CountMemory> {
  const plan = new (addon().StagePlan)(rank)
  yield* handOverInSlices(program, weights, (slice, some) => withBillfishErrors(() => plan.add(slice, some)))
  return (device, limits) => withBillfishErrors(() => plan.memory(device, limits))
}

function withBillfishErrors<Result>(call: () => Result): Result {
  try {
    return call()
  } catch (error) {
    throw asBillfishError(error)
  }
}

/**
 * Exact bytes of a stage on its device: what the allocator counts once the model is loaded, and what the device has less
 * of. On a GPU the buffers include the rest of the last page.
 * @throws BillfishError INVALID_OPTION for a type that the device does not compute in
 */
export function stageMemory(stage: StageSpec, limits: MemoryLimits): StageMemory {
  return wholePages(runSync(countedStage(stage))(stage.device, limits))
}

/** With the rest of the last page among the buffers. */
export function wholePages({ page, weights, kvCache, states, buffers }: PlannedMemory): StageMemory {
  const bytes = weights + kvCache + states + buffers
  return { weights, kvCache, states, buffers: buffers + roundUp(bytes, page) - bytes }
}

export function bytesOf({ weights, kvCache, states, buffers }: StageMemory): number {
  return weights + kvCache + states + buffers
}
