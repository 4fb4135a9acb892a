/**
 * compressed-tensors, format pack-quantized. K inputs, N outputs, G groups (1 a row when channelwise), P = 32 / bits:
 *
 *     weight_packed      I32 [N, ceil(K/P)]   code of (n, k): word [n, k/P], bits (k mod P)*bits upwards
 *     weight_scale       [N, G]               in the model's floating-point type
 *     weight_zero_point  I32 [ceil(N/P), G]   zero of (n, g): word [n/P, g]; only when asymmetric
 *     weight_g_idx       I32 [K]              the group of every input; only with activation order
 *     weight_shape       I32 or I64 [2]       N, K
 */
import { invalidCheckpoint, quoted, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import type { QuantizedSpec } from '../native/weights'
import { ConfigFields } from './fields'
import type { LinearRequest } from './linear'
import { Pattern } from './pattern'

type CompressedTensorsConfig = Extract<QuantizationConfig, { method: 'compressed-tensors' }>
type Scheme = CompressedTensorsConfig['groups'][number]

const FORMAT = 'pack-quantized'

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

/** A strategy that is not said follows from the group size. */
function readGroupSize(weights: ConfigFields): number {
  const size = weights.groupSize()
  const strategy = weights.string('strategy') ?? (size === undefined ? 'tensor' : size === -1 ? 'channel' : 'group')
  if (strategy === 'channel') return -1
  if (strategy === 'group' && size !== undefined && size > 0) return size
  if (strategy === 'group') throw weights.invalid('group_size', size, 'a positive number with strategy group')
  throw weights.invalid('strategy', strategy, 'group or channel')
}

function readScheme(where: string, value: unknown): Scheme {
  if (!isObject(value)) throw invalidCheckpoint(`${where} is ${shown(value)}, not an object`)
  const fields = new ConfigFields(where, value)
  const format = fields.string('format') ?? FORMAT
  if (format !== FORMAT) throw fields.invalid('format', format, FORMAT)
  if (fields.get('input_activations') !== undefined) {
    throw fields.invalid('input_activations', fields.get('input_activations'), 'null: only weights may be quantised')
  }
  const weights = new ConfigFields(`${where}.weights`, fields.object('weights') ?? {})
  const type = weights.string('type') ?? 'int'
  if (type !== 'int') throw weights.invalid('type', type, 'int')
  return {
    targets: strings(fields, 'targets'),
    bits: weights.bits(weights.integer('num_bits'), '4 or 8 (num_bits)'),
    groupSize: readGroupSize(weights),
    symmetric: weights.boolean(true, 'symmetric'),
    actOrder: readActOrder(weights),
  }
}

/** @throws BillfishError INVALID_CHECKPOINT */
export function readCompressedTensorsConfig(fields: ConfigFields): QuantizationConfig {
  const format = fields.string('format') ?? FORMAT
  if (format !== FORMAT && format !== 'mixed-precision') throw fields.invalid('format', format, FORMAT)
  const sparsity = new ConfigFields(fields.where, fields.object('sparsity_config') ?? {}).string('format') ?? 'dense'
  if (sparsity !== 'dense') throw fields.invalid('sparsity_config.format', sparsity, 'dense')
  const transforms =
    new ConfigFields(fields.where, fields.object('transform_config') ?? {}).object('config_groups') ?? {}
  if (Object.keys(transforms).length > 0) {
    throw fields.invalid('transform_config', transforms, 'none: weights that need rotated activations cannot be used')
  }
  const groups = Object.entries(fields.object('config_groups') ?? {}).map(([name, value]) =>
    readScheme(`${fields.where}: config_groups.${name}`, value),
  )
  return { method: 'compressed-tensors', groups, ignore: strings(fields, 'ignore') }
}

/**
 * The scheme that the config gives a linear, by name alone; undefined where it gives none. An entry of `targets` or
 * `ignore` is a class, a name, or `re:` and a pattern that the name's beginning must match.
 */
export function schemeByName(config: CompressedTensorsConfig, module: string): Scheme | undefined {
  const matches = (entry: string) =>
    entry.startsWith('re:')
      ? Pattern.of(entry.slice('re:'.length), `The quantisation config's target ${quoted(entry)}`).matchesStart(module)
      : entry === module || entry === 'Linear'
  if (config.ignore.some(matches)) return undefined
  return config.groups.find(({ targets }) => targets.some(matches))
}

function describeScheme({ bits, groupSize, symmetric }: Omit<Scheme, 'targets' | 'actOrder'>): string {
  const group = groupSize === -1 ? 'channelwise' : `group_size ${groupSize}`
  return `${bits} bits, ${group}, ${symmetric ? 'symmetric' : 'asymmetric'}`
}

/** Bits by the packed width of a row, or undefined where it fits neither 4 nor 8. */
function bitsOf(words: number, inFeatures: number): 4 | 8 | undefined {
  if (words === Math.ceil(inFeatures / 8)) return 4
  return words === Math.ceil(inFeatures / 4) ? 8 : undefined
}

/**
 * The tensors alone say everything about the layer, so the config's target patterns are not needed: one of its groups
 * must agree with the tensors.
 *
 * @throws BillfishError INVALID_CHECKPOINT where tensors are missing or contradict the config
 */
export function compressedTensorsLinear(
  table: TensorTable,
  config: CompressedTensorsConfig,
  request: LinearRequest,
): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const reason = `a ${FORMAT} layer with ${out} outputs and ${inFeatures} inputs`
  const codes = table.require(`${name}.weight_packed`, ['I32'])
  const words = codes.shape[1] ?? 0
  table.checkShape(codes, [out, words], reason)
  const bits = bitsOf(words, inFeatures)
  if (bits === undefined) {
    throw invalidCheckpoint(
      `Tensor ${table.describe(codes)} has ${words} words a row, but ${inFeatures} inputs take ` +
        `${Math.ceil(inFeatures / 8)} with 4 bits or ${Math.ceil(inFeatures / 4)} with 8; config and tensors do not belong together`,
    )
  }
  const scales = table.require(`${name}.weight_scale`, FLOAT_TYPES)
  const groups = scales.shape[1] ?? 0
  table.checkShape(scales, [out, groups], reason)

  const zeros = table.find(`${name}.weight_zero_point`, ['I32'])
  const symmetric = zeros === undefined
  if (zeros !== undefined) table.checkShape(zeros, [Math.ceil((out * bits) / 32), groups], reason)

  const scheme = config.groups.find(
    (candidate) =>
      candidate.bits === bits &&
      candidate.symmetric === symmetric &&
      groups === (candidate.groupSize === -1 ? 1 : Math.ceil(inFeatures / candidate.groupSize)),
  )
  if (scheme === undefined) {
    const said = config.groups.map(describeScheme).join('; or ') || 'nothing'
    throw invalidCheckpoint(
      `${name} is stored with ${bits} bits, ${groups} groups for ${inFeatures} inputs, ${symmetric ? 'symmetric' : 'asymmetric'}, ` +
        `but the quantisation config says ${said}; config and tensors do not belong together`,
    )
  }
  const groupIndex = table.find(`${name}.weight_g_idx`, ['I32'])
  if (groupIndex !== undefined) table.checkShape(groupIndex, [inFeatures], reason)
  const groupSize = scheme.groupSize === -1 ? inFeatures : Math.min(scheme.groupSize, inFeatures)
  if (groupIndex === undefined && scheme.actOrder && groupSize < inFeatures) {
    throw invalidCheckpoint(
      `${table.missing(`${name}.weight_g_idx`)}, which activation order needs; download the checkpoint again`,
    )
  }
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
    symmetric,
    zeroOffset: 0,
    codes,
    scales,
    zeros,
    groupIndex,
    actOrder: groupIndex !== undefined,
    storedShape,
    bias,
  }
}
