import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { isMissing, readJsonFile, withFile } from './checkpoint/files'
import { rejectGguf } from './checkpoint/gguf'
import { invalidCheckpoint, shown } from './checkpoint/invalid'
import { isObject } from './checkpoint/json'
import { readTensors } from './checkpoint/shards'
import { readStoredValues } from './checkpoint/stored-values'
import { FLOAT_TYPES, type TensorTable } from './checkpoint/tensors'
import type { Checkpoint, QuantizationConfig, RawConfig } from './checkpoint/types'
import { rejectUnfinishedCopy } from './checkpoint/unfinished-copy'
import { elementCount } from './common/arithmetic'
import { BillfishError } from './common/errors'
import { suggestPath } from './hub/path-suggestions'
import type { LinearSpec, MatrixSpec, TensorRef, VectorSpec } from './native/weights'
import {
  QUANTIZATION_FILES,
  type QuantizationReading,
  readQuantizationSources,
  sourcesOfConfig,
} from './quantization/config'
import { resolveLinear } from './quantization/linear'
import { agrees, configForMethod, METHOD_NAMES, type StoredMethod, storedMethods } from './quantization/stored-method'
import { type StoredFormats, storedFormats, unsupportedConfig, unsupportedModule } from './quantization/unsupported'

export { describeFormat, listTensors, type TensorSummary } from './checkpoint/describe'

/** The largest known configs list every unquantized module of a mixture-of-experts model: a few hundred KB. */
const MAX_CONFIG_BYTES = 4 * 1024 * 1024
const CONFIG_LIMITS = { maxDepth: 32, maxValues: 200_000, nonFinite: true }

/** Reads a config file; undefined if it does not exist. @throws BillfishError INVALID_CHECKPOINT */
async function readConfig(directory: string, fileName: string): Promise<RawConfig | undefined> {
  const path = join(directory, fileName)
  const value = await readJsonFile(path, MAX_CONFIG_BYTES, CONFIG_LIMITS)
  if (value === undefined) return undefined
  if (!isObject(value)) throw invalidCheckpoint(`${path} holds ${shown(value)}, not an object`)
  return value
}

/** Reads a config file and returns an error instead of throwing it. */
async function tryReadConfig(
  directory: string,
  fileName: string,
): Promise<{ value?: RawConfig | undefined; fault?: BillfishError }> {
  try {
    return { value: await readConfig(directory, fileName) }
  } catch (error) {
    if (!(error instanceof BillfishError)) throw error
    return { fault: error }
  }
}

const GENERATION_CONFIG = 'generation_config.json'

/**
 * Reads generation_config.json. An invalid file does not prevent loading: it counts as empty, and `fault` says what is
 * wrong.
 * @throws BillfishError INVALID_CHECKPOINT for a file that is missing in disguise: a Git LFS pointer or a dangling link
 */
async function readGenerationConfig(directory: string): Promise<{ config: RawConfig; fault?: string }> {
  try {
    await withFile(join(directory, GENERATION_CONFIG), async () => {})
  } catch (error) {
    if (isMissing(error)) return { config: {} }
    throw error
  }
  const { value = {}, fault } = await tryReadConfig(directory, GENERATION_CONFIG)
  return fault ? { config: {}, fault: `${GENERATION_CONFIG} is ignored: ${fault.message}` } : { config: value }
}

/**
 * Reconciles the quantization config with the tensors. A config for a format that billfish cannot run is ignored if
 * only floating-point tensors are stored: merged and dequantized models keep such configs. If the tensors are stored by
 * another method than the config says, only its group settings are used, with a warning.
 */
function reconcileWithTensors(
  { config, where, warnings }: QuantizationReading,
  { quantized, unsupported }: StoredFormats,
  methods: ReadonlyMap<StoredMethod, TensorRef>,
  table: TensorTable,
): { quantization: QuantizationConfig; format: string | undefined; notices: readonly string[] } {
  if (config.method === 'unsupported') {
    if (!quantized) return { quantization: { method: 'none' }, format: unsupported?.format, notices: warnings }
    const [first] = unsupported === undefined ? methods : []
    const tensorHint =
      first &&
      `But tensors are stored in ${METHOD_NAMES[first[0]]} layout (${table.describe(first[1])}): if that is right, correct ` +
        `quant_method and its settings.`
    return {
      quantization: { ...config, ...(tensorHint && { tensorHint }) },
      format: config.format,
      notices: warnings,
    }
  }
  const others = [...methods].filter(([method]) => !agrees(config, method))
  const said = config.method === 'none' ? 'there is no quantization config' : `${where} says ${config.method}`
  const notices = others.map(
    ([method, tensor]) =>
      `${dirname(table.files[tensor.file] ?? '')}: ${said}, but tensors are stored in ${METHOD_NAMES[method]} layout ` +
      `(${table.describe(tensor)}), which takes precedence.`,
  )
  const field = quantizedActivations(config)
  if (field !== undefined) {
    notices.push(
      `${where}: ${field} quantizes activations; billfish leaves them in floating point, which is more accurate.`,
    )
  }
  const [only] = methods.size === 1 ? others : []
  const offset = withStoredOffset(only ? configForMethod(config, only[0]) : config, table, where)
  return {
    quantization: offset.quantization,
    format: unsupported?.format,
    notices: [...warnings, ...notices, ...offset.notices],
  }
}

/** The field that wants quantized activations, if any. */
function quantizedActivations(config: QuantizationConfig): string | undefined {
  if (config.method === 'fp8') return config.quantizesActivations ? 'activation_scheme' : undefined
  if (config.method === 'modelopt') return config.quantizesActivations ? 'quant_algo' : undefined
  if (config.method !== 'compressed-tensors') return undefined
  return config.groups.some(({ quantizesActivations }) => quantizesActivations) ? 'config_groups' : undefined
}

/** Determines checkpoint_format of GPTQ from its codes, if they are conclusive. */
function withStoredOffset(config: QuantizationConfig, table: TensorTable, where: string | undefined) {
  const { zeroOffset } = table.values
  if (config.method !== 'gptq' || zeroOffset === undefined || zeroOffset === config.zeroOffset) {
    return { quantization: config, notices: [] }
  }
  const name = zeroOffset === 1 ? 'gptq' : 'gptq_v2'
  const notices =
    config.zeroOffset === undefined
      ? []
      : [
          `${where}: checkpoint_format is not ${name}, but the codes are centered on the zero points of ${name}, which take precedence.`,
        ]
  return { quantization: { ...config, zeroOffset }, notices }
}

class OpenCheckpoint implements Checkpoint {
  readonly files: Checkpoint['files']
  readonly tensors: Checkpoint['tensors']
  readonly unsupportedTensors: Checkpoint['unsupportedTensors']
  readonly storedZeros: Checkpoint['storedZeros']
  readonly hasActOrder: boolean

  readonly #stored: TensorTable
  readonly #unsupportedSignatures: StoredFormats['signatures']

  constructor(
    readonly directory: string,
    readonly config: RawConfig,
    readonly generationConfig: RawConfig,
    readonly generationConfigFault: string | undefined,
    readonly notices: readonly string[],
    readonly quantization: QuantizationConfig,
    readonly unsupportedFormat: string | undefined,
    readonly bytes: number,
    stored: TensorTable,
    unsupportedSignatures: StoredFormats['signatures'],
  ) {
    this.#stored = stored
    this.#unsupportedSignatures = unsupportedSignatures

    this.files = stored.files
    this.tensors = stored.tensors
    this.unsupportedTensors = stored.unsupported
    this.storedZeros = [...stored.values.zeros.values()]
    this.hasActOrder = [...stored.values.groupSizes.values()].includes(0)
  }

  linear(module: string, outFeatures: number, inFeatures: number, bias: 'required' | 'none' | 'optional'): LinearSpec {
    this.#rejectUnsupported(module)
    return resolveLinear(this.#stored, this.quantization, module, outFeatures, inFeatures, bias === 'required')
  }

  find(tensor: string): TensorRef | undefined {
    return this.tensors.get(tensor)
  }

  vector(tensor: string, shape: readonly number[]): VectorSpec {
    this.#rejectUnsupported()
    const weight = this.#stored.require(tensor, FLOAT_TYPES)
    this.#stored.checkShape(weight, shape, 'the model')
    return { kind: 'vector', name: tensor, length: elementCount(shape), weight }
  }

  table(tensor: string, rows: number, width: number): MatrixSpec {
    this.#rejectUnsupported(tensor.replace(/\.weight$/, ''))
    const weight = this.#stored.require(tensor, FLOAT_TYPES)
    this.#stored.checkShape(weight, [rows, width], 'the model')
    return { kind: 'matrix', name: tensor, out: rows, in: width, weight }
  }

  /** Checked before a tensor is reported missing, because such formats store it under another name. */
  #rejectUnsupported(module?: string): void {
    const { quantization } = this
    if (quantization.method === 'unsupported') throw unsupportedConfig(quantization)
    const unsupported =
      module === undefined ? undefined : unsupportedModule(this.#stored, module, this.#unsupportedSignatures)
    if (unsupported) throw unsupported
  }
}

/** Error for a path without config.json: what the path is, and which one may have been meant. */
async function missingConfigError(given: string, path: string): Promise<Error> {
  const status = await stat(path).catch(() => undefined)
  const what = status === undefined ? 'does not exist' : status.isDirectory() ? 'has no config.json' : 'is a file'
  const hint = await suggestPath(given, path)
  return invalidCheckpoint(
    `${path} ${what}: expected a checkpoint directory as on the Hugging Face Hub, or a model's name there${hint}`,
  )
}

/** What the config files of a checkpoint say, before it is compared with the tensors. */
async function readConfigFiles(directory: string, path: string) {
  const [generationConfig, quantizationFiles, config] = await Promise.all([
    readGenerationConfig(path),
    Promise.all(QUANTIZATION_FILES.map((name) => tryReadConfig(path, name))),
    readConfig(path, 'config.json'),
  ])
  const quantizeConfig = quantizationFiles[QUANTIZATION_FILES.indexOf('quantize_config.json')]?.value
  if (config === undefined) {
    throw await missingConfigError(directory, path)
  }
  const inConfig = sourcesOfConfig(config, join(path, 'config.json'))
  const faults = quantizationFiles.flatMap(({ fault }) => fault ?? [])
  // config.json takes precedence, so broken files do not matter if it has a quantization config.
  if (faults[0] && inConfig.every(({ value }) => value === undefined || value === null)) throw faults[0]
  const stated = readQuantizationSources([
    ...inConfig,
    ...QUANTIZATION_FILES.map((name, i) => ({ where: join(path, name), name, value: quantizationFiles[i]?.value })),
  ])
  return { config, generationConfig, quantizeConfig, stated, faults }
}

/**
 * Reads what the config files of a checkpoint say, whether or not its weights are there.
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function readConfigs(directory: string): Promise<{ config: RawConfig; quantization: QuantizationConfig }> {
  const { config, stated } = await readConfigFiles(directory, resolve(directory))
  return { config, quantization: stated.config }
}

/**
 * Opens a checkpoint directory in Hugging Face Hub layout. Reads and validates config.json, generation_config.json, the
 * quantization config and the headers of all safetensors files. Of the weights, only stored zero points and group
 * indices are read.
 *
 * @param directory path of the directory; its files may be symbolic links, as in the Hub cache
 * @throws BillfishError INVALID_CHECKPOINT naming file, tensor and numbers; the reason of the signal if it aborts
 */
export async function openCheckpoint(
  directory: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Checkpoint> {
  const { signal } = options
  signal?.throwIfAborted()
  const path = resolve(directory)
  await rejectUnfinishedCopy(path)
  await rejectGguf(path)
  const { config, generationConfig, quantizeConfig, stated, faults } = await readConfigFiles(directory, path)
  signal?.throwIfAborted()
  const baseName = quantizeConfig?.model_file_base_name ?? undefined
  if (baseName !== undefined && typeof baseName !== 'string') {
    throw invalidCheckpoint(
      `${join(path, 'quantize_config.json')}: model_file_base_name is ${shown(baseName)}, not a string`,
    )
  }
  const { table, bytes } = await readTensors(path, baseName, signal)
  const stored = table.with(await readStoredValues(table, signal))
  const [formats, methods] = [await storedFormats(table), await storedMethods(table)]
  const { quantization, format, notices } = reconcileWithTensors(stated, formats, methods, stored)
  return new OpenCheckpoint(
    path,
    config,
    generationConfig.config,
    generationConfig.fault,
    [...faults.map(({ message }) => `${message}; config.json takes precedence.`), ...notices],
    quantization,
    format,
    bytes,
    stored,
    formats.signatures,
  )
}
