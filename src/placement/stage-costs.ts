import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { modulesOf, traceStage } from '../models/stages'
import type { StageSpec } from '../native/addon'
import type { WeightSpec } from '../native/weights'
import { bytesRead, type MemoryLimits, stageMemory, weightMemory } from './stage-memory'
import type { StageWork } from './stage-time'

/** What one stage needs and does. */
export interface StageNeeds extends StageWork {
  /** All its bytes. */
  readonly memory: number
}

/** The needs of a stage of groups [first, end). */
export type NeedsOf = (first: number, end: number) => StageNeeds

/**
 * A model cut into what is placed as a whole, so that the needs of every possible stage are known from a few traces.
 * Weights, KV cache and bytes read add up. Buffers do not, but values die within a layer or two: a stage of many layers
 * of one shape needs what a stage with two of them needs.
 */
export class StageCosts {
  /** Embedding, each layer, and norm and head together. */
  readonly groups: readonly (readonly string[])[]
  /** Bytes of a weight that embedding and head share where they are on one stage; 0 if they are not tied. */
  readonly tiedBytes: number
  private readonly traces: readonly StageSpec[]
  /** A number for each group; equal numbers are equal shapes. */
  private readonly shapes: readonly number[]
  /** Traced stages by the shapes of their groups, and by the place of [first, end). */
  private readonly byShape = new Map<string, StageSpec>()
  private readonly byPlace: StageSpec[] = []

  constructor(
    private readonly model: Model,
    private readonly source: WeightSource,
  ) {
    const modules = modulesOf(model)
    this.groups = [...modules.slice(0, -2).map((module) => [module]), modules.slice(-2)]
    this.traces = this.groups.map((group) => traceStage(model, source, { device: '', modules: group }))
    const known: string[] = []
    this.shapes = this.traces.map((stage) => {
      const shape = shapeOf(stage)
      return known.includes(shape) ? known.indexOf(shape) : known.push(shape) - 1
    })
    const [embedding, head] = [this.traces[0], this.traces.at(-1)]
    const shared = embedding?.weights.filter(({ name }) => head?.weights.some((weight) => weight.name === name)) ?? []
    this.tiedBytes = shared.reduce((sum, weight) => sum + weightMemory(weight), 0)
  }

  needs(limits: MemoryLimits): NeedsOf {
    const memory = [0]
    const read = [0]
    const operations = [0]
    for (const [i, stage] of this.traces.entries()) {
      const { weights, kvCache } = stageMemory(stage, limits)
      memory.push((memory[i] as number) + weights + kvCache)
      read.push((read[i] as number) + bytesRead(stage))
      operations.push((operations[i] as number) + operationsOf(stage))
    }
    const buffers = new Map<StageSpec, number>()
    const buffersOf = (stage: StageSpec) => {
      const bytes = buffers.get(stage) ?? stageMemory(stage, limits).buffers
      buffers.set(stage, bytes)
      return bytes
    }
    const between = (sums: readonly number[], first: number, end: number) =>
      (sums[end] as number) - (sums[first] as number)
    return (first, end) => {
      const whole = first === 0 && end === this.groups.length
      return {
        memory: between(memory, first, end) + buffersOf(this.stageLike(first, end)) - (whole ? this.tiedBytes : 0),
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
    const stage = this.byShape.get(key) ?? traceStage(this.model, this.source, { device: '', modules })
    this.byShape.set(key, stage)
    this.byPlace[place] = stage
    return stage
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
  return JSON.stringify([values, ropes, cacheLayers, operators.map(({ op }) => op), linears])
}
