import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { Rank } from '../models/rank'
import { lastModules, modulesOf, stageOn, traceStage } from '../models/stages'
import type { StageSpec } from '../native/addon'
import type { WeightSpec } from '../native/weights'
import { bytesRead, type MemoryLimits, stageContents, taken } from './stage-memory'
import type { StageWork } from './stage-time'

/** What one stage needs and does. */
export interface StageNeeds extends StageWork {
  /** All its bytes. */
  readonly memory: number
}

/** The needs of a stage of groups [first, end) on a device. */
export type NeedsOf = (device: string, first: number, end: number) => StageNeeds

/** What an automatic split knows of a model's possible stages. */
export interface Costs {
  /** Modules that are placed as a whole, in order: embedding, each layer, and norm and head together. */
  readonly groups: readonly (readonly string[])[]
  /** Bytes that embedding and head hold less where they share a stage on this device; 0 if they are not tied. */
  tiedBytes(limits: MemoryLimits, device: string): number
  needs(limits: MemoryLimits): NeedsOf
}

/** Costs of stages that `ranks` devices compute together: what the rank needs that needs most. */
export function costsOf(model: Model, source: WeightSource, ranks: number): Costs {
  const shares = Array.from({ length: ranks }, (_, index) => new StageCosts(model, source, new Rank(index, ranks)))
  const [first, ...others] = shares as [StageCosts, ...StageCosts[]]
  if (others.length === 0) return first
  return {
    groups: first.groups,
    tiedBytes: (limits, device) => first.tiedBytes(limits, device),
    needs: (limits) => {
      const needs = shares.map((share) => share.needs(limits))
      return (device, from, end) => {
        const all = needs.map((needsOf) => needsOf(device, from, end))
        const most = (part: keyof StageNeeds) => Math.max(...all.map((one) => one[part]))
        return { memory: most('memory'), read: most('read'), operations: most('operations') }
      }
    },
  }
}

/**
 * A model cut into what is placed as a whole, so that the needs of every possible stage are known from a few traces.
 * Weights, KV cache and bytes read add up, before a device gives whole pages for the sum. Buffers do not, but values die within a layer or two: a stage of many layers
 * of one shape needs what a stage with two of them needs.
 */
class StageCosts implements Costs {
  readonly groups: readonly (readonly string[])[]
  private readonly traces: readonly StageSpec[]
  /** A number for each group; equal numbers are equal shapes. */
  private readonly shapes: readonly number[]
  /** Traced stages by the shapes of their groups, and by the place of [first, end). */
  private readonly byShape = new Map<string, StageSpec>()
  private readonly byPlace: StageSpec[] = []

  constructor(
    private readonly model: Model,
    private readonly source: WeightSource,
    private readonly rank: Rank,
  ) {
    const modules = modulesOf(model)
    const last = lastModules(model)
    this.groups = [...modules.slice(0, -last.length).map((module) => [module]), last]
    this.traces = this.groups.map((group) => this.trace('', group))
    const known: string[] = []
    this.shapes = this.traces.map((stage) => {
      const shape = shapeOf(stage)
      return known.includes(shape) ? known.indexOf(shape) : known.push(shape) - 1
    })
  }

  tiedBytes(limits: MemoryLimits, device: string): number {
    const [embedding, head] = [this.groups[0] as string[], this.groups.at(-1) as string[]]
    const weights = (modules: string[]) => stageContents(this.trace(device, modules), limits).weights
    return weights(embedding) + weights(head) - weights([...embedding, ...head])
  }

  needs(limits: MemoryLimits): NeedsOf {
    const kinds = new Map<string, (first: number, end: number) => StageNeeds>()
    return (device, first, end) => {
      const kind = device.replace(/:.*/, '') // devices of a kind hold things alike
      const known = kinds.get(kind) ?? this.needsOn(device, limits)
      kinds.set(kind, known)
      return known(first, end)
    }
  }

  private needsOn(device: string, limits: MemoryLimits): (first: number, end: number) => StageNeeds {
    const memory = [0]
    const read = [0]
    const operations = [0]
    const memoryOf = (stage: StageSpec) => stageContents(stageOn(stage, device), limits)
    for (const [i, stage] of this.traces.entries()) {
      const { weights, kvCache } = memoryOf(stage)
      memory.push((memory[i] as number) + weights + kvCache)
      read.push((read[i] as number) + bytesRead({ ...stage, device }))
      operations.push((operations[i] as number) + operationsOf(stage))
    }
    const tied = this.tiedBytes(limits, device)
    const buffers = new Map<StageSpec, number>()
    const buffersOf = (stage: StageSpec) => {
      const bytes = buffers.get(stage) ?? memoryOf(stage).buffers
      buffers.set(stage, bytes)
      return bytes
    }
    const between = (sums: readonly number[], first: number, end: number) =>
      (sums[end] as number) - (sums[first] as number)
    return (first, end) => {
      const whole = first === 0 && end === this.groups.length
      const contents = between(memory, first, end) + buffersOf(this.stageLike(first, end)) - (whole ? tied : 0)
      return {
        memory: taken(device, contents),
        read: between(read, first, end),
        operations: between(operations, first, end),
      }
    }
  }

  /** A stage that needs the buffers of groups [first, end), with no more than two groups of a shape in a row. */
  private stageLike(first: number, end: number): StageSpec {
    const place = first * (this.groups.length + 1) + end
    const known = this.byPlace[place]
    if (known) return known
    const { shapes } = this
    const kept: number[] = []
    for (let i = first; i < end; i++) {
      const repeated = i - 2 >= first && shapes[i] === shapes[i - 1] && shapes[i] === shapes[i - 2]
      if (!repeated) kept.push(i)
    }
    const key = kept.map((i) => shapes[i]).join(' ')
    const modules = kept.flatMap((i) => this.groups[i] as string[])
    const stage = this.byShape.get(key) ?? this.trace('', modules)
    this.byShape.set(key, stage)
    this.byPlace[place] = stage
    return stage
  }

  private trace(device: string, modules: readonly string[]): StageSpec {
    return traceStage(this.model, this.source, { device, modules }, this.rank)
  }
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
function shapeOf({ program, weights }: StageSpec): string {
  const { values, ropes, cacheLayers, operators } = program
  const linears = weights.map((weight) =>
    weight.kind === 'vector'
      ? weight.length
      : [weight.kind, weight.in, weight.out, ...(weight.kind === 'quantized' ? [weight.bits, weight.groupSize] : [])],
  )
  const kinds = operators.map((operator) =>
    operator.op === 'attention' ? [operator.heads, operator.window] : operator.op,
  )
  return JSON.stringify([values, ropes, cacheLayers, kinds, linears])
}
