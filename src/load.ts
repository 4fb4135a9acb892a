import { z } from 'zod'
import type { RawConfig } from './checkpoint/types'
import { emitCheckpointWarnings } from './checkpoint/warnings'
import { asBillfishError, BillfishError } from './common/errors'
import { type CooperativeTask, runCooperatively } from './common/event-loop'
import { type EmbeddingFiles, embeddingFiles, noEmbeddingFiles } from './embedding/files'
import { type GenerationAssets, loadGenerationAssets } from './generation/assets'
import { checkpointDirectory } from './hub/checkpoint-directory'
import type { DownloadProgress } from './hub/snapshot'
import { Model } from './model'
import type { Model as Definition, ModelShape } from './models/architecture'
import { checkpointWarnings, modelOf, weightsOf } from './models/registry'
import { expertsOf, modulesOf, placedStages, type StageModules, traceRanks } from './models/stages'
import { textModelConfig } from './models/text-model-config'
import type { ModelSpec, StageSpec } from './native/addon'
import { handOver, newNativeModel } from './native/hand-over'
import { openCheckpoint } from './open-checkpoint'
import { readPath } from './options/path'
import { watchedWork } from './options/progress'
import { optionsOf, readOptions } from './options/read-options'
import { withOwnSignal } from './options/signal'
import { callback, flag, pathOption } from './options/values'
import { microBatchesOption, pipelinePolicy } from './pipeline/policy'
import { type SpeculationOptions, speculationOption } from './pipeline/speculation'
import type { PlanSource } from './placement/accelerate/stored-modules'
import { type ResolvedPlanOptions, resolveDevices } from './placement/available-devices'
import { checkGroups } from './placement/device-groups'
import { resolveDeviceMap } from './placement/device-map'
import { fromPlan, planSchema } from './placement/from-plan'
import { activationType, type ModelLimits, modelLimits } from './placement/limits'
import { offloadDirectory } from './placement/offload-directory'
import { type ModelPlan, outline } from './placement/plan-model'
import { type PlanOptions, planOptions } from './placement/plan-options'
import { countedStage, type StageMemory, wholePages } from './placement/planner/stage-memory'
import { thisMachine } from './this-machine'

/** How far loading has come. */
export interface LoadProgress {
  /** A model of the Hub is first downloaded, as far as it is not in the cache. */
  readonly phase: 'downloading' | 'loading'
  /** Bytes of the checkpoint downloaded, or read, so far. */
  readonly bytesDone: number
  /** Bytes that will be there, or read, in all. */
  readonly bytesTotal: number
}

/** Options of {@link loadModel}. */
export interface LoadOptions extends PlanOptions {
  /**
   * Where modules go. Default `'auto'`. `'auto'` and Hugging Face's strategies split over `devices` within `maxMemory`;
   * without these, over all CUDA devices within their free memory, or on the CPU if there are none.
   */
  readonly deviceMap?: PlanOptions['deviceMap']
  /**
   * What {@link planModel} returned, here or in another process: placement, sizes and budgets. `deviceMap`, `devices`,
   * `maxMemory` and `deviceOverhead` are refused beside it, and so are sizes other than the plan's.
   */
  readonly plan?: ModelPlan | undefined
  /**
   * Steps in flight at a time, each with a part of the sequences, so that every stage has work. Default: the number of
   * devices that work independently (each GPU; the CPU counts once, however many stages it has).
   */
  readonly microBatches?: number | undefined
  /**
   * Whether sequences that begin alike share the keys and values of their beginning, in blocks of 32 tokens: those of a
   * prompt or an answer stay in the KV cache until their memory is needed, and a later prompt that begins with them is
   * computed from there on. Without effect on models that see later tokens, or whose layers have recurrent states. The last
   * bits of a prompt's numbers may depend on how much of it was cached. Default true.
   */
  readonly prefixCache?: boolean | undefined
  /**
   * Speculative decoding by prompt look-up: where the last tokens occurred before, in prompt or answer, a step checks those
   * that followed them there, and may so give several tokens. Answers are those without it. Without effect, and with a
   * warning (`BILLFISH_FALLBACK`), on models whose layers have recurrent states. Default: none.
   */
  readonly speculation?: SpeculationOptions | undefined
  /**
   * Directory for the weights of device `'disk'`, which lie there in an unlinked file while the model is loaded. Default:
   * the system's temporary directory.
   */
  readonly offloadDirectory?: string | URL | undefined
  /** A Jinja template for conversations, instead of the checkpoint's. Its text, not a file. */
  readonly chatTemplate?: string | undefined
  /** Called with the bytes so far, several times a second at most. Throwing, or rejecting, fails the load. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

export const loadOptions = optionsOf<LoadOptions>('loadModel()', {
  ...planOptions.schemas,
  plan: planSchema,
  microBatches: microBatchesOption,
  prefixCache: flag(),
  speculation: speculationOption,
  offloadDirectory: pathOption(),
  chatTemplate: z.string().min(1).describe('the text of a Jinja template'),
  onProgress: callback<(progress: LoadProgress) => void>(),
})

/**
 * Loads a checkpoint directory in Hugging Face Hub layout, or a model of the Hub, which is downloaded as `downloadModel()`
 * does.
 *
 * @param directory path or file: URL of a directory with config.json, safetensors files and, for text, tokenizer files; or a
 *   model's name, `'OWNER/NAME'` or `'OWNER/NAME@REVISION'`, if there is nothing at such a path
 * @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL, INVALID_OPTION, DEVICE_NOT_FOUND, OUT_OF_MEMORY,
 *   DOWNLOAD_FAILED; the reason of the signal if it aborts. Nothing stays allocated.
 */
export async function loadModel(directory: string | URL, options: LoadOptions = {}): Promise<Model> {
  const given = readOptions(loadOptions, options)
  const path = readPath(directory, 'directory')
  return withOwnSignal(given.signal, async (signal) => {
    const onProgress = downloadProgress(given.onProgress)
    const checkpoint = await openCheckpoint(await checkpointDirectory(path, 'checkpoint', { signal, onProgress }), {
      signal,
    })
    const { config, files } = checkpoint
    const weights = await runCooperatively(weightsOf(checkpoint), signal)
    emitCheckpointWarnings(checkpointWarnings(checkpoint))
    const assets = (shape: ModelShape) =>
      loadGenerationAssets({ ...checkpoint, config: textModelConfig(config).config }, shape, signal, given.chatTemplate)
    const embedding = embeddingFiles(checkpoint)
    return await loadFrom({ config, weights, files, assets, embedding }, { ...given, signal })
  })
}

function downloadProgress(onProgress: LoadOptions['onProgress']) {
  return onProgress && ((progress: DownloadProgress) => onProgress({ phase: 'downloading', ...progress }))
}

/** What a model is loaded from. @internal */
export interface ModelSource {
  /** config.json. */
  readonly config: RawConfig
  readonly weights: PlanSource
  readonly files: readonly string[]
  /** Use random weights instead of the files. */
  readonly randomWeights?: boolean
  /** Loads the tokenizer and everything else that generation needs. */
  assets(shape: ModelShape): Promise<GenerationAssets>
  /** Only of a checkpoint. */
  readonly embedding?: EmbeddingFiles | undefined
}

/** {@link loadModel} for any source. @param options validated {@link loadOptions} @internal */
export async function loadFrom(source: ModelSource, options: LoadOptions): Promise<Model> {
  const { config, weights } = source
  const definition = await runCooperatively(
    modelOf(config, weights, options.plan ? options.plan.sizes : options),
    options.signal,
  )
  const planned =
    options.plan !== undefined ? fromPlan(options.plan, options) : await resolveDevices(options, thisMachine)
  const deviceMap = resolveDeviceMap(
    await runCooperatively(placeWithinBudget(definition, weights, planned), options.signal),
    modulesOf(definition),
    expertsOf(definition),
  )
  const stages = placedStages(definition, (module) => deviceMap.get(module))

  const limits = modelLimits(definition.shape, planned)
  checkGroups(stages, limits.tensorParallelSize)
  const policy = pipelinePolicy(
    stages.map(({ device }) => device),
    options.microBatches,
    stages.flatMap(({ branches = [] }) => branches.map(({ device }) => device)),
  )
  const loaded = await runCooperatively(loadedStages(definition, weights, stages, limits), options.signal)
  const spec: ModelSpec = {
    files: source.files,
    randomWeights: source.randomWeights,
    stages: loaded.map(({ stage }) => stage),
    tensorParallelSize: limits.tensorParallelSize,
    exact: limits.exact,
    cacheType: limits.cacheType,
    maxSequences: limits.maxSequences,
    activationType: activationType(planned.dtype, textModelConfig(config).config),
    offloadDirectory: loaded.some(({ stage }) => stage.device === 'disk')
      ? await offloadDirectory(options.offloadDirectory)
      : undefined,
    blockSize: limits.blockSize,
    blockCount: limits.blockCount,
    maxBatchTokens: limits.maxBatchTokens,
    maxLogitRows: limits.maxLogitRows,
    vocabulary: definition.shape.vocabulary,
  }
  const assets = await source.assets(definition.shape)
  const native = await loadNative(spec, options).catch(async (error) => {
    await assets.worker.close(new BillfishError('DISPOSED', 'The model could not be loaded.'))
    throw error
  })
  if (options.speculation && definition.hasStates) {
    process.emitWarning(
      'The option speculation has no effect on this model: the recurrent states of its layers cannot be taken back to before a token that proves wrong.',
      { type: 'BillfishWarning', code: 'BILLFISH_FALLBACK' },
    )
  }
  return new Model({
    native,
    config,
    definition,
    deviceMap,
    assets,
    embedding: source.embedding ?? noEmbeddingFiles,
    stages,
    memory: loaded.map(({ memory }) => memory),
    limits: {
      ...limits,
      vocabulary: definition.shape.vocabulary,
      hiddenSize: definition.shape.hiddenSize,
      layers: definition.shape.layers,
      hasStates: definition.hasStates === true,
      prefixCache: options.prefixCache ?? true,
      speculation: options.speculation,
      wholePrompts: definition.shape.bidirectional === true,
      outputWidth: definition.hasHead ? definition.shape.vocabulary : definition.shape.hiddenSize,
      ...policy,
    },
  })
}

/**
 * The device map to load with. @throws BillfishError OUT_OF_MEMORY with the explanation of the plan if it does not fit
 */
function* placeWithinBudget(
  definition: Definition,
  weights: PlanSource,
  options: ResolvedPlanOptions,
): CooperativeTask<ModelPlan['deviceMap']> {
  const planned = yield* outline(definition, weights, options)
  if (planned.fits) return planned.deviceMap
  throw new BillfishError('OUT_OF_MEMORY', `The model does not fit. ${(yield* planned.explain()).join(' ')}`)
}

/** What every rank and branch of every stage loads, with its memory use. */
function* loadedStages(
  definition: Definition,
  weights: PlanSource,
  stages: readonly StageModules[],
  limits: ModelLimits,
): CooperativeTask<{ stage: StageSpec; memory: StageMemory & { device: string } }[]> {
  const loaded: { stage: StageSpec; memory: StageMemory & { device: string } }[] = []
  for (const modules of stages) {
    for (const stage of yield* traceRanks(definition, weights, modules, limits.tensorParallelSize)) {
      const planned = (yield* countedStage(stage))(stage.device, limits)
      loaded.push({ stage, memory: { device: stage.device, ...wholePages(planned) } })
      yield
    }
  }
  return loaded
}

async function loadNative(spec: ModelSpec, { signal, onProgress }: LoadOptions) {
  const native = newNativeModel(spec)
  try {
    const bytesTotal = await runCooperatively(handOver(native, spec), signal)
    return await watchedWork(
      { signal, onProgress },
      () => native.abortLoad(),
      async (progress) => {
        const report = (bytesDone: number) => progress({ phase: 'loading', bytesDone, bytesTotal })
        report(0)
        await native.load(report).catch((error) => {
          throw asBillfishError(error)
        })
        if (!signal?.aborted) report(bytesTotal)
        return native
      },
    )
  } catch (error) {
    await native.close()
    throw error
  }
}
