import { openCheckpoint } from './checkpoint/checkpoint'
import { BillfishError } from './errors'
import { loadGenerationAssets } from './generation/assets'
import { Model } from './model'
import { createModel } from './models/registry'
import { modulesOf, stagesOf, traceStage } from './models/stages'
import { addon, type ModelSpec } from './native/addon'
import type { WeightSpec } from './native/weights'
import { asBillfishError } from './pipeline/runner'
import { type DeviceMap, resolveDeviceMap } from './placement/device-map'

/** Types in which a model computes. */
export type ModelType = 'auto' | 'float32' | 'float16' | 'bfloat16'

export interface LoadProgress {
  /** Bytes of the checkpoint that have been read, and all that will be. */
  readonly bytesDone: number
  readonly bytesTotal: number
}

export interface LoadOptions {
  /** Where the modules go; everything on `'cpu'` by default. */
  readonly deviceMap?: DeviceMap | undefined
  /**
   * `'float32'` computes exactly in fp32. `'auto'` (the default) and the 16-bit types keep the KV cache in 16 bits
   * (fp16, or as named) and, on the CPU, quantise the input of every linear to 16-bit integers with a scale a block of
   * at most 128 values: closer to fp32 than fp16 arithmetic, and much faster.
   */
  readonly dtype?: ModelType | undefined
  /** The longest sequence, prompt and generated tokens; the smaller of the model's own limit and 8192 by default. */
  readonly maxModelLength?: number | undefined
  /** Sequences that are generated at the same time; more wait their turn. 4 by default. */
  readonly maxSequences?: number | undefined
  /** Tokens that one step computes at most; longer prompts go in pieces. 512 by default. */
  readonly maxBatchTokens?: number | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

const blockSize = 32 // tokens a KV block
const defaultLength = 8192
const defaultSequences = 4
const defaultBatchTokens = 512

/**
 * Loads a checkpoint directory as released on the Hugging Face Hub.
 *
 * @param directory holds config.json, safetensors files and, for text, the tokenizer's files
 * @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL, INVALID_OPTION, DEVICE_NOT_FOUND, OUT_OF_MEMORY, ABORTED.
 *   Nothing stays allocated then.
 */
export async function loadModel(directory: string, options: LoadOptions = {}): Promise<Model> {
  const { signal, dtype = 'auto' } = options
  if (typeof directory !== 'string') throw new BillfishError('INVALID_OPTION', 'directory must be a path.')
  const numbers = numberFormats(dtype)
  throwIfAborted(signal)
  const checkpoint = await openCheckpoint(directory, { signal })
  const definition = createModel(checkpoint.config, checkpoint)
  const modules = modulesOf(definition)
  const deviceMap = resolveDeviceMap(options.deviceMap ?? 'cpu', modules)
  const stages = stagesOf(modules, (module) => deviceMap.get(module) as string)

  const maxModelLength = count(
    'maxModelLength',
    options.maxModelLength,
    Math.min(definition.shape.maxPositions, defaultLength),
  )
  const maxSequences = count('maxSequences', options.maxSequences, defaultSequences)
  const limits = {
    blockSize,
    blockCount: maxSequences * Math.ceil(maxModelLength / blockSize),
    maxBatchTokens: count('maxBatchTokens', options.maxBatchTokens, defaultBatchTokens),
  }
  const spec: ModelSpec = {
    files: checkpoint.files,
    stages: stages.map((stage) => traceStage(definition, checkpoint, stage)),
    ...numbers,
    ...limits,
    maxLogitRows: Math.max(16, maxSequences),
    vocabulary: definition.shape.vocabulary,
  }
  const assets = await loadGenerationAssets(checkpoint, definition.shape)
  throwIfAborted(signal)
  const native = await loadNative(spec, options)
  return new Model({
    native,
    checkpoint,
    definition,
    deviceMap,
    assets,
    limits: {
      ...limits,
      maxSequences,
      maxModelLength,
      vocabulary: definition.shape.vocabulary,
      hiddenSize: definition.shape.hiddenSize,
      stepsInFlight: stages.length,
    },
  })
}

function numberFormats(dtype: ModelType): Pick<ModelSpec, 'exact' | 'cacheType'> {
  switch (dtype) {
    case 'float32':
      return { exact: true, cacheType: 'F32' }
    case 'auto':
    case 'float16':
      return { exact: false, cacheType: 'F16' }
    case 'bfloat16':
      return { exact: false, cacheType: 'BF16' }
    default:
      throw new BillfishError(
        'INVALID_OPTION',
        `dtype is ${JSON.stringify(dtype)}, but must be 'auto', 'float32', 'float16' or 'bfloat16'.`,
      )
  }
}

function count(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback
  if (!Number.isInteger(value) || value < 1 || value > 1 << 24) {
    throw new BillfishError('INVALID_OPTION', `${name} is ${value}, but must be a whole number from 1 to ${1 << 24}.`)
  }
  return value
}

async function loadNative(spec: ModelSpec, { signal, onProgress }: LoadOptions) {
  const { NativeModel } = addon()
  const bytesTotal = spec.stages.flatMap(({ weights }) => weights).reduce((sum, weight) => sum + sourceBytes(weight), 0)
  const native = new NativeModel(spec)
  const abort = () => native.abortLoad()
  let thrown: { error: unknown } | undefined // by onProgress, which ends the loading
  const report = (bytesDone: number) => {
    try {
      if (!thrown) onProgress?.({ bytesDone, bytesTotal })
    } catch (error) {
      thrown = { error }
      native.abortLoad()
    }
  }
  signal?.addEventListener('abort', abort, { once: true })
  try {
    report(0)
    await native.load(report)
    throwIfAborted(signal)
    report(bytesTotal)
    if (thrown) throw thrown
    return native
  } catch (error) {
    await native.close()
    if (thrown) throw (thrown as { error: unknown }).error
    throw signal?.aborted ? aborted(signal) : asBillfishError(error)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

function sourceBytes(weight: WeightSpec): number {
  const tensors =
    weight.kind === 'quantized'
      ? [weight.codes, weight.scales, weight.zeros, weight.groupIndex, weight.bias]
      : weight.kind === 'matrix'
        ? [weight.weight, weight.bias]
        : [weight.weight]
  return tensors.reduce((sum, tensor) => sum + (tensor?.bytes ?? 0), 0)
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal)
}

function aborted(signal: AbortSignal): BillfishError {
  return new BillfishError('ABORTED', 'Loading was aborted by its signal.', { cause: signal.reason })
}
