import { join, resolve } from 'node:path'
import type { LinearSpec, MatrixSpec, VectorSpec } from '../native/weights'
import { type QuantizationSource, readQuantizationConfig } from '../quantization/config'
import { resolveLinear } from '../quantization/linear'
import { readJsonFile } from './files'
import { invalidCheckpoint, shown } from './invalid'
import { isObject } from './json'
import { readTensors } from './shards'
import { FLOAT_TYPES, type TensorTable } from './tensors'
import type { Checkpoint, QuantizationConfig, RawConfig } from './types'
import { refuseUnfinishedCopy } from './unfinished-copy'

export { describeFormat, listTensors, type TensorSummary } from './describe'

const MAX_CONFIG_BYTES = 16 * 1024 * 1024
const CONFIG_LIMITS = { maxDepth: 32, maxValues: 1_000_000 }

/** A config file as an object; undefined where there is none. @throws BillfishError INVALID_CHECKPOINT */
async function readConfig(directory: string, fileName: string): Promise<RawConfig | undefined> {
  const path = join(directory, fileName)
  const value = await readJsonFile(path, MAX_CONFIG_BYTES, CONFIG_LIMITS)
  if (value === undefined) return undefined
  if (!isObject(value)) throw invalidCheckpoint(`${path} holds ${shown(value)}, not an object`)
  return value
}

/** Every place where a quantisation config may stand, the first one winning. */
function quantizationSources(
  directory: string,
  config: RawConfig,
  files: readonly (readonly [string, RawConfig | undefined])[],
): QuantizationSource[] {
  const sources: QuantizationSource[] = files.map(([name, value]) => ({ where: join(directory, name), name, value }))
  const text = isObject(config.text_config) ? config.text_config : {}
  for (const [owner, path] of [
    [config, ''],
    [text, 'text_config.'],
  ] as const) {
    for (const key of ['quantization_config', 'compression_config']) {
      sources.push({
        where: `${join(directory, 'config.json')}: ${path}${key}`,
        name: 'config.json',
        value: owner[key],
      })
    }
  }
  return sources
}

class OpenCheckpoint implements Checkpoint {
  readonly files: Checkpoint['files']
  readonly tensors: Checkpoint['tensors']
  readonly unsupportedTensors: Checkpoint['unsupportedTensors']

  constructor(
    readonly directory: string,
    readonly config: RawConfig,
    readonly generationConfig: RawConfig,
    readonly quantization: QuantizationConfig,
    readonly bytes: number,
    private readonly stored: TensorTable,
  ) {
    this.files = stored.files
    this.tensors = stored.tensors
    this.unsupportedTensors = stored.unsupported
  }

  linear(module: string, outFeatures: number, inFeatures: number, bias: 'required' | 'none' | 'optional'): LinearSpec {
    return resolveLinear(this.stored, this.quantization, module, outFeatures, inFeatures, bias === 'required')
  }

  vector(tensor: string, length: number): VectorSpec {
    const weight = this.stored.require(tensor, FLOAT_TYPES)
    this.stored.checkShape(weight, [length], 'the model')
    return { kind: 'vector', name: tensor, length, weight }
  }

  table(tensor: string, rows: number, width: number): MatrixSpec {
    const weight = this.stored.require(tensor, FLOAT_TYPES)
    this.stored.checkShape(weight, [rows, width], 'the model')
    return { kind: 'matrix', name: tensor, out: rows, in: width, weight }
  }
}

/**
 * Opens a checkpoint directory as the Hugging Face Hub has them: reads config.json, generation_config.json, the
 * quantisation config and the headers of all safetensors files, and checks them. No weight is read.
 *
 * @param directory - a path; files in it may be symbolic links, as in the Hub's cache
 * @throws BillfishError INVALID_CHECKPOINT naming file, tensor and numbers; the signal's reason once it aborts
 */
export async function openCheckpoint(
  directory: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Checkpoint> {
  const { signal } = options
  signal?.throwIfAborted()
  const path = resolve(directory)
  await refuseUnfinishedCopy(path)
  const [config, generationConfig, quantizeConfig, quantConfig] = await Promise.all(
    ['config.json', 'generation_config.json', 'quantize_config.json', 'quant_config.json'].map((name) =>
      readConfig(path, name),
    ),
  )
  signal?.throwIfAborted()
  if (config === undefined) {
    throw invalidCheckpoint(
      `${join(path, 'config.json')} does not exist; a checkpoint directory as on the Hugging Face Hub is needed`,
    )
  }
  const quantization = readQuantizationConfig(
    quantizationSources(path, config, [
      ['quantize_config.json', quantizeConfig],
      ['quant_config.json', quantConfig],
    ]),
  )
  const baseName = quantizeConfig?.model_file_base_name ?? undefined
  if (baseName !== undefined && typeof baseName !== 'string') {
    throw invalidCheckpoint(
      `${join(path, 'quantize_config.json')}: model_file_base_name is ${shown(baseName)}, not a string`,
    )
  }
  const { table, bytes } = await readTensors(path, baseName, signal)
  return new OpenCheckpoint(path, config, generationConfig ?? {}, quantization, bytes, table)
}
