import { type Command, InvalidArgumentError, Option } from 'commander'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { discoverCudaDevices } from '../devices'
import { type DeviceMap, deviceName, layerSplit } from '../placement/device-map'
import { type ModelType, sizeOptions } from '../placement/limits'
import type { Placement, PlanOptions } from '../placement/plan-options'
import { planModel } from '../plan'
import { parseDevices, parseJsonOption, parseMaxMemory } from './device-list'
import { numberFor, wholeNumber } from './options'
import { gpuBudgets, stageDevices } from './vllm-placement'

/** Options of every command that places a model. */
export interface PlacementCliOptions {
  readonly deviceMap?: string
  readonly devices?: string
  readonly maxMemory?: string
  readonly deviceOverhead?: string
  readonly gpuMemoryUtilization?: number
  readonly tensorParallelSize?: number
  readonly pipelineParallelSize?: number
  readonly expertParallel?: boolean
  readonly dtype?: string
  readonly context?: number
  readonly sequences?: number
  readonly maxBatchTokens?: number
  readonly maxCacheTokens?: number
}

/** @param defaultMap what `--device-map` is without the option, in words */
export function addPlacementOptions(command: Command, defaultMap: string): Command {
  return command
    .option(
      '--device-map <map>',
      'auto (the fastest split that fits), balanced, balanced_low_0 or sequential (as Hugging Face splits), a device ' +
        '(cpu, cpu:1, cuda:0), split:DEVICE,DEVICE,... for equal shares of the layers, or a JSON object from module ' +
        `prefixes to devices (default: ${defaultMap})`,
    )
    .option(
      '--devices <list>',
      'devices to choose from, with their memory: 4x24GiB, or 24GiB,80GiB,cpu=64GiB, or cpu:0,cpu:1; @ adds their ' +
        'relative memory bandwidth: 24GiB@1,80GiB@2',
    )
    .option('--max-memory <list>', 'memory limits: cuda:0=20GiB,cpu=64GiB, or JSON as in Hugging Face')
    .addOption(
      new Option(
        '--gpu-memory-utilization <share>',
        "use up to this share of each GPU's memory, from 0 to 1 (default: what is free)",
      )
        .argParser(shareOfMemory)
        .conflicts(['devices', 'maxMemory']),
    )
    .option(
      '--device-overhead <size>',
      "what CUDA itself takes of a device's memory (default: an estimate of 512MiB, or 256MiB if the budget is free memory)",
    )
    .option(
      '--tensor-parallel-size <count>',
      'devices that compute every layer together (default: 1)',
      numberFor(sizeOptions.tensorParallelSize),
    )
    .option(
      '--pipeline-parallel-size <count>',
      'stages with equal shares of the layers, each on --tensor-parallel-size devices, in the order of --devices',
      wholeNumber(1, 1024),
    )
    .option('--expert-parallel', 'give each of these devices whole experts, instead of a share of all')
    .option('--dtype <type>', 'auto, float32, float16 or bfloat16 (default: auto)')
    .option(
      '--context <tokens>',
      'tokens of the longest sequence, prompt and answer together',
      numberFor(sizeOptions.maxModelLength),
    )
    .option('--sequences <count>', 'sequences computed at the same time', numberFor(sizeOptions.maxSequences))
    .option('--max-batch-tokens <count>', 'tokens per step at most', numberFor(sizeOptions.maxBatchTokens))
    .option(
      '--max-cache-tokens <count>',
      'tokens in the KV cache, for all sequences together (default: sequences x context)',
      numberFor(sizeOptions.maxCacheTokens),
    )
}

/**
 * The command line's options as those of `planModel()`.
 * @param model a checkpoint directory, the name of a preset, or a config.json as an object
 * @param defaultMap the device map without `--device-map`, if it is not auto
 * @throws BillfishError INVALID_OPTION, and what `planModel` throws
 */
export async function placementOptions(
  model: string | RawConfig,
  options: PlacementCliOptions,
  defaultMap?: string,
): Promise<PlanOptions> {
  const devices = options.devices === undefined ? undefined : parseDevices(options.devices)
  return {
    deviceMap: await chosenMap(model, options, devices, defaultMap),
    devices,
    maxMemory: await chosenBudgets(options),
    deviceOverhead: options.deviceOverhead,
    tensorParallelSize: options.tensorParallelSize,
    expertParallel: options.expertParallel,
    dtype: options.dtype as ModelType | undefined,
    maxModelLength: options.context,
    maxSequences: options.sequences,
    maxBatchTokens: options.maxBatchTokens,
    maxCacheTokens: options.maxCacheTokens,
  }
}

async function chosenMap(
  model: string | RawConfig,
  { deviceMap, pipelineParallelSize: stages, tensorParallelSize: ranks = 1 }: PlacementCliOptions,
  devices: ReturnType<typeof parseDevices> | undefined,
  defaultMap: string | undefined,
): Promise<Placement | undefined> {
  if (stages === undefined) {
    const chosen = deviceMap ?? defaultMap
    return chosen === undefined ? undefined : parseDeviceMap(chosen, model)
  }
  if (deviceMap !== undefined) {
    const message = '--pipeline-parallel-size and --device-map are given together, but both say where layers go'
    throw new BillfishError('INVALID_OPTION', `${message}; leave one out.`)
  }
  const names = devices?.map((entry) => (typeof entry === 'string' ? entry : deviceName(entry.device)))
  return equalShares(model, stageDevices(stages, ranks, names))
}

async function chosenBudgets({
  maxMemory,
  gpuMemoryUtilization,
}: PlacementCliOptions): Promise<PlanOptions['maxMemory']> {
  if (maxMemory !== undefined) return parseMaxMemory(maxMemory)
  return gpuMemoryUtilization === undefined ? undefined : gpuBudgets(gpuMemoryUtilization, await discoverCudaDevices())
}

function shareOfMemory(text: string): number {
  const share = Number(text)
  if (/^[\d.]+$/.test(text) && share > 0 && share <= 1) return share
  throw new InvalidArgumentError('It must be a number above 0 and at most 1.')
}

async function parseDeviceMap(text: string, model: string | RawConfig): Promise<Placement> {
  if (text.startsWith('split:')) return equalShares(model, text.slice('split:'.length).split(','))
  return text.startsWith('{') ? (parseJsonOption('--device-map', text) as DeviceMap) : text
}

/** {@link layerSplit} for the model's own layers and names. */
async function equalShares(model: string | RawConfig, devices: readonly string[]): Promise<DeviceMap> {
  const modules = Object.keys((await planModel(model, { deviceMap: 'cpu' })).deviceMap)
  const [embedding = '', firstLayer = ''] = modules
  const [norm = '', head = ''] = modules.slice(-2)
  return layerSplit(devices, modules.length - 3, { embedding, layers: firstLayer.replace(/\.\d+$/, ''), norm, head })
}
