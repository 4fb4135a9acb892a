import { BillfishError } from '../errors'
import { type CooperativeTask, runSync } from '../event-loop'
import type { StageSpec } from '../native/addon'
import type { Model } from './architecture'
import { checkDeviceLimits } from './device-limits'
import { Graph, type WeightSource } from './graph'
import { planBuffers, type UnplacedProgram, valueBytes } from './program'
import { Rank } from './rank'

/** Modules in the order of the forward pass: embedding, layers, final norm, and the head if there is one. */
export function modulesOf(model: Model): string[] {
  const { embedding, layers } = model.names
  return [embedding, ...Array.from({ length: model.shape.layers }, (_, i) => `${layers}.${i}`), ...lastModules(model)]
}

/** The final norm, and the head if there is one. */
export function lastModules({ names, hasHead }: Model): string[] {
  return hasHead ? [names.norm, names.head] : [names.norm]
}

/** Consecutive modules on one device. */
export interface StageModules {
  readonly device: string
  readonly modules: readonly string[]
}

/** Cuts the modules into stages: a new one begins wherever the device changes. */
export function stagesOf(modules: readonly string[], deviceOf: (module: string) => string): StageModules[] {
  const stages: { device: string; modules: string[] }[] = []
  for (const module of modules) {
    const device = deviceOf(module)
    const last = stages.at(-1)
    if (last?.device === device) last.modules.push(module)
    else stages.push({ device, modules: [module] })
  }
  return stages
}

/** Traces what each device of a stage computes: of the only one, or of all that share it. */
export function* traceRanks(
  model: Model,
  source: WeightSource,
  { device: group, modules }: StageModules,
  ranks: number,
): CooperativeTask<StageSpec[]> {
  const stages: StageSpec[] = []
  for (const [index, device] of groupDevices(group, ranks).entries()) {
    stages.push(yield* traceRank(model, source, { device, modules }, new Rank(index, ranks)))
  }
  return stages
}

/**
 * Traces what one rank of a stage computes, on its own device.
 * @throws BillfishError UNSUPPORTED_MODEL for what the device cannot compute
 */
export function* traceRank(
  model: Model,
  source: WeightSource,
  { device, modules }: StageModules,
  rank: Rank,
): CooperativeTask<StageSpec> {
  const traced = yield* trace(model, source, modules, rank)
  yield
  const stage = yield* stageForDevice(traced, device)
  yield
  checkDeviceLimits(stage)
  return stage
}

/** The device of every rank: those of a group (`'cuda:0,cuda:1'`), or all on the same one. */
export function groupDevices(group: string, ranks: number): string[] {
  const devices = group.split(',')
  if (devices.length === ranks) return devices
  if (devices.length === 1) return Array.from({ length: ranks }, () => group)
  throw new BillfishError(
    'INVALID_OPTION',
    `deviceMap: ${group} are ${devices.length} devices, but tensorParallelSize is ${ranks}. Name ${ranks === 1 ? 'one' : ranks}.`,
  )
}

/**
 * Traces the program of a few modules, as one stage on one device.
 * @throws BillfishError UNSUPPORTED_MODEL for what the device cannot compute
 */
export function traceStage(model: Model, source: WeightSource, stage: StageModules): StageSpec {
  return runSync(traceRank(model, source, stage, Rank.only))
}

/** What a stage computes, on whatever device. */
export interface TracedStage extends Pick<StageSpec, 'rank' | 'weights'> {
  readonly program: UnplacedProgram
}

/**
 * Traces the program of one stage, or of one rank of it. Hidden state 0 is the embedding, i + 1 the raw output of layer i;
 * what the head reads, behind the final norm, comes last, and has the rows whose logits are wanted.
 */
export function* trace(
  model: Model,
  source: WeightSource,
  modules: readonly string[],
  rank: Rank,
): CooperativeTask<TracedStage> {
  const { names, shape } = model
  const g = new Graph(source, rank)
  let x = modules[0] === names.embedding ? undefined : g.input(shape.hiddenSize)
  for (const module of modules) {
    if (module === names.embedding) {
      x = model.embed(g)
      g.tap(x, 0)
    } else if (module === names.norm) {
      // Only the rows whose results are wanted, unless the head is on a later stage.
      const isLast = !model.hasHead || modules.includes(names.head)
      const rows = isLast ? g.gather(required(x)) : required(x)
      x = model.finalNorm(g, rows)
    } else if (module === names.head) {
      const rows = required(x).rows === 'tokens' ? g.gather(required(x)) : required(x)
      g.tap(rows, shape.layers + 1)
      x = model.head(g, rows)
    } else {
      const index = Number(module.slice(names.layers.length + 1))
      x = model.decoderLayer(g, required(x), index)
      g.tap(x, index + 1)
    }
    yield
  }
  return { rank: rank.index, program: g.finish(required(x)), weights: g.weights }
}

/** The stage with its values at their places on a device. */
export function* stageForDevice({ rank, program, weights }: TracedStage, device: string): CooperativeTask<StageSpec> {
  return { device, rank, program: { ...program, ...(yield* planBuffers(program, valueBytes(device))) }, weights }
}

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a stage that does not begin with the embedding begins with an input')
  return value
}
