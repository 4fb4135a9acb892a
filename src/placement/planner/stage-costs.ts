import { type CooperativeTask, runSync } from '../../event-loop'
import type { Model } from '../../models/architecture'
import type { WeightSource } from '../../models/graph'
import { Rank } from '../../models/rank'
import { lastModules, modulesOf, stageForDevice, type TracedStage, trace } from '../../models/stages'
import type { StageSpec } from '../../native/addon'
import { mayHaveOrder, type QuantizedSpec, type WeightSpec } from '../../native/weights'
import { PeakBuffers } from './peak-buffers'
import { bytesRead, type MemoryLimits, stageContents, takenOn } from './stage-memory'
import type { StageWork } from './stage-time'

/** What one stage needs and does. */
export interface StageNeeds extends StageWork {
  /** All its bytes. */
  readonly memory: number
}

/** The needs of a stage of groups [first, end) on a device. */
export type NeedsOf = (device: string, first: number, end: number) => StageNeeds

/** {@link NeedsOf} on one device. */
export interface NeedsOnDevice {
  all(first: number, end: number): StageNeeds
  /** Bytes that are the sums of its groups' own, which more groups never lower. */
  minMemory(first: number, end: number): number
}

/** What an automatic split knows of a model's possible stages. */
export interface Costs {
  /** Modules that are placed as a whole, in order: embedding, each layer, and norm and head together. */
  readonly groups: readonly (readonly string[])[]
  /** Bytes that embedding and head hold less where they share a stage on this device; 0 if they are not tied. */
  tiedBytes(limits: MemoryLimits, device: string): number
  needs(limits: MemoryLimits): (device: string) => NeedsOnDevice
}

/** Costs of stages that `ranks` devices compute together: what the rank needs that needs most. */
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
      return (device) => mostOf(needs.map((on) => on(device)))
    },
  }
}

/** What the rank needs that needs most. */
function mostOf(ranks: readonly NeedsOnDevice[]): NeedsOnDevice {
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
      let most = Number.NEGATIVE_INFINITY // a tied head may make it less than nothing
      for (const rank of ranks) most = Math.max(most, rank.minMemory(first, end))
      return most
    },
  }
}

/** The groups of modules that are placed as a whole, each traced by itself. */
interface TracedGroups {
  readonly groups: readonly (readonly string[])[]
  /** A number for each group; equal numbers are equal shapes. */
  readonly shapes: readonly number[]
  /** The same, equal where the weights hold as many bytes, too. */
  readonly kinds: readonly number[]
  /** The first group of each kind. */
  readonly byKind: ReadonlyMap<number, TracedStage>
}

/** @param known the number of each text so far, of the ranks before too */
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
 * A model cut into what is placed as a whole, so that the needs of every possible stage are known from a few traces.
 * Weights, KV cache and bytes read add up, before a device gives whole pages for the sum. Buffers do not, but values die
 * within a layer or two: a stage needs what one with fewer layers does ({@link PeakBuffers}).
 */
class StageCosts implements Costs {
  readonly groups: readonly (readonly string[])[]
  readonly #alike: PeakBuffers
  /** Embedding and head in one stage. */
  readonly #both: TracedStage
  /** Traced stages by the shapes of their groups. */
  readonly #byShapes = new Map<string, TracedStage>()
  /** Traced stages on each kind of device. */
  readonly #placed = new Map<TracedStage, Map<string, StageSpec>>()

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
    this.#alike = new PeakBuffers(traced.shapes)
    this.#both = this.#trace([...(this.groups[0] as string[]), ...(this.groups.at(-1) as string[])])
  }

  /** Whether a rank's stages cost what another one's do. Of the ranks the first one alone hands over hidden states. */
  equals(other: StageCosts): boolean {
    return (
      this.#rank.isFirst === other.#rank.isFirst &&
      this.#traced.kinds.every((kind, i) => kind === other.#traced.kinds[i])
    )
  }

  tiedBytes(limits: MemoryLimits, device: string): number {
    const weights = (stage: TracedStage) => stageContents(this.#on(device, stage), limits).weights
    const [embedding, head] = [this.#traced.kinds[0], this.#traced.kinds.at(-1)].map(
      (kind) => this.#traced.byKind.get(kind as number) as TracedStage,
    )
    return weights(embedding as TracedStage) + weights(head as TracedStage) - weights(this.#both)
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
    const ownOf = (stage: StageSpec): StageNeeds => {
      const { weights, kvCache } = stageContents(stage, limits)
      return { memory: weights + kvCache, read: bytesRead(stage), operations: operationsOf(stage) }
    }
    const needs = new Map([...byKind].map(([kind, stage]) => [kind, ownOf(this.#on(device, stage))]))
    const sums = (part: keyof StageNeeds) => {
      const sums = [0]
      for (const [i, kind] of kinds.entries()) {
        sums.push((sums[i] as number) + (needs.get(kind) as StageNeeds)[part])
      }
      return (first: number, end: number) => (sums[end] as number) - (sums[first] as number)
    }
    const [memory, read, operations] = [sums('memory'), sums('read'), sums('operations')]
    const tied = this.tiedBytes(limits, device)
    const takenFor = takenOn(device)
    const buffers = this.#alike.needs(
      (groups) => stageContents(this.#on(device, this.#stageOf(groups)), limits).buffers,
    )
    return {
      all: (first, end) => {
        const whole = first === 0 && end === kinds.length
        const contents = memory(first, end) + buffers(first, end) - (whole ? tied : 0)
        return { memory: takenFor(contents), read: read(first, end), operations: operations(first, end) }
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

  /** Few modules: a stage of many that are not alike takes some milliseconds. */
  #trace(modules: readonly string[]): TracedStage {
    return runSync(trace(this.#model, this.#source, modules, this.#rank))
  }

  #on(device: string, stage: TracedStage): StageSpec {
    const onKinds = this.#placed.get(stage) ?? new Map<string, StageSpec>()
    this.#placed.set(stage, onKinds)
    const kind = kindOf(device)
    const placed = onKinds.get(kind) ?? runSync(stageForDevice(stage, device))
    onKinds.set(kind, placed)
    return { ...placed, device }
  }
}

/** Devices of a kind hold things alike. */
function kindOf(device: string): string {
  return device.replace(/:.*/, '')
}

/** Operations of a stage's linears for one token. */
function operationsOf({ program, weights }: StageSpec): number {
  const targets = program.operators.flatMap((operator) => (operator.op === 'linear' ? operator.targets : []))
  return targets.reduce((sum, { weight }) => {
    const spec = weights[weight] as WeightSpec
    return sum + (spec.kind === 'vector' ? 0 : 2 * spec.out * spec.in)
  }, 0)
}

/** All of a stage that its buffers may depend on, as a text to compare. */
function shapeOf({ program, weights }: TracedStage): string {
  const { values, ropes, cacheLayers, operators } = program
  const linears = weights.map((weight) =>
    weight.kind === 'vector'
      ? weight.length
      : [weight.kind, weight.in, weight.out, ...(weight.kind === 'quantized' ? quantizationOf(weight) : [])],
  )
  const kinds = operators.map((operator) =>
    operator.op === 'attention' ? [operator.heads, operator.window] : operator.op,
  )
  const frequencies = ropes.map(({ inverseFrequency }) => inverseFrequency.length)
  return JSON.stringify([values, frequencies, cacheLayers, kinds, linears])
}

function quantizationOf(weight: QuantizedSpec) {
  return [weight.bits, weight.groupSize, mayHaveOrder(weight)]
}

/** All that the bytes of a stage's weights depend on, as a text to compare. */
function weightsOf({ weights }: TracedStage): string {
  return JSON.stringify(
    weights.map((weight) => {
      if (weight.kind === 'vector') return weight.length
      const { kind, in: inputs, out } = weight
      const own =
        weight.kind === 'matrix'
          ? [weight.weight.dtype]
          : [...quantizationOf(weight), weight.symmetric, weight.scales.dtype]
      return [kind, inputs, out, weight.bias !== undefined, ...own]
    }),
  )
}
