/**
 * GPTQ as written by AutoGPTQ and GPTQModel. K inputs, N outputs, G groups, P = 32 / bits codes per word:
 *
 *     qweight  I32 [K/P, N]     code of (k, n): word [k/P, n], from bit (k mod P)*bits
 *     qzeros   I32 [G, N/P]     zero of (g, n): word [g, n/P], from bit (n mod P)*bits; v1 stores zero - 1
 *     scales   F16 [G, N]
 *     g_idx    I32 [K]          group of every input
 */

import { invalidCheckpoint, quoted, shown, unsupportedFormat } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { ModuleRule, QuantizationConfig } from '../checkpoint/types'
import { ceilDiv } from '../common/arithmetic'
import type { QuantizedSpec, TensorRef } from '../native/weights'
import { ConfigFields } from './fields'
import type { LinearRequest } from './groups'
import { hasActOrder, resolveGroupSize } from './groups'
import { checkRuleCount, configForModule, describeRule, readOverrides } from './rules'
import { named } from './unsupported'

type GptqConfig = Extract<QuantizationConfig, { method: 'gptq' }>

/**
 * Reads `dynamic` of GPTQModel: the first rule whose pattern matches the start of the module name applies. `-:pattern`
 * leaves modules unquantized; `+:pattern` or `pattern` overrides fields of the config.
 */
function readDynamic(fields: ConfigFields): ModuleRule[] {
  const dynamic = Object.entries(fields.object('dynamic') ?? {})
  checkRuleCount(fields, 'dynamic', dynamic.length)
  return dynamic.map(([key, value]): ModuleRule => {
    const where = describeRule('dynamic', key)
    const pattern = key.replace(/^[-+]:/, '')
    if (key.startsWith('-:')) return { pattern, match: 'start', action: 'skip', where }
    if (!isObject(value)) throw fields.invalid(`dynamic ${quoted(key)}`, value, 'an object of overrides')
    return { pattern, match: 'start', action: readOverrides(new ConfigFields(where, value)), where }
  })
}

/** The packing, if it is not that of AutoGPTQ. */
function otherPacking(fields: ConfigFields): string | undefined {
  const format = (fields.string('checkpoint_format', 'format') ?? 'gptq').toLowerCase()
  if (fields.boolean(false, 'is_marlin_format')) return 'GPTQ packed for Marlin'
  if (format !== 'gptq' && format !== 'gptq_v2') {
    const names: Readonly<Record<string, string>> = { marlin: 'Marlin', bitblas: 'BitBLAS' }
    return Object.hasOwn(names, format)
      ? `GPTQ packed for ${names[format]}`
      : `GPTQ with checkpoint_format ${named(format)}`
  }
  const packType = fields.string('pack_dtype') ?? 'int32'
  if (packType !== 'int32') return `GPTQ packed into ${named(packType)}`
  const rotation = fields.get('rotation')
  return rotation === undefined ? undefined : `GPTQ of rotated weights (rotation ${shown(rotation)})`
}

/** @throws BillfishError INVALID_CHECKPOINT */
export function readGptqConfig(fields: ConfigFields): QuantizationConfig {
  const other = otherPacking(fields)
  if (other !== undefined) return { method: 'unsupported', format: other, where: fields.where }
  const bits = fields.integer('bits', 'w_bit', 'wbits')
  if (bits !== undefined && bits !== 4 && bits !== 8) {
    if (bits < 1 || bits > 8) throw fields.invalid('bits', bits, '4 or 8')
    return { method: 'unsupported', format: `GPTQ with ${bits} bits`, where: fields.where }
  }
  const groupSize = fields.groupSize()
  const ordered = fields.get('desc_act') === undefined ? undefined : fields.boolean(true, 'desc_act')
  // With static groups, and without groups, AutoGPTQ stores natural order whatever desc_act says.
  const natural = fields.boolean(false, 'static_groups') || groupSize === -1
  return {
    method: 'gptq',
    bits,
    groupSize,
    symmetric: fields.boolean(!fields.boolean(false, 'zero_point'), 'sym'),
    actOrder: natural ? false : ordered,
    zeroOffset: (fields.string('checkpoint_format', 'format') ?? 'gptq').toLowerCase() === 'gptq_v2' ? 0 : 1,
    groupIndex: true,
    head: fields.boolean(false, 'lm_head'),
    rules: readDynamic(fields),
  }
}

/** Bit width from the number of rows: K inputs take K * bits / 32 rows. */
function bitsOf(table: TensorTable, codes: TensorRef, { name, out, in: inFeatures }: LinearRequest): 4 | 8 {
  const [rows = 0, columns = 0] = codes.shape
  const bits = (rows * 32) / inFeatures
  if (columns === out && (bits === 4 || bits === 8)) return bits
  const subject = `${name} is stored (tensor ${table.describe(codes)})`
  if (columns === out && [2, 3, 5, 6, 7].includes(bits)) throw unsupportedFormat(subject, `GPTQ with ${bits} bits`)
  if (rows * 16 === inFeatures && (columns === 2 * out || columns === 4 * out)) {
    throw unsupportedFormat(subject, 'GPTQ packed for Marlin')
  }
  throw invalidCheckpoint(
    `Tensor ${table.describe(codes)} does not have the shape [${inFeatures / 8}, ${out}] (4 bits) or ` +
      `[${inFeatures / 4}, ${out}] (8 bits) that a GPTQ layer with ${out} outputs and ${inFeatures} inputs needs; ` +
      'config and tensors do not match',
  )
}

/**
 * Resolves the zero points: whether all of them are in the middle of the code range, and the offset of stored ones.
 * Some files say `sym` but are asymmetric, and some say v1 but store v2. If all are 7 or all are 8 (127 or 128 at 8
 * bits), the quantization is symmetric; otherwise the codes decide at 4 bits, else checkpoint_format.
 */
function zeroPoints(
  table: TensorTable,
  { symmetric, zeroOffset: stated }: Pick<GptqConfig, 'symmetric' | 'zeroOffset'>,
  name: string,
  bits: 4 | 8,
): { symmetric: boolean; zeroOffset: 0 | 1; zeros: TensorRef | undefined } {
  const zeroOffset = (bits === 4 ? table.values.zeroOffset : undefined) ?? stated
  const zeros = table.find(`${name}.qzeros`, ['I32'])
  if (zeros === undefined) {
    if (symmetric) return { symmetric, zeroOffset: zeroOffset ?? 1, zeros }
    throw invalidCheckpoint(
      `${table.missing(`${name}.qzeros`)}, which an asymmetric layer (sym false) needs; download the checkpoint again`,
    )
  }
  const middle = 2 ** (bits - 1)
  const code = table.values.zeros.get(zeros.name)
  if (code === middle || code === middle - 1) return { symmetric: true, zeroOffset: code === middle ? 0 : 1, zeros }
  if (zeroOffset === undefined) {
    throw invalidCheckpoint(
      `${quoted(name)} has GPTQ tensors, but the quantization config does not describe them: cannot tell whether its zero points ` +
        `(tensor ${table.describe(zeros)}) are one too small (checkpoint_format gptq) or not (gptq_v2); ` +
        'set quant_method to gptq and checkpoint_format in the config',
    )
  }
  if (!table.values.zeros.has(zeros.name)) return { symmetric, zeroOffset, zeros }
  return { symmetric: false, zeroOffset, zeros }
}

/**
 * Reads a GPTQ linear.
 * @throws BillfishError INVALID_CHECKPOINT if tensors are missing or inconsistent; UNSUPPORTED_MODEL
 */
export function gptqLinear(table: TensorTable, base: GptqConfig, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const config = configForModule(base, name)
  const codes = table.require(`${name}.qweight`, ['I32'])
  const bits = bitsOf(table, codes, request)
  const codesPerWord = 32 / bits
  const reason = `a ${bits}-bit GPTQ layer with ${out} outputs and ${inFeatures} inputs`

  const scales = table.require(`${name}.scales`, FLOAT_TYPES)
  const groups = scales.shape[0] ?? 0
  table.checkShape(scales, [groups, out], reason)

  const groupIndex = table.find(`${name}.g_idx`, ['I32'])
  if (groupIndex !== undefined) table.checkShape(groupIndex, [inFeatures], reason)
  const groupSize = resolveGroupSize(table, scales, config.groupSize, inFeatures, groups, groupIndex)
  if (groupIndex === undefined && config.actOrder === true && groupSize < inFeatures) {
    throw invalidCheckpoint(
      `${table.missing(`${name}.g_idx`)}, which act-order needs; if the checkpoint has natural order, set "desc_act": false in its quantization config`,
    )
  }
  const { symmetric, zeroOffset, zeros } = zeroPoints(table, config, name, bits)
  if (zeros !== undefined) table.checkShape(zeros, [groups, ceilDiv(out, codesPerWord)], reason)
  return {
    kind: 'quantized',
    name,
    format: 'gptq',
    bits,
    out,
    in: inFeatures,
    groupSize,
    symmetric,
    zeroOffset,
    codes,
    scales,
    zeros: symmetric ? undefined : zeros,
    groupIndex,
    actOrder: groupIndex !== undefined && hasActOrder(table, groupIndex, groupSize, config.actOrder !== false),
    bias,
  }
}
