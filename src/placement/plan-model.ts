import { stat } from 'node:fs/promises'
import { openCheckpoint } from '../checkpoint/checkpoint'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../errors'
import { type ModelLimits, modelLimits, type SizeOptions } from '../limits'
import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { createModel } from '../models/registry'
import { modulesOf } from '../models/stages'
import { readQuantizationConfig } from '../quantization/config'
import { configSource } from './config-source'
import { type DeviceMap, deviceName, resolveDeviceMap } from './device-map'
import { explainPlan } from './explain'
import { type MemorySize, parseMemorySize } from './memory-size'
import { autoDeviceMap, type PlanDevice, type PlannedStage, planStages } from './plan'
import { presets } from './presets'
import { isStrategy, type Strategy, strategyMap } from './strategy-map'

/** How a model may be placed: {@link DeviceMap}, `'auto'`, or one of Hugging Face's {@link Strategy}s. */
export type Placement = DeviceMap | 'auto' | Strategy

export interface PlanOptions extends SizeOptions {
  /**
   * `'auto'` by default: the split that makes the slowest stage fastest within the budgets. `'balanced'`,
   * `'balanced_low_0'` and `'sequential'` place as accelerate does, by the weights in the checkpoint alone.
   */
  readonly deviceMap?: Placement | undefined
  /**
   * The devices that `'auto'` and the strategies choose from, in the order of the pipeline; those of maxMemory by
   * default. For the strategies a CPU after other devices takes only what these have no room for.
   */
  readonly devices?: readonly (string | number | PlanDevice)[] | undefined
  /** Device -> bytes or `'38GiB'`; a device without a budget has no limit. */
  readonly maxMemory?: Readonly<Record<string, MemorySize>> | undefined
}

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
 * @param model a checkpoint directory (headers alone are read), the name of a preset (`'Qwen2.5-72B-Instruct'`, ...), or
 *   a config.json as an object, with its quantization_config where there is one
 * @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL, INVALID_OPTION
 */
export async function planModel(model: string | RawConfig, options: PlanOptions = {}): Promise<ModelPlan> {
  const source = await weightSource(model)
  return plan(createModel(source.config, source.weights), source.weights, options)
}

/** {@link planModel} for a model whose weights' shapes are known. */
export function plan(model: Model, source: WeightSource, options: PlanOptions): ModelPlan {
  const limits = modelLimits(model.shape, options)
  const devices = planDevices(options)
  const placement = options.deviceMap ?? 'auto'
  const map = placementMap(model, source, limits, devices, placement)
  const budgets = new Map(devices.map(({ device, memory }) => [device, memory]))
  const stages = planStages(model, source, limits, (module) => map.get(module) as string).map((stage) => {
    const budget = budgets.get(stage.device) ?? Number.POSITIVE_INFINITY
    return { ...stage, budget: Number.isFinite(budget) ? budget : null }
  })
  const lacking = shortage(stages, budgets)
  const { maxModelLength, maxSequences, maxBatchTokens } = limits
  return {
    deviceMap: Object.fromEntries(map),
    sizes: { dtype: options.dtype ?? 'auto', maxModelLength, maxSequences, maxBatchTokens },
    stages,
    fits: lacking === 0,
    explanation: explainPlan({ model, source, limits, devices, stages, shortage: lacking, placement, options }),
  }
}

function placementMap(
  model: Model,
  source: WeightSource,
  limits: ModelLimits,
  devices: readonly PlanDevice[],
  placement: Placement,
): Map<string, string> {
  if (placement === 'auto') return autoOrLeastShort(model, source, limits, devices)
  if (isStrategy(placement)) return strategyMap(model, source, placement, devices)
  return resolveDeviceMap(placement, modulesOf(model))
}

/** Bytes that the fullest device lacks; 0 if everything fits. A device may have several stages. */
function shortage(stages: readonly PlannedStage[], budgets: ReadonlyMap<string, number>): number {
  const needed = new Map<string, number>()
  for (const { device, total } of stages) needed.set(device, (needed.get(device) ?? 0) + total)
  const lacks = [...needed].map(([device, bytes]) => bytes - (budgets.get(device) ?? Number.POSITIVE_INFINITY))
  return Math.max(0, ...lacks)
}

async function weightSource(model: string | RawConfig): Promise<{ config: RawConfig; weights: WeightSource }> {
  const config = typeof model === 'string' ? presets[model] : model
  if (typeof model === 'string' && !config) {
    if (await isDirectory(model)) {
      const checkpoint = await openCheckpoint(model)
      return { config: checkpoint.config, weights: checkpoint }
    }
    throw new BillfishError(
      'INVALID_OPTION',
      `${model} is neither a checkpoint directory nor a preset. Presets are ${Object.keys(presets).join(', ')}.`,
    )
  }
  if (typeof config !== 'object' || config === null) {
    throw new BillfishError('INVALID_OPTION', 'model must be a directory, the name of a preset, or a config object.')
  }
  const quantization = readQuantizationConfig([
    { where: 'config.json: quantization_config', name: 'config.json', value: config.quantization_config },
  ])
  return { config, weights: configSource(config, quantization) }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}

/** @throws BillfishError INVALID_OPTION */
function planDevices({ devices, maxMemory = {} }: PlanOptions): PlanDevice[] {
  const budgets = new Map(
    Object.entries(maxMemory).map(([device, size]) => [
      deviceName(device),
      parseMemorySize(size, `maxMemory of ${device}`),
    ]),
  )
  const named = devices ?? (budgets.size > 0 ? [...budgets.keys()] : ['cpu'])
  if (named.length === 0) throw new BillfishError('INVALID_OPTION', 'devices is empty; give at least one.')
  return named.map((entry) => {
    if (typeof entry === 'object') return { ...entry, device: deviceName(entry.device) }
    const device = deviceName(entry)
    return { device, memory: budgets.get(device) ?? Number.POSITIVE_INFINITY }
  })
}

/** The automatic map; where nothing fits, the one that would with the least memory more on every device. */
function autoOrLeastShort(
  model: Model,
  source: WeightSource,
  limits: ModelLimits,
  devices: readonly PlanDevice[],
): Map<string, string> {
  const withMore = (bytes: number) =>
    autoDeviceMap(
      model,
      source,
      limits,
      devices.map((device) => ({ ...device, memory: device.memory + bytes })),
    )
  const fitting = withMore(0)
  if (fitting) return fitting
  let low = 0
  let high = 2 ** 20
  let best = withMore(high)
  while (!best) {
    low = high
    high *= 2
    best = withMore(high)
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    const map = withMore(middle)
    if (map) {
      high = middle
      best = map
    } else low = middle
  }
  return best
}
