/**
 * NVIDIA ModelOpt's config, which comes in two forms. hf_quant_config.json has all but the producer under `quantization`:
 *
 *     { "producer": { "name": "modelopt", ... },
 *       "quantization": { "quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head", "mtp*"],
 *                         "kv_cache_quant_algo": "FP8" } }
 *
 * In config.json, quantization_config has the same without that level, and calls the exclusions `ignore`. quant_algo
 * MIXED_PRECISION has an algorithm for each of the `quantized_layers`, by name. The tensors decide how a module is stored
 * (fp4.ts; fp8.ts for FP8, whose scale is one for the whole tensor); names matter only where there are no files.
 */
import { invalidCheckpoint, quoted, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { ModelOptAlgorithm, QuantizationConfig } from '../checkpoint/types'
import { ConfigFields } from './fields'
import { FP4_GROUPS } from './fp4'
import { memoizeDecision } from './rules'
import { named } from './unsupported'

type ModelOptConfig = Extract<QuantizationConfig, { method: 'modelopt' }>

/** What a module is stored as, and whether activations are to be quantized, too. */
const ALGORITHMS: Readonly<Record<string, readonly [ModelOptAlgorithm, boolean]>> = {
  FP8: ['FP8', true],
  NVFP4: ['NVFP4', true],
  W4A16_NVFP4: ['NVFP4', false],
}

/** The largest models exclude some hundred; each is compared with every module. */
const MAX_PATTERNS = 10_000
const MAX_PATTERN_LENGTH = 1000

/** @throws BillfishError INVALID_CHECKPOINT for fields of the wrong type */
export function readModelOptConfig(outer: ConfigFields): QuantizationConfig {
  const { where } = outer
  const inner = outer.object('quantization')
  const fields = inner === undefined ? outer : new ConfigFields(`${where}: quantization`, inner)
  const unsupported = (format: string) => ({ method: 'unsupported', format, where }) as const
  const stated = fields.string('quant_algo')
  if (stated === undefined) return unsupported('ModelOpt without quant_algo')
  const excluded = readExcluded(fields)
  if (stated !== 'MIXED_PRECISION') {
    const read = readAlgorithm(fields, stated)
    if (typeof read === 'string') return unsupported(read)
    const [algorithm, quantizesActivations] = read
    return { method: 'modelopt', algorithm, layers: new Map(), excluded, quantizesActivations }
  }
  const layers = new Map<string, ModelOptAlgorithm>()
  let quantizesActivations = false
  for (const [name, value] of Object.entries(fields.object('quantized_layers') ?? {})) {
    const read = readLayer(fields, name, value)
    if (typeof read === 'string') return unsupported(`${read}, in MIXED_PRECISION`)
    layers.set(canonicalName(name), read[0])
    quantizesActivations ||= read[1]
  }
  return { method: 'modelopt', algorithm: 'MIXED_PRECISION', layers, excluded, quantizesActivations }
}

/** An algorithm, or the name of the unsupported format that it is. */
function readAlgorithm(fields: ConfigFields, stated: string): readonly [ModelOptAlgorithm, boolean] | string {
  const known = Object.hasOwn(ALGORITHMS, stated) ? ALGORITHMS[stated] : undefined
  if (known === undefined) return `ModelOpt ${named(stated)}`
  if (known[0] === 'FP8') return known
  const group = fields.groupSize() ?? FP4_GROUPS.NVFP4
  return group === FP4_GROUPS.NVFP4 ? known : `ModelOpt ${stated} in groups of ${group}`
}

/** An entry of `quantized_layers`: an object with an algorithm, or the algorithm. */
function readLayer(fields: ConfigFields, name: string, value: unknown): readonly [ModelOptAlgorithm, boolean] | string {
  if (typeof value === 'string') return readAlgorithm(new ConfigFields(fields.where, {}), value)
  const where = `${fields.where}: quantized_layers ${quoted(name)}`
  if (!isObject(value)) throw invalidCheckpoint(`${where} is ${shown(value)}; expected an object with a quant_algo`)
  const own = new ConfigFields(where, value)
  const stated = own.string('quant_algo')
  if (stated === undefined) throw own.invalid('quant_algo', stated, 'the name of an algorithm, such as NVFP4')
  return readAlgorithm(own, stated)
}

function readExcluded(fields: ConfigFields): readonly string[] {
  const name = fields.get('exclude_modules') === undefined ? 'ignore' : 'exclude_modules'
  const patterns = fields.get(name) ?? []
  if (!Array.isArray(patterns) || !patterns.every((pattern) => typeof pattern === 'string')) {
    throw fields.invalid(name, patterns, 'a list of names and patterns')
  }
  if (patterns.length > MAX_PATTERNS) {
    throw fields.invalid(name, `${patterns.length} patterns`, `at most ${MAX_PATTERNS}`)
  }
  const long = patterns.find(({ length }) => length > MAX_PATTERN_LENGTH)
  if (long !== undefined) throw fields.invalid(name, long, `patterns of at most ${MAX_PATTERN_LENGTH} characters`)
  return patterns.map(canonicalName)
}

/** `model.language_model.layers.0` of a vision-language model -> `model.layers.0`, as plans call it. */
function canonicalName(name: string): string {
  return name.replace(/^(?:model\.)?language_model\.(?:model\.)?(?=layers\.)/, 'model.')
}

/** What a module would be stored as, by name alone; undefined if it is not quantized. */
export function algorithmByName(config: ModelOptConfig, module: string): ModelOptAlgorithm | undefined {
  return memoizeDecision(config, module, (timed) => {
    if (config.algorithm === 'MIXED_PRECISION') return algorithmOfLayer(config, module)
    return timed(() => isExcluded(config, module)) ? undefined : config.algorithm
  })
}

/** That of the module, or of what contains it: the experts of a layer may be listed as one. */
function algorithmOfLayer({ layers }: ModelOptConfig, module: string): ModelOptAlgorithm | undefined {
  for (let name = module; name !== ''; name = name.slice(0, Math.max(0, name.lastIndexOf('.')))) {
    const algorithm = layers.get(name)
    if (algorithm !== undefined) return algorithm
  }
  return undefined
}

function isExcluded({ excluded }: ModelOptConfig, module: string): boolean {
  const contains = (name: string) => module.startsWith(name) && module[name.length] === '.'
  return excluded.some((pattern) => contains(pattern) || matchesGlob(pattern, module))
}

/** Whether the whole name matches, with `*` for any text. Literal parts are taken where they first fit: nothing is retried. */
export function matchesGlob(pattern: string, name: string): boolean {
  const star = pattern.indexOf('*')
  if (star === -1) return name === pattern
  if (!name.startsWith(pattern.slice(0, star))) return false // of nearly all
  const parts = pattern.slice(star + 1).split('*')
  const last = parts.pop() ?? ''
  let at = star
  for (const part of parts) {
    const found = name.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}
