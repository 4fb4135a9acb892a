import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import type { CooperativeTask } from '../common/event-loop'
import type { Model } from '../models/architecture'
import { expertsOf, modulesOf, placedStages } from '../models/stages'
import { readQuantizationConfig, sourcesOfConfig } from '../quantization/config'
import { type PlanSource, storedModules } from './accelerate/stored-modules'
import { isStrategy, strategyMap } from './accelerate/strategy-map'
import type { ResolvedPlanOptions } from './available-devices'
import { configSource } from './config-source'
import { checkGroups, deviceGroups, wholeGroups } from './device-groups'
import { resolveDeviceMap } from './device-map'
import { type ExplainedPlan, explainPlan } from './explain/explain'
import { hostBudgets } from './host-budgets'
import { type ModelLimits, modelLimits, type SizeOptions } from './limits'
import { type PlanDevice, type PlannedStage, planStages } from './plan'
import { planDevices } from './plan-devices'
import type { Placement } from './plan-options'
import { minShortfallSplit, splitMap } from './planner/auto-map'
import { type Costs, costsOf } from './planner/stage-costs'

/** A plan. Plain JSON: store it, or pass it to `loadModel(directory, { plan })`. */
export interface ModelPlan {
  /** Module -> device, for every module, and for experts that are not with their layer. */
  readonly deviceMap: Readonly<Record<string, string>>
  /** The sizes it was made for, defaults included. */
  readonly sizes: SizeOptions
  /** One per stage and rank, in pipeline order, each stage's branches behind it; `budget` is the device's limit in bytes, null for none. */
  readonly stages: readonly (PlannedStage & { readonly budget: number | null })[]
  /** Whether every device has room for its stages. */
  readonly fits: boolean
  /** Sentences: why the boundaries are where they are, or what is missing and which single change would help. */
  readonly explanation: readonly string[]
}

/** Plans a model whose weight shapes are known. */
export function* plan(model: Model, source: PlanSource, options: ResolvedPlanOptions): CooperativeTask<ModelPlan> {
  const { explain, ...planned } = yield* outline(model, source, options)
  return { ...planned, explanation: yield* explain() }
}

/** {@link plan} without the explanation, which takes longest and is not always needed. */
export function* outline(
  model: Model,
  source: PlanSource,
  options: ResolvedPlanOptions,
): CooperativeTask<Omit<ModelPlan, 'explanation'> & { explain(): CooperativeTask<string[]> }> {
  const limits = modelLimits(model.shape, options)
  const { candidates, budgets, overheadOn } = planDevices(options)
  const groups = typeof options.deviceMap === 'object' ? wholeGroups : deviceGroups
  const devices = groups(candidates, limits.tensorParallelSize)
  const costs = yield* costsOf(model, source, limits.tensorParallelSize)
  const { map, placement } = yield* place(model, source, costs, limits, devices, options.deviceMap)
  checkGroups(
    placedStages(model, (module) => map.get(module)),
    limits.tensorParallelSize,
  )
  const planned = yield* planStages(model, source, limits, (module) => map.get(module), overheadOn)
  const { hostBytes } = options
  const shares = hostBytes === undefined ? undefined : hostBudgets(planned, budgets, hostBytes)
  const stages = planned.map((stage) => {
    const budget = budgets.get(stage.device) ?? shares?.get(stage.device) ?? Number.POSITIVE_INFINITY
    return { ...stage, budget: Number.isFinite(budget) ? budget : null }
  })
  const lacking = shortages(stages)
  return {
    deviceMap: Object.fromEntries(map),
    sizes: sizesOf(limits, options),
    stages,
    fits: lacking.size === 0,
    explain: () =>
      explainPlan({
        model,
        source,
        costs,
        limits,
        devices,
        stages,
        lacking,
        placement,
        options,
        overheadOn,
        sharing: [...(shares?.keys() ?? [])],
      }),
  }
}

function sizesOf(limits: ModelLimits, { dtype = 'auto', maxCacheTokens }: SizeOptions): SizeOptions {
  const { maxModelLength, maxSequences, maxBatchTokens, tensorParallelSize, expertParallel } = limits
  const cache = maxCacheTokens === undefined ? {} : { maxCacheTokens } // otherwise derived from the others
  const experts = expertParallel ? { expertParallel } : {}
  return { dtype, maxModelLength, maxSequences, maxBatchTokens, tensorParallelSize, ...experts, ...cache }
}

function* place(
  model: Model,
  source: PlanSource,
  costs: Costs,
  limits: ModelLimits,
  devices: readonly PlanDevice[],
  deviceMap: Placement,
): CooperativeTask<{ map: Map<string, string>; placement: ExplainedPlan['placement'] }> {
  if (deviceMap === 'auto') {
    const ends = yield* minShortfallSplit(costs, limits, devices)
    return { map: splitMap(costs, devices, ends), placement: { ends } }
  }
  if (isStrategy(deviceMap) && limits.tensorParallelSize > 1) {
    throw new BillfishError(
      'INVALID_OPTION',
      `deviceMap '${deviceMap}' is an accelerate strategy, which does not support tensor parallelism. Use 'auto', or give each module its devices.`,
    )
  }
  if (isStrategy(deviceMap)) {
    const stored = yield* storedModules(model, source)
    const storedBytes = Object.values(stored.modules).reduce((sum, bytes) => sum + bytes, 0)
    return {
      map: strategyMap(model, stored, deviceMap, devices),
      placement: { strategy: deviceMap, storedBytes },
    }
  }
  return { map: resolveDeviceMap(deviceMap, modulesOf(model), expertsOf(model)), placement: 'given' }
}

/** Device -> bytes by which its stages exceed its budget. */
function shortages(stages: ModelPlan['stages']): Map<string, number> {
  const left = new Map<string, number>()
  for (const { device, total, budget } of stages) {
    left.set(device, (left.get(device) ?? budget ?? Number.POSITIVE_INFINITY) - total)
  }
  return new Map([...left].filter(([, bytes]) => bytes < 0).map(([device, bytes]) => [device, -bytes]))
}

/** Weights that a checkpoint with this config.json would have. @throws BillfishError INVALID_CHECKPOINT */
export function configWeights(config: RawConfig): PlanSource {
  const quantization = readQuantizationConfig(sourcesOfConfig(config, 'config.json'))
  return configSource(config, quantization)
}
