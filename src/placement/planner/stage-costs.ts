import { ceilDiv, roundUp } from '../../common/arithmetic'
import { type CooperativeTask, runSync } from '../../common/event-loop'
import type { Model } from '../../models/architecture'
import type { WeightSource } from '../../models/graph'
import { Rank } from '../../models/rank'
import { lastModules, modulesOf, type TracedStage, trace } from '../../models/stages'
import type { MemoryLimits, PlannedMemory } from '../../native/addon'
import type { WeightSpec } from '../../native/weights'
import type { PlanDevice } from '../plan'
import { PeakBuffers } from './peak-buffers'
import { type CountMemory, countedStage } from './stage-memory'

/** Memory and work of one stage. */
export interface StageNeeds extends StageWork {
  /** Total bytes. */
  readonly memory: number
}

/** Memory and work of a stage of groups [first, end) on a device. */
export type NeedsOf = (device: string, first: number, end: number) => StageNeeds

/** {@link NeedsOf} on one device. */
export interface NeedsOnDevice {
  all(first: number, end: number): StageNeeds
  /** A lower bound on its bytes: the sum over its groups, which more groups never decrease. */
  minMemory(first: number, end: number): number
}

/** Costs of all possible stages of a model. */
export interface Costs {
  /** Groups of modules that are placed together, in order: embedding, each layer, and final norm with head. */
  readonly groups: readonly (readonly string[])[]
  /** Bytes saved if embedding and head share a stage on this device; 0 if they are not tied. */
  tiedBytes(limits: MemoryLimits, device: string): number
  needs(limits: MemoryLimits): (device: string) => NeedsOnDevice
}

/** Costs of stages that `ranks` devices compute together: the maximum over the ranks. */
export function* costsOf(model: Model, source: WeightSource, ranks: number): CooperativeTask<Costs> {
  const known = new Map<string, number>()
  const shares: StageCosts[] = []
  for (let index = 0; index < ranks; index++) {
    const rank = new Rank(index, ranks)
    const share = new StageCosts(model, source, rank, yield* tracedGroups(model, source, rank, known))
    if (!shares.some((other) => other.equals(share))) shares.push(share)
  }
  const [first, ...others] = shares as [StageCosts, ...StageCosts[]]
  if (others.length === 0) return first
  return {
    groups: first.groups,
    tiedBytes: (limits, device) => first.tiedBytes(limits, device),
    needs: (limits) => {
      const needs = shares.map((share) => share.needs(limits))
      return (device) => maxOverRanks(needs.map((on) => on(device)))
    },
  }
}

/** The maximum over the ranks. */
function maxOverRanks(ranks: readonly NeedsOnDevice[]): NeedsOnDevice {
  return {
    all: (first, end) => {
      let memory = 0
      let read = 0
      let operations = 0
      for (const rank of ranks) {
        const own = rank.all(first, end)
        memory = Math.max(memory, own.memory)
        read = Math.max(read, own.read)
        operations = Math.max(operations, own.operations)
      }
      return { memory, read, operations }
    },
    minMemory: (first, end) => {
      let most = Number.NEGATIVE_INFINITY // a tied head can make it negative
      for (const rank of ranks) most = Math.max(most, rank.minMemory(first, end))
      return most
    },
  }
}

/** Groups of modules that are placed together, each traced on its own. */
interface TracedGroups {
  readonly groups: readonly (readonly string[])[]
  /** One number per group; equal numbers mean equal shapes. */
  readonly shapes: readonly number[]
  /** Like `shapes`, but equal only if the weights have the same bytes, too. */
  readonly kinds: readonly number[]
  /** The first group of each kind. */
  readonly byKind: ReadonlyMap<number, TracedStage>
}

/** @param known description -> number, shared by all ranks */
function* tracedGroups(
  model: Model,
  source: WeightSource,
  rank: Rank,
  known: Map<string, number>,
): CooperativeTask<TracedGroups> {
  const modules = modulesOf(model)
  const last = lastModules(model)
  const groups = [...modules.slice(0, -last.length).map((module) => [module]), last]
  const numberOf = (text: string): number => {
    const number = known.get(text) ?? known.size
    known.set(text, number)
    return number
  }
  const shapes: number[] = []
  const kinds: number[] = []
  const byKind = new Map<number, TracedStage>()
  for (const group of groups) {
    const traced = yield* trace(model, source, group, rank)
    const shape = numberOf(shapeOf(traced))
    const kind = numberOf(`${shape} ${weightsOf(traced)}`)
    shapes.push(shape)
    kinds.push(kind)
    if (!byKind.has(kind)) byKind.set(kind, traced)
  }
  return { groups, shapes, kinds, byKind }
}

/**
 * Derives the costs of every possible stage from a few traces. Weights, KV cache and bytes read are additive, before a
 * device rounds their sum up to whole pages. Buffers are not additive, but values die within a layer or two, so a long
 * stage needs what one with fewer layers does ({@link PeakBuffers}).
 */
class StageCosts implements Costs {
  readonly groups: readonly (readonly string[])[]
  readonly #peakBuffers: PeakBuffers
  /** Embedding and head in one stage. */
  readonly #embeddingAndHead: TracedStage
  /** Traced stages by the shapes of their groups. */
  readonly #byShapes = new Map<string, TracedStage>()
  readonly #counted = new Map<TracedStage, CountMemory>()

  readonly #model: Model
  readonly #source: WeightSource
  readonly #rank: Rank
  readonly #traced: TracedGroups

  constructor(model: Model, source: WeightSource, rank: Rank, traced: TracedGroups) {
    this.#model = model
    this.#source = source
    this.#rank = rank
    this.#traced = traced

    this.groups = traced.groups
    this.#peakBuffers = new PeakBuffers(traced.shapes)
    this.#embeddingAndHead = this.#trace([...(this.groups[0] as string[]), ...(this.groups.at(-1) as string[])])
  }

  /** Whether the stages of two ranks cost the same. Only the first rank hands over hidden states. */
  equals(other: StageCosts): boolean {
    return (
      this.#rank.isFirst === other.#rank.isFirst &&
      this.#traced.kinds.every((kind, i) => kind === other.#traced.kinds[i])
    )
  }

  tiedBytes(limits: MemoryLimits, device: string): number {
    const weights = (stage: TracedStage) => this.#memory(stage, device, limits).weights
    const [embedding, head] = [this.#traced.kinds[0], this.#traced.kinds.at(-1)].map(
      (kind) => this.#traced.byKind.get(kind as number) as TracedStage,
    )
    return weights(embedding as TracedStage) + weights(head as TracedStage) - weights(this.#embeddingAndHead)
  }

  needs(limits: MemoryLimits): (device: string) => NeedsOnDevice {
    const kinds = new Map<string, NeedsOnDevice>()
    return (device) => {
      const kind = kindOf(device)
      const needs = kinds.get(kind) ?? this.#needsOn(device, limits)
      kinds.set(kind, needs)
      return needs
    }
  }

  #needsOn(device: string, limits: MemoryLimits): NeedsOnDevice {
    const { kinds, byKind } = this.#traced
    const ownOf = (stage: TracedStage): StageNeeds => {
      const { weights, kvCache, states, read } = this.#memory(stage, device, limits)
      return { memory: weights + kvCache + states, read, operations: operationsOf(stage) }
    }
    const needs = new Map([...byKind].map(([kind, stage]) => [kind, ownOf(stage)]))
    const sums = (part: keyof StageNeeds) => {
      const sums = [0]
      for (const [i, kind] of kinds.entries()) {
        sums.push((sums[i] as number) + (needs.get(kind) as StageNeeds)[part])
      }
      return (first: number, end: number) => (sums[end] as number) - (sums[first] as number)
    }
    const [memory, read, operations] = [sums('memory'), sums('read'), sums('operations')]
    const tied = this.tiedBytes(limits, device)
    const { page } = this.#memory(this.#embeddingAndHead, device, limits)
    const buffers = this.#peakBuffers.peak((groups) => this.#memory(this.#stageOf(groups), device, limits).buffers)
    return {
      all: (first, end) => {
        const whole = first === 0 && end === kinds.length
        const contents = memory(first, end) + buffers(first, end) - (whole ? tied : 0)
        return { memory: roundUp(contents, page), read: read(first, end), operations: operations(first, end) }
      },
      minMemory: (first, end) => memory(first, end) - tied,
    }
  }

  #stageOf(groups: readonly number[]): TracedStage {
    const key = groups.map((group) => this.#traced.shapes[group]).join(' ')
    const stage = this.#byShapes.get(key) ?? this.#trace(groups.flatMap((group) => this.groups[group] as string[]))
    this.#byShapes.set(key, stage)
    return stage
  }

  /** Only for a few modules: tracing many distinct ones takes milliseconds. */
  #trace(modules: readonly string[]): TracedStage {
    return runSync(trace(this.#model, this.#source, modules, this.#rank))
  }

  #memory(stage: TracedStage, device: string, limits: MemoryLimits): PlannedMemory {
    const count = this.#counted.get(stage) ?? runSync(countedStage(stage))
    this.#counted.set(stage, count)
    return count(device.replace(/,.*/, ''), limits) // of a group the first: all are of a kind
  }
}

/** Devices of one kind have the same memory layout. */
function kindOf(device: string): string {
  return device.replace(/:.*/, '')
}

/** Operations of the linears of a stage, per token. */
function operationsOf({ program, weights }: TracedStage): number {
  return program.operators.reduce((sum, operator) => {
    if (operator.op !== 'linear' && operator.op !== 'groupedLinear') return sum
    const times = operator.op === 'linear' ? 1 : (program.values[operator.routing]?.width ?? 0) / 2
    return operator.targets.reduce((partial, { weight }) => {
      const spec = weights[weight] as WeightSpec
      return partial + (spec.kind === 'vector' ? 0 : 2 * times * spec.out * spec.in)
    }, sum)
  }, 0)
}

/** Everything that the buffers of a stage depend on, as a comparable string. */
function shapeOf({ program, weights }: TracedStage): string {
  const { values, ropes, cacheLayers, stateLayers, operators } = program
  const kinds = operators.map((operator) => (operator.op === 'tap' ? operator.x : operator)) // each has its own number
  const frequencies = ropes.map(({ inverseFrequency }) => inverseFrequency.length)
  return JSON.stringify([values, frequencies, cacheLayers, stateLayers, kinds, weights.map(shapeOfWeight)])
}

function shapeOfWeight(weight: WeightSpec): unknown {
  if (weight.kind === 'vector') return weight.length
  if (weight.kind === 'experts') return [weight.experts.length, weight.hasOrder, shapeOfWeight(weight.first)]
  if (weight.kind === 'matrix') return [weight.kind, weight.in, weight.out]
  const { kind, bits, groupSize, groupIndex, part } = weight
  return [kind, weight.in, weight.out, bits, groupSize, groupIndex !== undefined, part?.inputs !== undefined]
}

/** Everything else that the weight bytes of a stage depend on, as a comparable string. */
function weightsOf({ weights }: TracedStage): string {
  const bytesOf = (weight: WeightSpec): unknown => {
    if (weight.kind === 'vector') return weight.length
    if (weight.kind === 'experts') return [weight.hasZeroPoints, bytesOf(weight.first)]
    const own = weight.kind === 'matrix' ? [weight.weight.dtype] : [weight.symmetric, weight.scales.dtype]
    return [weight.bias !== undefined, ...own]
  }
  return JSON.stringify(weights.map(bytesOf))
}

/** Work of a stage per decoded token. */
interface StageWork {
  /** Bytes of weights read, once per step for all its tokens. */
  readonly read: number
  /** Operations of its linears per token; a multiply-add is two. */
  readonly operations: number
}

/**
 * Rough number of operations that a device computes in the time it takes to read one byte of weights: a CPU core with
 * AVX-512 reads 25 GB/s and computes 800 GOP/s; an A100 reads 1.9 TB/s and computes 250 TFLOP/s; an H200 4 TB/s and 600
 * TFLOP/s.
 */
const OPERATIONS_PER_BYTE: Readonly<Record<string, number>> = { cpu: 32, cuda: 140 }

/** Tokens per step with all sequences running: each independent device works on a step of its own. */
export function tokensPerStep(devices: readonly PlanDevice[], maxSequences: number): number {
  const processors = new Set(devices.map(({ device }) => (isHost(device) ? 'host' : device)))
  return ceilDiv(maxSequences, Math.max(1, processors.size))
}

/** Whether computing `tokens` tokens takes longer than reading the weights, which all of them share. */
export function isComputeBound({ read, operations }: StageWork, { device }: PlanDevice, tokens: number): boolean {
  return operations * tokens > read * operationsPerByteOn(device)
}

/** Time of a step, in the unit of the device speed: the maximum of reading and computing. */
export function stageTime({ read, operations }: StageWork, { device, speed = 1 }: PlanDevice, tokens: number): number {
  return Math.max(read, (operations * tokens) / operationsPerByteOn(device)) / speed
}

/** Weights on disk are computed on the CPU, which is as fast as memory. */
function operationsPerByteOn(device: string): number {
  return OPERATIONS_PER_BYTE[isHost(device) ? 'cpu' : 'cuda'] as number
}

function isHost(device: string): boolean {
  return device.startsWith('cpu') || device.startsWith('disk')
}
