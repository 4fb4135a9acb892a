/** Programs and weights to the native side, in slices between which other events have their turn. */
import { asBillfishError } from '../common/errors'
import type { CooperativeTask } from '../common/event-loop'
import { addon, type HandedWeight, type ModelSpec, type NativeModel, type ProgramSpec } from './addon'
import { type LinearSpec, storedBytes, type WeightSpec } from './weights'

/** Operators, values, weights and experts that are converted between two yields: about a millisecond's. */
const SLICE = 32

/** Calls `add` with slices of the lists of a program, and of its weights. */
export function* handOverInSlices<Weight>(
  program: ProgramSpec,
  weights: readonly Weight[],
  add: (program: ProgramSpec, weights: readonly Weight[]) => void,
): CooperativeTask<void> {
  const { values, operators, ropes, cacheLayers, stateLayers } = program
  const all = [values, operators, ropes, cacheLayers, stateLayers, weights]
  const longest = Math.max(...all.map(({ length }) => length))
  for (let at = 0; at < longest; at += SLICE) {
    const slice = <Item>(items: readonly Item[]) => items.slice(at, at + SLICE)
    const lists = {
      values: slice(values),
      operators: slice(operators),
      ropes: slice(ropes),
      cacheLayers: slice(cacheLayers),
      stateLayers: slice(stateLayers),
    }
    add({ ...program, ...lists }, slice(weights))
    yield
  }
}

/**
 * Hands over all that a native model loads.
 * @returns the bytes that it will read
 */
export function* handOver(native: NativeModel, { stages }: ModelSpec): CooperativeTask<number> {
  const lists = new Map<readonly LinearSpec[], number>()
  let bytes = 0
  /** The number of a list of experts, which all ranks share. */
  function* numberOf(experts: readonly LinearSpec[]): CooperativeTask<number> {
    const known = lists.get(experts)
    if (known !== undefined) return known
    const number = lists.size
    for (let at = 0; at < experts.length; at += SLICE) {
      native.addExperts(number, experts.slice(at, at + SLICE))
      yield
    }
    lists.set(experts, number)
    return number
  }
  function* handed(weight: WeightSpec): CooperativeTask<HandedWeight> {
    bytes += storedBytes(weight)
    if (weight.kind !== 'experts') return weight
    const experts = yield* numberOf(weight.experts)
    return { ...weight, experts, consumers: weight.consumers && (yield* numberOf(weight.consumers)) }
  }
  try {
    for (const [i, { program, weights }] of stages.entries()) {
      const ofStage: HandedWeight[] = []
      for (const weight of weights) ofStage.push(yield* handed(weight))
      yield* handOverInSlices(program, ofStage, (slice, some) => native.add(i, slice, some))
    }
  } catch (error) {
    throw asBillfishError(error)
  }
  return bytes
}

/** A native model that has everything but its stages' programs and weights. @throws BillfishError */
export function newNativeModel(spec: ModelSpec): NativeModel {
  try {
    return new (addon().NativeModel)(spec)
  } catch (error) {
    throw asBillfishError(error)
  }
}
