import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { Rank } from '../models/rank'
import { lastModules, modulesOf, stageOn, traceStage } from '../models/stages'
import type { StageSpec } from '../native/addon'
import { mayHaveOrder, type WeightSpec } from '../native/weights'
import { bytesRead, type MemoryLimits, stageContents, taken } from './stage-memory'
import type { StageWork } from './stage-time'

/** What one stage needs and does. */
export interface StageNeeds extends StageWork {
  /** All its bytes. */
  readonly memory: number
}

/** The needs of a stage of groups [first, end) on a device. */
export type NeedsOf = (device: string, first: number, end: number) => StageNeeds

export interface BoundedNeedsOf extends NeedsOf {
  /** Bytes of it that are the sums of its groups' own, which more groups never lower. */
  leastMemory(device: string, first: number, end: number): number
}

/** What an automatic split knows of a model's possible stages. */
export interface Costs {
  /** Modules that are placed as a whole, in order: embedding, each layer, and norm and head together. */
  readonly groups: readonly (readonly string[])[]
  /** Bytes that embedding and head hold less where they share a stage on this device; 0 if they are not tied. */
  tiedBytes(limits: MemoryLimits, device: string): number
  needs(limits: MemoryLimits): BoundedNeedsOf
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
      const needsOf = (device: string, from: number, end: number) => {
        const all = needs.map((one) => one(device, from, end))
        const most = (part: keyof StageNeeds) => Math.max(...all.map((one) => one[part]))
        return { memory: most('memory'), read: most('read'), operations: most('operations') }
      }
      const leastMemory = (device: string, from: number, end: number) =>
        Math.max(...needs.map((one) => one.leastMemory(device, from, end)))
      return Object.assign(needsOf, { leastMemory })
    },
  }
}

/** {@link NeedsOf} on one device. */
interface NeedsOnDevice {
  all(first: number, end: number): StageNeeds
  leastMemory(first: number, end: number): number
}

/**
 * A model cut into what is placed as a whole, so that the needs of every possible stage are known from a few traces.
 * Weights, KV cache and bytes read add up, before a device gives whole pages for the sum. Buffers do not, but values die
 * within a layer or two: a stage of many layers of one shape needs what a stage with two of them needs.
 */
class StageCosts implements Costs {
  readonly groups: readonly (readonly string[])[]
  private readonly traces: readonly StageSpec[]
  /** A number for each group; equal numbers are equal shapes. */
  private readonly shapes: readonly number[]
  /** The same, equal where the weights hold as many bytes, too. */
  private readonly kinds: readonly number[]
  /** For each group the end of the groups of its shape that follow each other from there. */
  private readonly runEnds: readonly number[]
  /** Traced stages by the shapes of their groups. */
  private readonly byShape = new Map<string, StageSpec>()

  constructor(
    private readonly model: Model,
    private readonly source: WeightSource,
    private readonly rank: Rank,
  ) {
    const modules = modulesOf(model)
    const last = lastModules(model)
    this.groups = [...modules.slice(0, -last.length).map((module) => [module]), last]
    this.traces = this.groups.map((group) => this.trace('', group))
    const shapes = this.traces.map(shapeOf)
    this.shapes = numbered(shapes)
    this.kinds = numbered(this.traces.map((stage, i) => `${shapes[i]} ${weightsOf(stage)}`))
    const runEnds: number[] = []
    for (let i = this.shapes.length - 1; i >= 0; i--) {
      runEnds[i] = this.shapes[i] === this.shapes[i + 1] ? (runEnds[i + 1] as number) : i + 1
    }
    this.runEnds = runEnds
  }

  tiedBytes(limits: MemoryLimits, device: string): number {
    const [embedding, head] = [this.groups[0] as string[], this.groups.at(-1) as string[]]
    const weights = (modules: string[]) => stageContents(this.trace(device, modules), limits).weights
    return weights(embedding) + weights(head) - weights([...embedding, ...head])
  }

  needs(limits: MemoryLimits): BoundedNeedsOf {
    const kinds = new Map<string, NeedsOnDevice>()
    const devices = new Map<string, NeedsOnDevice>()
    const on = (device: string): NeedsOnDevice => {
      const known = devices.get(device)
      if (known) return known
      const kind = device.replace(/:.*/, '') // devices of a kind hold things alike
      const needs = kinds.get(kind) ?? this.needsOn(device, limits)
      kinds.set(kind, needs)
      devices.set(device, needs)
      return needs
    }
    return Object.assign((device: string, first: number, end: number) => on(device).all(first, end), {
      leastMemory: (device: string, first: number, end: number) => on(device).leastMemory(first, end),
    })
  }

  private needsOn(device: string, limits: MemoryLimits): NeedsOnDevice {
    const memory = [0]
    const read = [0]
    const operations = [0]
    const memoryOf = (stage: StageSpec) => stageContents(stageOn(stage, device), limits)
    const ownOf = (stage: StageSpec): StageNeeds => {
      const { weights, kvCache } = memoryOf(stage)
      return { memory: weights + kvCache, read: bytesRead({ ...stage, device }), operations: operationsOf(stage) }
    }
    const byKind = new Map<number, StageNeeds>()
    for (const [i, stage] of this.traces.entries()) {
      const kind = this.kinds[i] as number
      const own = byKind.get(kind) ?? ownOf(stage)
      byKind.set(kind, own)
      memory.push((memory[i] as number) + own.memory)
      read.push((read[i] as number) + own.read)
      operations.push((operations[i] as number) + own.operations)
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
    return {
      all: (first, end) => {
        const whole = first === 0 && end === this.groups.length
        const contents = between(memory, first, end) + buffersOf(this.stageLike(first, end)) - (whole ? tied : 0)
        return {
          memory: taken(device, contents),
          read: between(read, first, end),
          operations: between(operations, first, end),
        }
      },
      leastMemory: (first, end) => between(memory, first, end) - tied,
    }
  }

  /** A stage that needs the buffers of groups [first, end), with no more than two groups of a shape in a row. */
  private stageLike(first: number, end: number): StageSpec {
    const { shapes, runEnds } = this
    const kept: number[] = []
    for (let run = first; run < end; run = runEnds[run] as number) {
      kept.push(run)
      if (run + 1 < Math.min(runEnds[run] as number, end)) kept.push(run + 1)
    }
    const key = kept.map((i) => shapes[i]).join(' ')
    const known = this.byShape.get(key)
    if (known) return known
    const stage = this.trace(
      '',
      kept.flatMap((i) => this.groups[i] as string[]),
    )
    this.byShape.set(key, stage)
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

/** All that the bytes of a stage's weights depend on, as a text to compare. */
function weightsOf({ weights }: StageSpec): string {
  return JSON.stringify(
    weights.map((weight) => {
      if (weight.kind === 'vector') return weight.length
      const { kind, in: inputs, out } = weight
      const own =
        weight.kind === 'matrix'
          ? [weight.weight.dtype]
          : [weight.bits, weight.groupSize, weight.symmetric, weight.scales.dtype, mayHaveOrder(weight)]
      return [kind, inputs, out, weight.bias !== undefined, ...own]
    }),
  )
}

/** A number for each text; equal numbers are equal texts. */
function numbered(texts: readonly string[]): number[] {
  const known = new Map<string, number>()
  return texts.map((text) => {
    const number = known.get(text) ?? known.size
    known.set(text, number)
    return number
  })
}
