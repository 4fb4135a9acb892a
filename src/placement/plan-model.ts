import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { openCheckpoint } from '../checkpoint/checkpoint'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../errors'
import { type ModelLimits, modelLimits, type SizeOptions, sizeOptions } from '../limits'
import type { Model } from '../models/architecture'
import { createModel, storedWeights } from '../models/registry'
import { modulesOf } from '../models/stages'
import { isUrl, readPath } from '../options/path'
import { optionsOf, readOptions } from '../options/read-options'
import { guarded, isRecord, snapshot } from '../options/snapshot'
import { readQuantizationConfig, sourcesOfConfig } from '../quantization/config'
import { leastShortSplit, splitMap } from './auto-map'
import { configSource } from './config-source'
import { checkGroups, deviceGroups } from './device-groups'
import { type DeviceMap, resolveDeviceMap } from './device-map'
import { type ExplainedPlan, explainPlan } from './explain'
import { type PlanDevice, type PlannedStage, planStages } from './plan'
import { type DeviceOptions, deviceOptions, planDevices } from './plan-devices'
import { presets } from './presets'
import { type Costs, costsOf } from './stage-costs'
import type { PlanSource } from './stored-modules'
import { isStrategy, type Strategy, strategyMap } from './strategy-map'

/** How a model may be placed: {@link DeviceMap}, `'auto'`, or one of Hugging Face's {@link Strategy}s. */
export type Placement = DeviceMap | 'auto' | Strategy

export interface PlanOptions extends SizeOptions, DeviceOptions {
  /**
   * `'auto'` by default: the split that makes the slowest stage fastest within the budgets. `'balanced'`,
   * `'balanced_low_0'` and `'sequential'` place as accelerate does, by the weights in the checkpoint alone.
   */
  readonly deviceMap?: Placement | undefined
}

export const planOptions = optionsOf<PlanOptions>('planModel()', {
  ...sizeOptions,
  ...deviceOptions,
  deviceMap: z
    .union([
      z.string(),
      z.number(),
      z.record(z.string(), z.union([z.string(), z.number()]).describe("a device such as 'cpu', 'cuda:0' or 0")),
    ])
    .describe(
      "'auto', 'balanced', 'balanced_low_0', 'sequential', a device such as 'cpu', 'cuda:0' or 0, or an object of " +
        'modules and their devices',
    ),
})

/** A plan is plain JSON: it may be stored, and given to `loadModel(directory, { plan })`. */
export interface ModelPlan {
  /** Module -> device, complete. */
  readonly deviceMap: Readonly<Record<string, string>>
  /** The sizes that it was made for, defaults included. */
  readonly sizes: SizeOptions
  readonly stages: readonly (PlannedStage & { readonly budget: number | null })[]
  /** Whether every device has room for its stages. */
  readonly fits: boolean
  /** In sentences: why the boundaries are where they are, or what is missing and which single change would help. */
  readonly explanation: readonly string[]
}

/**
 * Plans a model without loading it: which module goes where, and the exact bytes that each device will hold.
 *
 * @param model a checkpoint directory (of its weights, headers and zero points are read), the name of a preset (`'Qwen2.5-72B-Instruct'`, ...), or
 *   a config.json as an object, with its quantization_config where there is one
 * @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL, INVALID_OPTION
 */
export async function planModel(model: string | URL | RawConfig, options: PlanOptions = {}): Promise<ModelPlan> {
  const read = readOptions(planOptions, options)
  const { config, weights } = await weightSource(model)
  return plan(createModel(config, weights), weights, read)
}

/** {@link planModel} for a model whose weights' shapes are known. */
export function plan(model: Model, source: PlanSource, options: PlanOptions): ModelPlan {
  const limits = modelLimits(model.shape, options)
  const { candidates, budgets, overheadOn } = planDevices(options)
  const devices = deviceGroups(candidates, limits.tensorParallelSize)
  const costs = costsOf(model, source, limits.tensorParallelSize)
  const { map, placement } = place(model, source, costs, limits, devices, options.deviceMap ?? 'auto')
  checkGroups(map.values(), limits.tensorParallelSize)
  const deviceOf = (module: string) => map.get(module) as string
  const stages = planStages(model, source, limits, deviceOf, overheadOn).map((stage) => {
    const budget = budgets.get(stage.device) ?? Number.POSITIVE_INFINITY
    return { ...stage, budget: Number.isFinite(budget) ? budget : null }
  })
  const lacking = shortages(stages)
  return {
    deviceMap: Object.fromEntries(map),
    sizes: sizesOf(limits, options),
    stages,
    fits: lacking.size === 0,
    explanation: explainPlan({
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
    }),
  }
}

function sizesOf(limits: ModelLimits, { dtype = 'auto', maxCacheTokens }: SizeOptions): SizeOptions {
  const { maxModelLength, maxSequences, maxBatchTokens, tensorParallelSize } = limits
  const cache = maxCacheTokens === undefined ? {} : { maxCacheTokens } // by default it follows from the others
  return { dtype, maxModelLength, maxSequences, maxBatchTokens, tensorParallelSize, ...cache }
}

function place(
  model: Model,
  source: PlanSource,
  costs: Costs,
  limits: ModelLimits,
  devices: readonly PlanDevice[],
  deviceMap: Placement,
): { map: Map<string, string>; placement: ExplainedPlan['placement'] } {
  if (deviceMap === 'auto') {
    const ends = leastShortSplit(costs, limits, devices)
    return { map: splitMap(costs, devices, ends), placement: { ends } }
  }
  if (isStrategy(deviceMap) && limits.tensorParallelSize > 1) {
    throw new BillfishError(
      'INVALID_OPTION',
      `deviceMap '${deviceMap}' is accelerate's, which knows no tensor parallelism. Use 'auto', or name each module's devices.`,
    )
  }
  if (isStrategy(deviceMap)) return { map: strategyMap(model, source, deviceMap, devices), placement: deviceMap }
  return { map: resolveDeviceMap(deviceMap, modulesOf(model)), placement: 'given' }
}

/** Device -> bytes that its stages need beyond its budget, where they do. */
function shortages(stages: ModelPlan['stages']): Map<string, number> {
  const left = new Map<string, number>()
  for (const { device, total, budget } of stages) {
    left.set(device, (left.get(device) ?? budget ?? Number.POSITIVE_INFINITY) - total)
  }
  return new Map([...left].filter(([, bytes]) => bytes < 0).map(([device, bytes]) => [device, -bytes]))
}

async function weightSource(model: string | URL | RawConfig): Promise<{ config: RawConfig; weights: PlanSource }> {
  if (isConfig(model)) {
    const config = snapshot(model, 'model') as RawConfig
    return { config, weights: configWeights(config) }
  }
  const name = readPath(model, 'model', 'a directory, the name of a preset, or a config.json as an object')
  const config = Object.hasOwn(presets, name) ? presets[name] : undefined
  if (config !== undefined) return { config, weights: configWeights(config) }
  if (await isDirectory(name)) {
    const checkpoint = await openCheckpoint(name)
    return { config: checkpoint.config, weights: storedWeights(checkpoint) }
  }
  throw new BillfishError(
    'INVALID_OPTION',
    `${name} is neither a checkpoint directory nor a preset. Presets are ${Object.keys(presets).join(', ')}.`,
  )
}

function isConfig(model: string | URL | RawConfig): model is RawConfig {
  return guarded('model', () => isRecord(model) && !isUrl(model))
}

/** The weights that a checkpoint of this config.json would have. @throws BillfishError INVALID_CHECKPOINT */
export function configWeights(config: RawConfig): PlanSource {
  const quantization = readQuantizationConfig(sourcesOfConfig(config, 'config.json'))
  return configSource(config, quantization)
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}
