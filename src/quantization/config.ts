/** Reads the quantization config of a checkpoint: where it is stored, and what its many spellings mean. */
import { isDeepStrictEqual } from 'node:util'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { QuantizationConfig, RawConfig } from '../checkpoint/types'
import { readAutoRoundConfig } from './auto-round'
import { readAwqConfig } from './awq'
import { readCompressedTensorsConfig } from './compressed-tensors'
import { ConfigFields } from './fields'
import { readFp8Config } from './fp8'
import { readGptqConfig } from './gptq'
import { readModelOptConfig } from './modelopt'
import { formatName } from './unsupported'

export interface QuantizationSource {
  /** Path for error messages, with the key if it is part of config.json. */
  readonly where: string
  /** File name. */
  readonly name: string
  /** Parsed JSON; undefined or null if absent. */
  readonly value: unknown
}

/** Files next to config.json that may hold a quantization config, in order of priority. */
export const QUANTIZATION_FILES = [
  'quantize_config.json',
  'quant_config.json',
  'quantization_config.json',
  'hf_quant_config.json',
] as const

/** Places in a config.json that may hold one, in order of priority. @param where file path, for error messages */
export function sourcesOfConfig(config: RawConfig, where: string): QuantizationSource[] {
  const sources: QuantizationSource[] = []
  const text = isObject(config.text_config) ? config.text_config : {}
  for (const [owner, path] of [
    [config, ''],
    [text, 'text_config.'],
  ] as const) {
    const add = (key: string, value: unknown) =>
      sources.push({ where: `${where}: ${path}${key}`, name: 'config.json', value })
    // MLX writes both keys, neither with a quant_method.
    if (isObject(owner.quantization) && !hasMethod(owner.quantization_config)) {
      add('quantization', { ...owner.quantization, quant_method: owner.quantization.quant_method ?? 'mlx' })
    }
    for (const key of ['quantization_config', 'compression_config']) add(key, owner[key])
  }
  return sources
}

function hasMethod(value: unknown): boolean {
  return isObject(value) && (value.quant_method ?? value.method ?? undefined) !== undefined
}

/**
 * The quantization method. Files that predate `quant_method` are recognized by what only AutoAWQ writes: its file name,
 * and the fields `zero_point` and `version`; ModelOpt by its file name, and AutoRound by `packing_format`.
 */
function methodOf(fields: ConfigFields, fileName: string): string {
  const stated = fields.string('quant_method', 'method')
  if (stated !== undefined) return stated.toLowerCase()
  if (fileName === 'hf_quant_config.json' || fields.get('quant_algo') !== undefined) return 'modelopt'
  if (fields.get('load_in_4bit') === true || fields.get('load_in_8bit') === true) return 'bitsandbytes'
  if (fields.get('config_groups') !== undefined) return 'compressed-tensors'
  if (fields.get('packing_format') !== undefined || fields.get('autoround_version') !== undefined) return 'auto-round'
  const byAwq =
    fileName === 'quant_config.json' || fields.get('zero_point') !== undefined || fields.get('version') !== undefined
  return byAwq ? 'awq' : 'gptq'
}

function readSource({ where, name, value }: QuantizationSource): QuantizationConfig {
  if (!isObject(value)) throw invalidCheckpoint(`${where} is ${shown(value)}, not an object`)
  const fields = new ConfigFields(where, value)
  const method = methodOf(fields, name)
  switch (method) {
    case 'gptq':
      return readGptqConfig(fields)
    case 'awq':
      return readAwqConfig(fields)
    case 'compressed-tensors':
    case 'compressed_tensors':
      return readCompressedTensorsConfig(fields)
    case 'auto-round':
    case 'auto_round':
    case 'autoround':
    case 'intel/auto-round':
      return readAutoRoundConfig(fields)
    case 'fp8':
      return readFp8Config(fields)
    case 'modelopt':
    case 'modelopt_fp4':
    case 'modelopt_fp8':
    case 'modelopt_mixed':
      return readModelOptConfig(fields)
    case 'none':
      return { method: 'none' }
    default:
      return { method: 'unsupported', format: formatName(method, value), where }
  }
}

/** Fields that change how a linear is read -> their names in configs. */
const SIGNIFICANT: Readonly<Record<string, string>> = {
  method: 'quant_method',
  format: 'the format',
  algorithm: 'quant_algo',
  bits: 'bits',
  groupSize: 'group_size',
  symmetric: 'sym',
  actOrder: 'desc_act',
  zeroOffset: 'the offset of stored zeros',
  zeroPoint: 'zero_point',
  layout: 'version',
}

/** How two configs contradict each other; a field that only one of them has is no contradiction. */
function findContradictions(
  config: QuantizationConfig,
  other: QuantizationConfig,
): { ours: string; theirs: string } | undefined {
  const ours: Readonly<Record<string, unknown>> = { ...config }
  const theirs: Readonly<Record<string, unknown>> = { ...other }
  const differs = (key: string) => ours[key] !== undefined && theirs[key] !== undefined && ours[key] !== theirs[key]
  const keys = differs('method') ? ['method'] : Object.keys(SIGNIFICANT).filter(differs)
  if (keys.length === 0) return undefined
  const words = (values: Readonly<Record<string, unknown>>) =>
    keys
      .map((key) => `${SIGNIFICANT[key]} ${values[key] === 'unsupported' ? values.format : shown(values[key])}`)
      .join(', ')
  return { ours: words(ours), theirs: words(theirs) }
}

/**
 * Restores the author's order of rules: transformers sorts the keys of config.json, so equal rules are taken from
 * `other`.
 */
function withAuthorsOrder(config: QuantizationConfig, other: QuantizationConfig): QuantizationConfig {
  if (config.method !== 'gptq' || other.method !== 'gptq') return config
  const sorted = ({ rules }: typeof config) =>
    rules.map((rule) => JSON.stringify({ ...rule, where: '' })).sort((a, b) => (a < b ? -1 : 1))
  return isDeepStrictEqual(sorted(config), sorted(other)) ? { ...config, rules: other.rules } : config
}

export interface QuantizationReading {
  readonly config: QuantizationConfig
  /** Source of the config. */
  readonly where: string | undefined
  /** Warnings: files that are overridden but disagree. */
  readonly warnings: readonly string[]
}

/**
 * Reads the config of the first source that has one. The others are only compared with it and may be broken.
 *
 * @param sources in order of priority
 * @throws BillfishError INVALID_CHECKPOINT for fields of the wrong type
 */
export function readQuantizationSources(sources: readonly QuantizationSource[]): QuantizationReading {
  const [source, ...rest] = sources.filter(({ value }) => value !== undefined && value !== null)
  if (source === undefined) return { config: { method: 'none' }, where: undefined, warnings: [] }
  let config = readSource(source)
  const warnings: string[] = []
  for (const { where, name, value } of rest) {
    if (name === source.name) continue // config.json may have it under two keys
    let other: QuantizationConfig
    try {
      other = readSource({ where, name, value })
    } catch {
      continue
    }
    config = withAuthorsOrder(config, other)
    const contradicted = findContradictions(config, other)
    if (contradicted === undefined) continue
    const { ours, theirs } = contradicted
    warnings.push(`${where} says ${theirs}; ${source.where} says ${ours}, which takes precedence.`)
  }
  return { config, where: source.where, warnings }
}

/** {@link readQuantizationSources} without the warnings. @throws BillfishError INVALID_CHECKPOINT */
export function readQuantizationConfig(sources: readonly QuantizationSource[]): QuantizationConfig {
  return readQuantizationSources(sources).config
}
