import { BillfishError } from '../common/errors'
import { type CooperativeTask, runSync } from '../common/event-loop'
import type { StageSpec } from '../native/addon'
import type { Model } from './architecture'
import { checkDeviceLimits } from './device-limits'
import { Graph, type Value, type WeightSource } from './graph'
import { Rank } from './rank'

/** Modules in forward order: embedding, layers, final norm, and the head if there is one. */
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
  /** Experts of its layers on other devices, by device. */
  readonly branches?: readonly BranchModules[]
}

/** Experts of some layers of a stage, on a device that computes them while the stage waits. */
export interface BranchModules {
  readonly device: string
  readonly modules: readonly string[]
}

/** Layers with experts, and what these are called: modules that may be on another device than their layer. */
export function expertsOf(model: Model): ReadonlyMap<string, string> {
  const experts = new Map<string, string>()
  for (let i = 0; i < model.shape.layers; i++) {
    const module = model.expertsOf?.(i)
    if (module !== undefined) experts.set(`${model.names.layers}.${i}`, module)
  }
  return experts
}

/** The stages of a model whose modules are placed; experts without a device are with their layer. */
export function placedStages(model: Model, deviceOf: (module: string) => string | undefined): StageModules[] {
  const experts = expertsOf(model)
  const stages = stagesOf(modulesOf(model), (module) => deviceOf(module) as string)
  return stages.map((stage) => {
    const branches = new Map<string, string[]>()
    for (const layer of stage.modules) {
      const module = experts.get(layer)
      const device = module && deviceOf(module)
      if (!device || device === stage.device) continue
      branches.set(device, [...(branches.get(device) ?? []), module])
    }
    if (branches.size === 0) return stage
    return { ...stage, branches: [...branches].map(([device, modules]) => ({ device, modules })) }
  })
}

/** Groups modules into stages: a new stage starts wherever the device changes. */
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

/** Traces what each rank of a stage computes, and then what its branches do. */
export function* traceRanks(
  model: Model,
  source: WeightSource,
  stage: StageModules,
  ranks: number,
): CooperativeTask<StageSpec[]> {
  const stages: StageSpec[] = []
  for (const [index, device] of groupDevices(stage.device, ranks).entries()) {
    stages.push(yield* traceRank(model, source, { ...stage, device }, new Rank(index, ranks)))
  }
  for (const [i, branch] of (stage.branches ?? []).entries()) {
    stages.push(yield* traceBranch(model, source, branch, ranks + i))
  }
  return stages
}

/**
 * Whether the rows are gathered in this layer whose logits are wanted, so that stages behind it have no others. A model
 * without a head is usually asked for the hidden states of all tokens.
 */
function gathers({ hasHead, shape }: Model, layer: number): boolean {
  return hasHead && layer === shape.layers - 1
}

/** @throws BillfishError UNSUPPORTED_MODEL if the device cannot compute it */
function* traceBranch(
  model: Model,
  source: WeightSource,
  { device, modules }: BranchModules,
  rank: number,
): CooperativeTask<StageSpec> {
  const g = new Graph(source)
  for (const module of modules) {
    const index = Number.parseInt(module.slice(model.names.layers.length + 1), 10)
    if (model.readLayer) yield* model.readLayer(source, index)
    model.branchOfExperts?.(g, index, gathers(model, index))
    yield
  }
  const stage = { device, rank, program: g.finish(), weights: g.weights }
  checkDeviceLimits(stage)
  return stage
}

/**
 * Traces what one rank of a stage computes, for its device.
 * @throws BillfishError UNSUPPORTED_MODEL if the device cannot compute it
 */
export function* traceRank(
  model: Model,
  source: WeightSource,
  { device, modules, branches = [] }: StageModules,
  rank: Rank,
): CooperativeTask<StageSpec> {
  const links = new Map(branches.flatMap((branch, link) => branch.modules.map((module) => [module, link] as const)))
  const stage = { device, ...(yield* trace(model, source, modules, rank, links)) }
  yield
  checkDeviceLimits(stage)
  return stage
}

/** The device of every rank: those of a group (`'cuda:0,cuda:1'`), or the same one for all. */
export function groupDevices(group: string, ranks: number): string[] {
  const devices = group.split(',')
  if (devices.length === ranks) return devices
  if (devices.length === 1) return Array.from({ length: ranks }, () => group)
  throw new BillfishError(
    'INVALID_OPTION',
    `deviceMap: ${group} has ${devices.length} devices, but tensorParallelSize is ${ranks}. Use ${ranks === 1 ? 'one device' : `${ranks} devices`}.`,
  )
}

/**
 * Traces the program of a few modules as one stage on one device.
 * @throws BillfishError UNSUPPORTED_MODEL if the device cannot compute it
 */
export function traceStage(model: Model, source: WeightSource, stage: StageModules): StageSpec {
  return runSync(traceRank(model, source, stage, Rank.only))
}

/** What a stage computes, independent of the device. */
export type TracedStage = Omit<StageSpec, 'device'>

/**
 * Traces the program of one rank of a stage, some of whose modules may be on branches. Hidden state 0 is the embedding,
 * i + 1 the output of layer i; the input of the head, after the final norm, comes last.
 */
export function* trace(
  model: Model,
  source: WeightSource,
  modules: readonly string[],
  rank: Rank,
  links?: ReadonlyMap<string, number>,
): CooperativeTask<TracedStage> {
  const { names, shape } = model
  const g = new Graph(source, rank, links)
  const wanted = (x: Value) => (x.rows === 'tokens' ? g.gather(x) : x) // the rows whose logits are
  const isBehindLayers = modules[0] === names.norm || modules[0] === names.head
  const inputRows = model.hasHead && isBehindLayers ? 'logits' : 'tokens'
  let x = modules[0] === names.embedding ? undefined : g.input(shape.hiddenSize, inputRows)
  for (const module of modules) {
    if (module === names.embedding) {
      x = model.embed(g)
      g.tap(x, 0)
    } else if (module === names.norm) {
      x = model.finalNorm(g, wanted(required(x)))
    } else if (module === names.head) {
      const rows = wanted(required(x))
      g.tap(rows, shape.layers + 1)
      x = model.head(g, rows)
    } else {
      const index = Number(module.slice(names.layers.length + 1))
      if (model.readLayer) yield* model.readLayer(source, index)
      x = model.decoderLayer(g, required(x), index, gathers(model, index))
      g.tap(x, index + 1)
    }
    yield
  }
  const handsOver = modules.at(-1) !== lastModules(model).at(-1)
  return { rank: rank.index, program: g.finish(required(x), handsOver), weights: g.weights }
}

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a stage without the embedding needs an input')
  return value
}
