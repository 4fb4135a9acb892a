import { join } from 'node:path'
import { quoted, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { Checkpoint, RawConfig } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { type CooperativeTask, runSync } from '../common/event-loop'
import type { WeightSpec } from '../native/weights'
import { unsupportedConfig } from '../quantization/unsupported'
import type { Architecture, Model, ModelOptions } from './architecture'
import { checkConfigKeys, unknownKeys } from './config-keys'
import { ConfigReader } from './config-reader'
import type { StoredLayout, WeightSource } from './graph'
import { llama } from './llama'
import { mistral } from './mistral'
import { qwen } from './qwen'
import { qwen2 } from './qwen2'
import { qwen2Moe } from './qwen2-moe'
import { qwen3 } from './qwen3'
import { qwen35, qwen35Moe } from './qwen3-5'
import { qwen3Moe, qwen3VlMoe } from './qwen3-moe'
import { qwen3Next } from './qwen3-next'
import { Rank } from './rank'
import { lastModules, trace } from './stages'
import { StoredWeights } from './stored-weights'
import { type TextModelConfig, textModelConfig } from './text-model-config'

const architectures: readonly Architecture[] = [
  qwen,
  qwen2,
  qwen3,
  qwen2Moe,
  qwen3Moe,
  qwen3VlMoe,
  qwen3Next,
  qwen35,
  qwen35Moe,
  llama,
  mistral,
]

/** model_type values that {@link createModel} supports. */
export const modelTypes: readonly string[] = architectures.flatMap((architecture) => architecture.modelTypes)

/** {@link modelOf} in one go. */
export function createModel(config: RawConfig, source: WeightSource, options: ModelOptions = {}): Model {
  return runSync(modelOf(config, source, options))
}

/**
 * Creates the model that a config.json describes.
 * @throws BillfishError UNSUPPORTED_MODEL naming the model_type and the supported ones; INVALID_CHECKPOINT for a config
 *   with a missing key or a contradiction
 */
export function* modelOf(config: RawConfig, source: WeightSource, options: ModelOptions): CooperativeTask<Model> {
  const text = textModelConfig(config)
  const architecture = architectureOf(text)
  const reader = new ConfigReader(text.config, text.where)
  checkConfigKeys(reader)
  if (source.layout) checkLayers(reader, source.layout)
  const model = architecture.create(reader, source, options)
  if (options.expertParallel && !model.hasExperts) {
    throw new BillfishError(
      'INVALID_OPTION',
      `expertParallel is true, but a model of model_type ${String(reader.raw.model_type)} has no experts. Omit it.`,
    )
  }
  if (source.layout) {
    const layers = yield* checkSizes(model, source)
    rejectUnexpectedTensors(source.layout, layers, String(reader.raw.model_type))
  }
  return model
}

/** {@link weightsOf} in one go. */
export function storedWeights(checkpoint: Checkpoint): StoredWeights {
  return runSync(weightsOf(checkpoint))
}

/**
 * The weights of a checkpoint under the names that the model uses.
 * @throws BillfishError UNSUPPORTED_MODEL, INVALID_CHECKPOINT
 */
export function* weightsOf(checkpoint: Checkpoint): CooperativeTask<StoredWeights> {
  // Checked first: such formats have other shapes, which would be reported as contradictions.
  if (checkpoint.quantization.method === 'unsupported') throw unsupportedConfig(checkpoint.quantization)
  return yield* StoredWeights.of(checkpoint, architectureOf(textModelConfig(checkpoint.config)).names)
}

/** Warnings about a checkpoint: anomalies, and behavior that its files may lead one not to expect. */
export function checkpointWarnings({ directory, config, notices: ofFiles }: Checkpoint): string[] {
  const { config: text, wrapperType } = textModelConfig(config)
  const where = join(directory, 'config.json')
  const notices = [...ofFiles]
  if (wrapperType !== undefined) {
    notices.push(
      `${where}: model_type ${wrapperType} is a vision-language model, of which only the language model (${text.model_type}) is ` +
        'loaded, for text; other components, such as a vision tower, are ignored.',
    )
  }
  const unknown = modelTypes.includes(text.model_type as string) ? unknownKeys(text) : []
  if (unknown.length > 0) {
    const named = unknown.slice(0, 8).map(quoted).join(', ')
    const more = unknown.length > 8 ? ` and ${unknown.length - 8} more` : ''
    notices.push(`${where}: unknown keys are ignored: ${named}${more}.`)
  }
  const code = modelCode(config.auto_map)
  if (code !== undefined && text.model_type !== 'qwen') {
    notices.push(
      `${where}: auto_map refers to custom model code (${quoted(code)}). It is not run: billfish uses its own ` +
        `${text.model_type} implementation, which matches only if that code does not change the architecture.`,
    )
  }
  return notices
}

/** The model class in auto_map, which may also name tokenizer and config classes. Qwen v1 always has one. */
function modelCode(autoMap: unknown): string | undefined {
  if (!isObject(autoMap)) return undefined
  const entry = Object.entries(autoMap).find(([key]) => key.startsWith('AutoModel'))?.[1]
  const code: unknown = Array.isArray(entry) ? entry.find((name) => typeof name === 'string') : entry
  return typeof code === 'string' ? code : undefined
}

/**
 * Compares the sizes in the config with one tensor of every kind before anything is built from them.
 * @returns the weights of a layer of each kind
 */
function* checkSizes(model: Model, source: WeightSource): CooperativeTask<readonly WeightSpec[]> {
  const { embedding, layers } = model.names
  const ofLayers: WeightSpec[] = []
  for (const module of [
    embedding,
    ...model.kindsOfLayers.map((layer) => `${layers}.${layer}`),
    ...lastModules(model),
  ]) {
    const { weights } = yield* trace(model, source, [module], Rank.only)
    if (module.startsWith(`${layers}.`)) ofLayers.push(...weights)
  }
  return ofLayers
}

/** Checks that as many layers are stored as the config says. */
function checkLayers(config: ConfigReader, { where, layers }: StoredLayout): void {
  const wanted = config.count('num_hidden_layers')
  if (wanted === layers) return
  throw new BillfishError(
    'INVALID_CHECKPOINT',
    `config.json: num_hidden_layers is ${wanted}, but tensors of ${layers} layers are stored in ${where}; ` +
      'config and tensors do not match.',
  )
}

function architectureOf({ config }: TextModelConfig): Architecture {
  const type = config.model_type
  const architecture = architectures.find(({ modelTypes }) => modelTypes.includes(type as string))
  if (!architecture) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `config.json: model_type is ${type === undefined ? 'missing' : shown(type)}; billfish supports ${modelTypes.join(', ')}.`,
    )
  }
  return architecture
}

/**
 * Tensors that are safe to ignore: tables derived from the config, masks, counters, and the scales with which other
 * engines quantize activations or the KV cache.
 */
const HARMLESS =
  /(^|\.)(rotary_emb\..*|inv_freq|(self_)?attn\.(bias|masked_bias)|position_ids|num_batches_tracked|((input|output|act|activation|[qkv]|kv|prob)_)(scale|global_scale|zero_point))$/

/** Tensors of a linear. Formats store some of them whether or not they are needed, and layers may differ in format. */
const OF_LINEAR =
  /^(weight|bias|qweight|qzeros|scales|g_idx|perm|weight_(packed|scale|scale_inv|scale_2|global_scale|shape|zero_point|g_idx))$/

/**
 * Rejects decoder-layer tensors that the architecture does not read. Most indicate that the weights belong to another
 * model than config.json claims: query and key norms under model_type llama, or adapters that were never merged.
 * Ignoring them would silently compute something else.
 *
 * @param read weights that layers of all kinds read
 * @throws BillfishError UNSUPPORTED_MODEL naming the tensors and the model_type
 */
function rejectUnexpectedTensors(layout: StoredLayout, read: readonly WeightSpec[], modelType: string): void {
  // By their names within a layer.
  const withinLayer = (name: string) => name.slice(name.indexOf('.', layout.layersName.length + 1) + 1)
  const vectors = new Set<string>()
  const linears = new Set<string>()
  for (const weight of read) {
    const names = weight.kind === 'experts' ? weight.experts.map(({ name }) => name) : [weight.name]
    for (const name of names) (weight.kind === 'vector' ? vectors : linears).add(withinLayer(name))
  }
  const isRead = (suffix: string) => {
    const dot = suffix.lastIndexOf('.')
    // Experts may be one tensor, which is called like their linear.
    if (vectors.has(suffix) || linears.has(suffix)) return true
    return linears.has(suffix.slice(0, Math.max(0, dot))) && OF_LINEAR.test(suffix.slice(dot + 1))
  }
  const unread = [...layout.layerTensors].filter(([suffix]) => !HARMLESS.test(suffix) && !isRead(suffix))
  if (unread.length === 0) return
  const named = unread.slice(0, 3).map(([, name]) => quoted(name))
  const more = unread.length > named.length ? ` and ${unread.length - named.length} more kinds` : ''
  throw new BillfishError(
    'UNSUPPORTED_MODEL',
    `${layout.where} stores ${named.join(', ')}${more}, which model_type ${modelType} does not use: the weights are from ` +
      'another architecture, or are unmerged adapters. Correct model_type in config.json, or merge or remove them.',
  )
}
