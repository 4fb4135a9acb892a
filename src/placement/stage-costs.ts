import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { modulesOf, traceStage } from '../models/stages'
import type { StageSpec } from '../native/addon'
import { bytesRead, type MemoryLimits, stageMemory, weightMemory } from './stage-memory'

/** What one stage needs and does. */
export interface StageNeeds {
  /** All its bytes. */
  readonly memory: number
  /** Bytes of weights that it reads to decode a token. */
  readonly read: number
}

/** The needs of a stage of groups [first, end). */
export type NeedsOf = (first: number, end: number) => StageNeeds

/**
 * A model cut into what is placed as a whole, so that the needs of every possible stage are known from a few traces:
 * weights, KV cache and bytes read add up, and all layers are alike in shape, so that a stage of many layers needs the
 * buffers of one with two.
 */
export class StageCosts {
  /** Embedding, each layer, and norm and head together. */
  readonly groups: readonly (readonly string[])[]
  /** Bytes of a weight that embedding and head share where they are on one stage; 0 if they are not tied. */
  readonly tiedBytes: number
  private readonly traces: readonly StageSpec[]
  private readonly traced = new Map<string, StageSpec>()

  constructor(
    private readonly model: Model,
    private readonly source: WeightSource,
  ) {
    const modules = modulesOf(model)
    this.groups = [...modules.slice(0, -2).map((module) => [module]), modules.slice(-2)]
    this.traces = this.groups.map((group) => this.trace(group))
    const [embedding, head] = [this.traces[0], this.traces.at(-1)]
    const shared = embedding?.weights.filter(({ name }) => head?.weights.some((weight) => weight.name === name)) ?? []
    this.tiedBytes = shared.reduce((sum, weight) => sum + weightMemory(weight), 0)
  }

  needs(limits: MemoryLimits): NeedsOf {
    const memory = [0]
    const read = [0]
    for (const [i, stage] of this.traces.entries()) {
      const { weights, kvCache } = stageMemory(stage, limits)
      memory.push((memory[i] as number) + weights + kvCache)
      read.push((read[i] as number) + bytesRead(stage))
    }
    const buffers = this.buffers(limits)
    const between = (sums: readonly number[], first: number, end: number) =>
      (sums[end] as number) - (sums[first] as number)
    return (first, end) => {
      const whole = first === 0 && end === this.groups.length
      return {
        memory: between(memory, first, end) + buffers(first, end) - (whole ? this.tiedBytes : 0),
        read: between(read, first, end),
      }
    }
  }

  /** Bytes of a stage's buffers by what it holds. */
  private buffers(limits: MemoryLimits): (first: number, end: number) => number {
    const groups = this.groups.length
    const known: number[] = []
    return (first, end) => {
      const begins = first === 0 ? 1 : 0
      const ends = end === groups ? 1 : 0
      const layers = Math.min(end - first - begins - ends, 2)
      const key = layers * 4 + begins * 2 + ends
      known[key] ??= stageMemory(this.stageLike(begins, layers, ends), limits).buffers
      return known[key]
    }
  }

  /** A stage with the embedding or not, so many layers, and norm and head or not. */
  private stageLike(begins: number, layers: number, ends: number): StageSpec {
    const groups = this.groups.slice(1 - begins, 1 + layers)
    return this.trace([...groups, ...(ends ? this.groups.slice(-1) : [])].flat())
  }

  private trace(modules: readonly string[]): StageSpec {
    const key = modules.join(' ')
    const known = this.traced.get(key)
    if (known) return known
    const stage = traceStage(this.model, this.source, { device: '', modules })
    this.traced.set(key, stage)
    return stage
  }
}
