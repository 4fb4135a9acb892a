/**
 * compressed-tensors. K inputs, N outputs, G groups (1 per row if channelwise), P = 32 / bits. Format pack-quantized:
 *
 *     weight_packed      I32 [N, ceil(K/P)]   code of (n, k): word [n, k/P], from bit (k mod P)*bits
 *     weight_scale       [N, G]               in the floating-point dtype of the model
 *     weight_zero_point  I32 [ceil(N/P), G]   zero of (n, g): word [n/P, g]; only if asymmetric
 *     weight_g_idx       I32 [K]              group of every input; only with activation order
 *     weight_shape       I32 or I64 [2]       N, K
 *
 * Formats int-quantized and naive-quantized have signed numbers, code - 2^(bits-1), one a byte:
 *
 *     weight             I8 [N, K]
 *     weight_zero_point  I8 [N, G]            also beside packed codes of older versions
 *
 * Formats float-quantized and naive-quantized may have 8-bit floats instead: fp8.ts. Formats nvfp4-pack-quantized and
 * mxfp4-pack-quantized have 4-bit floats: fp4.ts.
 */

import { invalidCheckpoint, quoted, shown, unsupportedFormat } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { Fp4Kind, QuantizationConfig, ScaleBlock } from '../checkpoint/types'
import { ceilDiv } from '../common/arithmetic'
import type { QuantizedSpec, TensorRef } from '../native/weights'
import { ConfigFields } from './fields'
import { FP4_GROUPS, fp4Scheme } from './fp4'
import type { LinearRequest } from './groups'
import { hasActOrder, resolveGroupSize } from './groups'
import { Pattern } from './pattern'
import { memoizeDecision } from './rules'
import { blockOf } from './scale-block'
import { named } from './unsupported'

type CompressedTensorsConfig = Extract<QuantizationConfig, { method: 'compressed-tensors' }>
type Scheme = CompressedTensorsConfig['groups'][number]

const FORMAT = 'pack-quantized'
/** The formats of integers: packed, or one a byte. */
const INTEGER_FORMATS = [FORMAT, 'int-quantized', 'naive-quantized']
/** Those of 8-bit floats (fp8.ts). */
const FLOAT_FORMATS = ['float-quantized', 'naive-quantized']
/** Those of 4-bit floats (fp4.ts). */
const FP4_FORMATS: ReadonlyMap<string, Fp4Kind> = new Map([
  ['nvfp4-pack-quantized', 'NVFP4'],
  ['mxfp4-pack-quantized', 'MXFP4'],
])

/** What the other `format` values store. */
const OTHER_FORMATS: Readonly<Record<string, string>> = {
  'mxfp8-quantized': 'MXFP8',
  'marlin-24': '2:4 sparse, packed for Marlin',
  'sparse-24-bitmask': '2:4 sparse',
  'sparse-bitmask': 'sparse',
}

function otherFormat(format: string): string {
  const words = Object.hasOwn(OTHER_FORMATS, format) ? ` (${OTHER_FORMATS[format]})` : ''
  return `compressed-tensors ${named(format)}${words}`
}

function strings(fields: ConfigFields, name: string): readonly string[] {
  const value = fields.get(name) ?? []
  if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string')) {
    throw fields.invalid(name, value, 'a list of strings')
  }
  return value
}

function readActOrder(weights: ConfigFields): boolean {
  const order = weights.get('actorder') ?? false
  if (typeof order === 'boolean') return order
  if (order === 'group' || order === 'dynamic') return true
  if (order === 'weight' || order === 'static') return false
  throw weights.invalid('actorder', order, 'group, dynamic, weight or static')
}

/** A missing strategy follows from the group size. */
function strategyOf(weights: ConfigFields): string {
  const size = weights.groupSize()
  return weights.string('strategy') ?? (size === undefined ? 'tensor' : size === -1 ? 'channel' : 'group')
}

function readGroupSize(weights: ConfigFields, format: string): number | { readonly unsupported: string } {
  const size = weights.groupSize()
  const strategy = strategyOf(weights)
  if (strategy === 'channel' || strategy === 'tensor') return -1
  if (strategy === 'group' && size !== undefined && size > 0) return size
  if (strategy === 'group') throw weights.invalid('group_size', size, 'a positive number with strategy group')
  return { unsupported: `compressed-tensors ${format} with one scale for strategy ${quoted(strategy)}` }
}

/** What shares a scale of 8-bit floats. */
function readBlock(weights: ConfigFields): ScaleBlock | string {
  const strategy = strategyOf(weights)
  switch (strategy) {
    case 'tensor':
      return { rows: Number.POSITIVE_INFINITY, groupSize: -1 }
    case 'channel':
      return { rows: 1, groupSize: -1 }
    case 'block':
      return blockOf(weights, 'block_structure', weights.get('block_structure'))
    case 'group': {
      const size = weights.groupSize()
      if (size !== undefined && size > 0) return { rows: 1, groupSize: size }
      throw weights.invalid('group_size', size, 'a positive number with strategy group')
    }
    default:
      return `compressed-tensors FP8 with one scale for strategy ${quoted(strategy)}`
  }
}

/** A config group, or the name of the unsupported format it requests. */
function readScheme(where: string, value: unknown, defaultFormat: string): Scheme | string {
  if (!isObject(value)) throw invalidCheckpoint(`${where} is ${shown(value)}, not an object`)
  const fields = new ConfigFields(where, value)
  const format = fields.string('format') ?? defaultFormat
  if (!isRead(format)) return otherFormat(format)
  const weights = new ConfigFields(`${where}.weights`, fields.object('weights') ?? {})
  const bits = weights.integer('num_bits')
  const fp4 = FP4_FORMATS.get(format)
  const type = weights.string('type') ?? (fp4 || format === 'float-quantized' ? 'float' : 'int')
  const quantizesActivations = ['input_activations', 'output_activations'].some((key) => fields.get(key) !== undefined)
  if (type === 'float' && FLOAT_FORMATS.includes(format))
    return readFloats(fields, weights, format, quantizesActivations)
  if (type === 'float' && fp4) return readFp4(fields, weights, format, fp4, quantizesActivations)
  if (type !== 'int' || !INTEGER_FORMATS.includes(format)) {
    return `compressed-tensors ${format} with weights of type ${named(type)}`
  }
  if (bits === undefined || bits < 1 || bits > 8) throw weights.invalid('num_bits', bits, '4 or 8')
  if (bits !== 4 && bits !== 8) return `compressed-tensors ${format} with ${bits} bits`
  const groupSize = readGroupSize(weights, format)
  if (typeof groupSize === 'object') return groupSize.unsupported
  return {
    targets: strings(fields, 'targets'),
    bits,
    groupSize,
    oneScale: strategyOf(weights) === 'tensor',
    symmetric: weights.boolean(true, 'symmetric'),
    actOrder: readActOrder(weights),
    packed: format === FORMAT,
    quantizesActivations,
  }
}

function readFloats(
  fields: ConfigFields,
  weights: ConfigFields,
  format: string,
  quantizesActivations: boolean,
): Scheme | string {
  const bits = weights.integer('num_bits') ?? 8
  if (bits !== 8) return `compressed-tensors ${format} with floats of ${bits} bits`
  if (!weights.boolean(true, 'symmetric')) return `compressed-tensors ${format} with zero points`
  const floats = readBlock(weights)
  if (typeof floats === 'string') return floats
  return {
    targets: strings(fields, 'targets'),
    bits: 8,
    groupSize: floats.groupSize,
    symmetric: true,
    actOrder: false,
    packed: false,
    floats,
    quantizesActivations,
  }
}

function readFp4(
  fields: ConfigFields,
  weights: ConfigFields,
  format: string,
  kind: Fp4Kind,
  quantizesActivations: boolean,
): Scheme | string {
  const [bits, strategy] = [weights.integer('num_bits') ?? 4, weights.string('strategy') ?? 'group']
  const group = weights.groupSize() ?? FP4_GROUPS[kind]
  if (bits !== 4) return `compressed-tensors ${format} with floats of ${bits} bits`
  if (!weights.boolean(true, 'symmetric')) return `compressed-tensors ${format} with zero points`
  if (strategy !== 'group' && strategy !== 'tensor_group') {
    return `compressed-tensors ${format} with one scale for strategy ${quoted(strategy)}`
  }
  if (group !== FP4_GROUPS[kind]) return `compressed-tensors ${format} in groups of ${group}`
  if (readActOrder(weights)) return `compressed-tensors ${format} with activation order`
  return fp4Scheme(kind, strings(fields, 'targets'), quantizesActivations)
}

function isRead(format: string): boolean {
  return INTEGER_FORMATS.includes(format) || FLOAT_FORMATS.includes(format) || FP4_FORMATS.has(format)
}

/** @throws BillfishError INVALID_CHECKPOINT */
export function readCompressedTensorsConfig(fields: ConfigFields): QuantizationConfig {
  const unsupported = (format: string) => ({ method: 'unsupported', format, where: fields.where }) as const
  const format = fields.string('format') ?? FORMAT
  if (!isRead(format) && format !== 'mixed-precision') return unsupported(otherFormat(format))
  const inner = (name: string) => new ConfigFields(fields.where, fields.object(name) ?? {})
  const sparsity = inner('sparsity_config').string('format') ?? 'dense'
  if (sparsity !== 'dense') return unsupported(otherFormat(sparsity))
  const transforms = inner('transform_config').object('config_groups') ?? {}
  if (Object.keys(transforms).length > 0) {
    return unsupported('compressed-tensors with transform_config (weights that need rotated activations)')
  }
  const groups: Scheme[] = []
  for (const [name, value] of Object.entries(fields.object('config_groups') ?? {})) {
    const defaultFormat = format === 'mixed-precision' ? FORMAT : format
    const scheme = readScheme(`${fields.where}: config_groups.${name}`, value, defaultFormat)
    if (typeof scheme === 'string') return unsupported(scheme)
    groups.push(scheme)
  }
  return { method: 'compressed-tensors', groups, ignore: strings(fields, 'ignore') }
}

/** The pattern of a `targets` or `ignore` entry of the form `re:pattern`. */
function patternOf(entry: string): Pattern | undefined {
  if (!entry.startsWith('re:')) return undefined
  return Pattern.of(entry.slice('re:'.length), `The quantization config's target ${quoted(entry)}`)
}

/**
 * The scheme of a linear by name alone; undefined if it has none. An entry of `targets` or `ignore` is a name, `re:`
 * and a pattern that must match the start of the name, or a class. Among targets, names take precedence over patterns
 * (in alphabetical order), and patterns over classes, regardless of their group.
 */
export function schemeByName(config: CompressedTensorsConfig, module: string): Scheme | undefined {
  return memoizeDecision(config, module, (timed) => findScheme(config, module, timed))
}

function findScheme(
  config: CompressedTensorsConfig,
  module: string,
  timed: (run: () => boolean) => boolean,
): Scheme | undefined {
  const isNamed = (entry: string) => entry === module
  const isMatched = (entry: string) => timed(() => patternOf(entry)?.matchesStart(module) === true)
  const isOfClass = (entry: string) => entry === 'Linear'
  if (config.ignore.some((entry) => isNamed(entry) || isMatched(entry) || isOfClass(entry))) return undefined
  const targets = config.groups.flatMap((scheme) => scheme.targets.map((entry) => ({ entry, scheme })))
  targets.sort((a, b) => (a.entry < b.entry ? -1 : a.entry > b.entry ? 1 : 0))
  for (const fits of [isNamed, isMatched, isOfClass]) {
    const target = targets.find(({ entry }) => fits(entry))
    if (target) return target.scheme
  }
  return undefined
}

/** Bit width from the packed row width; widths other than 4 and 8 are packed without gaps. */
function bitsOf(words: number, inFeatures: number): number | undefined {
  return [4, 8, 2, 3, 5, 6, 7, 1].find((bits) => words === ceilDiv(inFeatures * bits, 32))
}

/**
 * Reads a compressed-tensors linear. The tensors determine everything except the group size if the last group is short.
 * Of one scale for the whole weight, the reader makes one for each output.
 *
 * @throws BillfishError INVALID_CHECKPOINT if tensors are missing or inconsistent; UNSUPPORTED_MODEL
 */
export function compressedTensorsLinear(
  table: TensorTable,
  config: CompressedTensorsConfig,
  request: LinearRequest,
): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const reason = `a compressed-tensors layer with ${out} outputs and ${inFeatures} inputs`
  const { codes, bits } = table.has(`${name}.weight_packed`)
    ? packedCodes(table, request, reason)
    : unpackedCodes(table, config, request, reason)
  const scales = table.require(`${name}.weight_scale`, FLOAT_TYPES)
  const scaleRows = isOne(scales) ? out : 1
  const groups = isOne(scales) ? 1 : (scales.shape[1] ?? 0)
  if (!isOne(scales)) table.checkShape(scales, [out, groups], reason)

  const zeros = table.find(`${name}.weight_zero_point`, codes.dtype === 'I8' ? ['I8'] : ['I32', 'I8'])
  const symmetric = zeros === undefined
  if (zeros !== undefined) {
    const rows = ceilDiv(out, scaleRows)
    const shape = [zeros.dtype === 'I8' ? rows : ceilDiv(rows * bits, 32), groups]
    if (scaleRows === 1 || !isOne(zeros)) table.checkShape(zeros, shape, reason)
  }

  const groupIndex = table.find(`${name}.weight_g_idx`, ['I32'])
  if (groupIndex !== undefined) table.checkShape(groupIndex, [inFeatures], reason)
  const ofBits = config.groups.filter((candidate) => candidate.bits === bits && !candidate.floats && !candidate.fp4)
  const fitting = ofBits.find(
    (candidate) => candidate.groupSize > 0 && ceilDiv(inFeatures, candidate.groupSize) === groups,
  )
  const groupSize = resolveGroupSize(table, scales, fitting?.groupSize, inFeatures, groups, groupIndex)
  checkRequiredTensors(table, ofBits, name, { zeros, groupIndex, grouped: groupSize < inFeatures })
  const storedShape = table.find(`${name}.weight_shape`, ['I32', 'I64'])
  if (storedShape !== undefined) table.checkShape(storedShape, [2], `the stored shape of ${quoted(name)}`)
  return {
    kind: 'quantized',
    name,
    format: 'compressed-tensors',
    bits,
    out,
    in: inFeatures,
    groupSize,
    scaleRows,
    symmetric,
    zeroOffset: 0,
    codes,
    scales: scaleRows === 1 ? scales : { ...scales, shape: [1, 1] },
    zeros: zeros && (scaleRows === 1 ? zeros : { ...zeros, shape: [1, 1] }),
    groupIndex,
    actOrder: groupIndex !== undefined && hasActOrder(table, groupIndex, groupSize, true),
    storedShape,
    bias,
  }
}

/** Whether a tensor has one element: a scalar, [1] or [1, 1]. */
function isOne({ shape }: TensorRef): boolean {
  return shape.every((length) => length === 1)
}

interface StoredCodes {
  readonly codes: TensorRef
  readonly bits: 4 | 8
}

/** Packed codes: the width of a row says how many bits a code has. */
function packedCodes(table: TensorTable, { name, out, in: inFeatures }: LinearRequest, reason: string): StoredCodes {
  const codes = table.require(`${name}.weight_packed`, ['I32'])
  const words = codes.shape[1] ?? 0
  table.checkShape(codes, [out, words], reason)
  const bits = bitsOf(words, inFeatures)
  if (bits === undefined) {
    throw invalidCheckpoint(
      `Tensor ${table.describe(codes)} has ${words} words per row, but ${inFeatures} inputs take ` +
        `${ceilDiv(inFeatures, 8)} with 4 bits or ${ceilDiv(inFeatures, 4)} with 8; config and tensors do not match`,
    )
  }
  if (bits === 4 || bits === 8) return { codes, bits }
  throw unsupportedFormat(
    `${name} is stored (tensor ${table.describe(codes)})`,
    `compressed-tensors ${FORMAT} with ${bits} bits`,
  )
}

/** One number a byte: only the config says whether they are of 4 bits, and 8 hold them whatever it says. */
function unpackedCodes(
  table: TensorTable,
  config: CompressedTensorsConfig,
  { name, out, in: inFeatures }: LinearRequest,
  reason: string,
): StoredCodes {
  const codes = table.require(`${name}.weight`, ['I8'])
  table.checkShape(codes, [out, inFeatures], reason)
  return { codes, bits: schemeByName(config, name)?.bits ?? 8 }
}

/** Detects an incomplete file: a tensor is missing that every scheme of the config requires. */
function checkRequiredTensors(
  table: TensorTable,
  schemes: readonly Scheme[],
  name: string,
  stored: { readonly zeros: unknown; readonly groupIndex: unknown; readonly grouped: boolean },
): void {
  if (schemes.length === 0) return
  if (stored.zeros === undefined && schemes.every(({ symmetric }) => !symmetric)) {
    throw invalidCheckpoint(
      `${table.missing(`${name}.weight_zero_point`)}, which an asymmetric layer needs; download the checkpoint again`,
    )
  }
  if (stored.groupIndex === undefined && stored.grouped && schemes.every(({ actOrder }) => actOrder)) {
    throw invalidCheckpoint(
      `${table.missing(`${name}.weight_g_idx`)}, which activation order needs; download the checkpoint again`,
    )
  }
}
