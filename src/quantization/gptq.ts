/**
 * GPTQ as AutoGPTQ and GPTQModel write it. K inputs, N outputs, G groups, P = 32 / bits codes a word:
 *
 *     qweight  I32 [K/P, N]     code of (k, n): word [k/P, n], bits (k mod P)*bits upwards
 *     qzeros   I32 [G, N/P]     zero of (g, n): word [g, n/P], bits (n mod P)*bits upwards; v1 stores zero - 1
 *     scales   F16 [G, N]
 *     g_idx    I32 [K]          the group of every input
 */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import type { QuantizedSpec } from '../native/weights'
import { ConfigFields } from './fields'
import { resolveGroupSize } from './groups'
import type { LinearRequest } from './linear'
import { Pattern } from './pattern'

type GptqConfig = Extract<QuantizationConfig, { method: 'gptq' }>

const BITS = '4 or 8 (bits)'
const MAX_DYNAMIC_RULES = 1000

function readDynamic(fields: ConfigFields): GptqConfig['dynamic'] {
  const dynamic = fields.object('dynamic') ?? {}
  const rules = Object.entries(dynamic)
  if (rules.length > MAX_DYNAMIC_RULES) {
    throw fields.invalid('dynamic', `${rules.length} rules`, `at most ${MAX_DYNAMIC_RULES} rules`)
  }
  for (const [key, value] of rules) {
    if (!isObject(value)) throw fields.invalid(`dynamic ${quoted(key)}`, value, 'an object of overrides')
  }
  return dynamic as GptqConfig['dynamic']
}

/** @throws BillfishError INVALID_CHECKPOINT */
export function readGptqConfig(fields: ConfigFields): QuantizationConfig {
  const format = (fields.string('checkpoint_format', 'format') ?? 'gptq').toLowerCase()
  if (fields.boolean(false, 'is_marlin_format') || (format !== 'gptq' && format !== 'gptq_v2')) {
    const name = format === 'gptq' ? 'marlin' : format
    throw fields.invalid('checkpoint_format', name, 'gptq or gptq_v2: convert the checkpoint, or take the original one')
  }
  const packType = fields.string('pack_dtype') ?? 'int32'
  if (packType !== 'int32') throw fields.invalid('pack_dtype', packType, 'int32')
  const groupSize = fields.groupSize()
  // With static groups, and without groups, AutoGPTQ stores the natural order whatever desc_act says.
  const ordered = fields.boolean(true, 'desc_act') && !fields.boolean(false, 'static_groups') && groupSize !== -1
  return {
    method: 'gptq',
    bits: fields.bits(fields.integer('bits', 'w_bit'), BITS),
    groupSize,
    symmetric: fields.boolean(true, 'sym'),
    actOrder: ordered,
    zeroOffset: format === 'gptq_v2' ? 0 : 1,
    dynamic: readDynamic(fields),
  }
}

/**
 * GPTQModel's `dynamic`: the first rule whose pattern matches the beginning of the module's name counts. `-:pattern`
 * leaves modules unquantised, `+:pattern` or `pattern` overrides fields of the config.
 */
function dynamicRule(config: GptqConfig, module: string) {
  for (const [key, overrides] of Object.entries(config.dynamic)) {
    const where = `The quantisation config's dynamic rule ${quoted(key)}`
    if (Pattern.of(key.replace(/^[-+]:/, ''), where).matchesStart(module)) return { key, where, overrides }
  }
  return undefined
}

/** Whether a dynamic rule leaves the module unquantised. */
export function isLeftOut(config: GptqConfig, module: string): boolean {
  return dynamicRule(config, module)?.key.startsWith('-:') === true
}

/** The config with a module's dynamic rule applied. @throws BillfishError INVALID_CHECKPOINT */
export function forModule(config: GptqConfig, module: string): GptqConfig {
  const rule = dynamicRule(config, module)
  if (!rule || isLeftOut(config, module)) return config
  const fields = new ConfigFields(rule.where, rule.overrides)
  const bits = fields.integer('bits', 'w_bit')
  return {
    ...config,
    bits: bits === undefined ? config.bits : fields.bits(bits, BITS),
    groupSize: fields.groupSize() ?? config.groupSize,
    symmetric: fields.boolean(config.symmetric, 'sym'),
    actOrder: fields.boolean(config.actOrder, 'desc_act'),
  }
}

/** @throws BillfishError INVALID_CHECKPOINT where tensors are missing or contradict the config */
export function gptqLinear(table: TensorTable, base: GptqConfig, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  if (isLeftOut(base, name)) {
    throw invalidCheckpoint(
      `${dynamicRule(base, name)?.where} leaves ${name} unquantised, but ${name}.qweight exists; they contradict each other`,
    )
  }
  const { bits, groupSize: statedGroupSize, symmetric, actOrder, zeroOffset } = forModule(base, name)
  const codesAWord = 32 / bits
  const reason = `a ${bits}-bit GPTQ layer with ${out} outputs and ${inFeatures} inputs`
  if (inFeatures % codesAWord !== 0) {
    throw invalidCheckpoint(`${name} has ${inFeatures} inputs; ${bits}-bit GPTQ needs a multiple of ${codesAWord}`)
  }
  const codes = table.require(`${name}.qweight`, ['I32'])
  table.checkShape(codes, [inFeatures / codesAWord, out], reason)

  const scales = table.require(`${name}.scales`, FLOAT_TYPES)
  const groups = scales.shape[0] ?? 0
  table.checkShape(scales, [groups, out], reason)
  const groupSize = resolveGroupSize(table, scales, statedGroupSize, inFeatures, groups)

  const zeros = symmetric ? table.find(`${name}.qzeros`, ['I32']) : table.require(`${name}.qzeros`, ['I32'])
  if (zeros !== undefined) table.checkShape(zeros, [groups, Math.ceil(out / codesAWord)], reason)

  const groupIndex = table.find(`${name}.g_idx`, ['I32'])
  if (groupIndex !== undefined) table.checkShape(groupIndex, [inFeatures], reason)
  else if (actOrder && groupSize < inFeatures) {
    throw invalidCheckpoint(
      `${table.missing(`${name}.g_idx`)}, which act-order needs; if the checkpoint has natural order, add "desc_act": false to its quantisation config`,
    )
  }
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
    // Checkpoints exist that say v1 and hold v2 zeros: where the scheme is symmetric the zero is known without reading it.
    zeros: symmetric ? undefined : zeros,
    groupIndex,
    actOrder: groupIndex !== undefined && actOrder,
    bias,
  }
}
