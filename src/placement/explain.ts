import { type ModelLimits, modelLimits, type SizeOptions } from '../limits'
import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { autoDeviceMap, type PlanDevice, type PlannedStage, planStages } from './plan'
import type { Placement } from './plan-model'
import { storedModules } from './stored-modules'
import { isStrategy } from './strategy-map'

export interface ExplainedPlan {
  readonly model: Model
  readonly source: WeightSource
  readonly limits: ModelLimits
  readonly devices: readonly PlanDevice[]
  readonly stages: readonly (PlannedStage & { readonly budget: number | null })[]
  /** Bytes that the fullest device lacks; 0 if everything fits. */
  readonly shortage: number
  readonly placement: Placement
  readonly options: SizeOptions
}

/** A plan in sentences: what each device holds, what bounds its speed, or what is missing and what would help. */
export function explainPlan(plan: ExplainedPlan): string[] {
  const { stages, limits, shortage, placement } = plan
  const kvCache = stages.reduce((sum, stage) => sum + stage.kvCache, 0)
  const lines = stages.map(
    ({ device, modules, total, budget }) =>
      `${device} holds ${spoken(modules)}: ${gibibytes(total)}${budget === null ? '' : ` of ${gibibytes(budget)}`}.`,
  )
  if (isStrategy(placement)) lines.unshift(whatStrategiesCount(plan, placement))
  lines.push(
    `The KV cache for ${limits.maxSequences} sequence${limits.maxSequences === 1 ? '' : 's'} of ${limits.maxModelLength} tokens takes ${gibibytes(kvCache)} of that.`,
  )
  if (shortage > 0) return [...lines, ...whatIsMissing(plan)]
  if (placement === 'auto' && stages.length > 1) lines.push(slowestStage(plan))
  return lines
}

function whatStrategiesCount({ model, source }: ExplainedPlan, strategy: string): string {
  const stored = Object.values(storedModules(model, source).modules).reduce((sum, bytes) => sum + bytes, 0)
  return (
    `'${strategy}' places as accelerate does, which counts the ${gibibytes(stored)} of weights in the checkpoint alone: ` +
    'no KV cache, no buffers. What each device will hold in truth:'
  )
}

function slowestStage({ stages, devices }: ExplainedPlan): string {
  const speedOf = (device: string) => devices.find((candidate) => candidate.device === device)?.speed ?? 1
  const time = ({ read, device }: PlannedStage) => read / speedOf(device)
  const slowest = stages.reduce((a, b) => (time(b) > time(a) ? b : a))
  return (
    `The slowest stage is that of ${slowest.device}, which reads ${gibibytes(slowest.read)} of weights a token: ` +
    'no other split within these budgets has a faster slowest stage.'
  )
}

function whatIsMissing(plan: ExplainedPlan): string[] {
  const { shortage, placement } = plan
  const lines = [`It does not fit: a device lacks ${shortage.toLocaleString('en-US')} bytes (${gibibytes(shortage)}).`]
  if (placement !== 'auto') return [...lines, whatAutoWouldDo(plan)]
  const changes = singleChanges(plan)
  lines.push(
    changes.length > 0
      ? `Each of these alone would make it fit: ${changes.join('; ')}.`
      : 'No single change of context, sequences or one more device makes it fit: use a smaller type, or several of them.',
  )
  return lines
}

function whatAutoWouldDo({ model, source, limits, devices }: ExplainedPlan): string {
  const map = autoDeviceMap(model, source, limits, devices)
  if (!map) return "deviceMap 'auto' finds no split that fits either."
  const stages = planStages(model, source, limits, (module) => map.get(module) as string)
  const shares = stages.map(({ device, modules, total }) => `${device} ${spoken(modules)} (${gibibytes(total)})`)
  return `deviceMap 'auto' would fit: ${shares.join('; ')}.`
}

/** The smallest single changes after which an automatic placement fits. */
function singleChanges({ model, source, limits, devices, options }: ExplainedPlan): string[] {
  const fits = (change: SizeOptions, on: readonly PlanDevice[] = devices) =>
    autoDeviceMap(model, source, modelLimits(model.shape, { ...options, ...change }), on) !== undefined
  const { maxModelLength, maxSequences } = limits
  const length = largest(maxModelLength, (value) => fits({ maxModelLength: value }))
  const sequences = largest(maxSequences, (value) => fits({ maxSequences: value }))
  const changes: string[] = []
  if (length > 0) changes.push(`maxModelLength ${length} instead of ${maxModelLength}`)
  if (sequences > 0) changes.push(`maxSequences ${sequences} instead of ${maxSequences}`)
  const last = devices.at(-1)
  if (last && fits({}, [...devices, last])) changes.push(`one more device of ${gibibytes(last.memory)}`)
  return changes
}

/** The largest value below `limit` that holds, where every smaller one holds too; 0 if none does. */
function largest(limit: number, holds: (value: number) => boolean): number {
  let low = 0
  let high = limit
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (holds(middle)) low = middle
    else high = middle
  }
  return low
}

/** `model.layers.3` to `model.layers.9` in a row as "model.layers.3 to 9". */
function spoken(modules: readonly string[]): string {
  const parts: string[] = []
  for (let i = 0; i < modules.length; i++) {
    const name = modules[i] as string
    const [, prefix, first] = /^(.*)\.(\d+)$/.exec(name) ?? []
    let last = Number(first)
    while (prefix !== undefined && modules[i + 1] === `${prefix}.${last + 1}`) {
      last++
      i++
    }
    parts.push(prefix !== undefined && last > Number(first) ? `${name} to ${last}` : name)
  }
  return parts.join(', ')
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`
}
