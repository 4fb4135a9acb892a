/**
 * AutoRound: GPTQ or AWQ tensors with a config of its own. `packing_format` says which:
 *
 *     auto_round:auto_gptq      GPTQ, stores zero - 1 (v1); the default
 *     auto_round, :gptqmodel    GPTQ, stores the zero itself (v2)
 *     auto_round:auto_awq       AWQ GEMM
 *
 * There is no g_idx unless GPTQModel packed the weights: inputs are in natural order.
 */
import { quoted } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { ModuleRule, QuantizationConfig } from '../checkpoint/types'
import { ConfigFields } from './fields'
import { checkRuleCount, describeRule, readOverrides } from './rules'
import { named } from './unsupported'

const PACKINGS: Readonly<Record<string, 'v1' | 'v2' | 'awq'>> = {
  auto_gptq: 'v1',
  gptq: 'v1',
  auto_round: 'v2',
  gptqmodel: 'v2',
  exllamav2: 'v2',
  tritonv2: 'v2',
  auto_awq: 'awq',
  awq: 'awq',
}

/** `auto_round:auto_gptq` -> `auto_gptq`. Older versions use the key `backend` and append a kernel name. */
function packingOf(fields: ConfigFields): string {
  const given = fields.string('packing_format', 'backend') ?? 'auto'
  const format = given === 'auto' ? 'auto_round:auto_gptq' : given
  const [name = '', ...kernel] = format
    .toLowerCase()
    .replaceAll('-', '_')
    .replace(/^auto_?round:/, '')
    .split(':')
  return Object.hasOwn(PACKINGS, name) ? name : [name, ...kernel].join(':')
}

/**
 * Reads `extra_config`. Keys that equal the module name take precedence; the others are patterns searched anywhere in
 * it. 16 bits mean that a module is not quantized.
 */
function readExtraConfig(fields: ConfigFields): ModuleRule[] {
  const entries = Object.entries(fields.object('extra_config') ?? {})
  checkRuleCount(fields, 'extra_config', entries.length)
  const rules = entries.map(([pattern, value]) => {
    const where = describeRule('extra_config', pattern)
    if (!isObject(value)) throw fields.invalid(`extra_config ${quoted(pattern)}`, value, 'an object of overrides')
    const own = new ConfigFields(where, value)
    const skips = (own.integer('bits') ?? 0) >= 16
    return { pattern, action: skips ? ('skip' as const) : readOverrides(own), where }
  })
  return [
    ...rules.map((rule) => ({ ...rule, match: 'exact' as const })),
    ...rules.map((rule) => ({ ...rule, match: 'anywhere' as const })),
  ]
}

/** @throws BillfishError INVALID_CHECKPOINT */
export function readAutoRoundConfig(fields: ConfigFields): QuantizationConfig {
  const unsupported = (format: string) => ({ method: 'unsupported', format, where: fields.where }) as const
  const packing = packingOf(fields)
  const layout = Object.hasOwn(PACKINGS, packing) ? PACKINGS[packing] : undefined
  if (layout === undefined) return unsupported(`AutoRound with packing_format ${named(packing)}`)
  const type = fields.string('data_type') ?? 'int'
  if (!type.startsWith('int')) return unsupported(`AutoRound with data_type ${named(type)}`)
  const activations = fields.integer('act_bits') ?? 16
  const bits = fields.integer('bits') ?? 4
  if (activations < 16) return unsupported(`AutoRound with quantized activations (W${bits}A${activations})`)
  if (layout === 'awq' ? bits !== 4 : bits !== 4 && bits !== 8) return unsupported(`AutoRound with ${bits} bits`)
  const symmetric = fields.boolean(true, 'sym')
  const rules = readExtraConfig(fields)
  const groupSize = fields.groupSize()
  if (layout === 'awq') return { method: 'awq', layout: 'gemm', bits: 4, groupSize, zeroPoint: true, rules } // stored even if symmetric
  const head = rules.some(
    ({ pattern, match, action }) => match === 'exact' && pattern === 'lm_head' && action !== 'skip',
  )
  const zeroOffset = layout === 'v1' ? 1 : 0
  const groupIndex = packing === 'gptqmodel'
  return {
    method: 'gptq',
    bits: bits as 4 | 8,
    groupSize,
    symmetric,
    actOrder: false,
    zeroOffset,
    groupIndex,
    head,
    rules,
  }
}
