/**
 * AWQ in the GEMM layout of AutoAWQ, 4 bits. K inputs, N outputs, G groups:
 *
 *     qweight  I32 [K, N/8]     row k, word c: columns 8c to 8c+7, interleaved
 *     qzeros   I32 [G, N/8]     same interleaving, stores the zero itself
 *     scales   F16 [G, N]
 *
 *     nibbles of a word, highest first:   column  7 5 3 1 6 4 2 0
 */
import { invalidCheckpoint, unsupportedFormat } from '../checkpoint/invalid'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import type { QuantizedSpec, TensorRef } from '../native/weights'
import type { ConfigFields } from './fields'
import type { LinearRequest } from './groups'
import { resolveGroupSize } from './groups'
import { configForModule } from './rules'
import { named } from './unsupported'

export type AwqConfig = Extract<QuantizationConfig, { method: 'awq' }>

/** `version` values that AutoAWQ stores in the GEMM layout; others are packed for the kernel they name. */
const GEMM_VERSIONS = ['gemm', 'exllama', 'exllamav2', 'ipex']
const OTHER_VERSIONS: Readonly<Record<string, string>> = {
  gemv_fast: 'AWQ GEMV_FAST',
  marlin: 'AWQ packed for Marlin',
  'llm-awq': 'AWQ of llm-awq',
}

/** @throws BillfishError INVALID_CHECKPOINT */
export function readAwqConfig(fields: ConfigFields): QuantizationConfig {
  const unsupported = (format: string) => ({ method: 'unsupported', format, where: fields.where }) as const
  const version = (fields.string('version', 'checkpoint_format', 'format') ?? 'gemm').toLowerCase()
  if (version !== 'gemv' && !GEMM_VERSIONS.includes(version)) {
    const known = Object.hasOwn(OTHER_VERSIONS, version) ? OTHER_VERSIONS[version] : undefined
    return unsupported(known ?? `AWQ with version ${named(version)}`)
  }
  const bits = fields.integer('bits', 'w_bit') ?? 4
  if (bits !== 4) return unsupported(`AWQ with ${bits} bits`)
  const zeroPoint = fields.boolean(!fields.boolean(false, 'sym'), 'zero_point')
  const layout = version === 'gemv' ? version : 'gemm'
  return { method: 'awq', layout, bits, groupSize: fields.groupSize(), zeroPoint, rules: [] }
}

/**
 * The stored zero points, which take precedence over zero_point; undefined if there are none.
 * @throws BillfishError INVALID_CHECKPOINT if they are missing or ambiguous
 */
export function awqZeros(table: TensorTable, config: AwqConfig, name: string): TensorRef | undefined {
  const zeros = config.zeroPoint ? table.require(`${name}.qzeros`, ['I32']) : table.find(`${name}.qzeros`, ['I32'])
  if (zeros === undefined || config.zeroPoint !== false || table.values.zeros.get(zeros.name) !== 0) return zeros
  throw invalidCheckpoint(
    `Tensor ${table.describe(zeros)} holds only zeros, but the quantization config says zero_point false: cannot tell whether the zero point is 0 or 8; ` +
      'quantize the model again with zero_point true',
  )
}

/**
 * Reads an AWQ linear in the GEMM layout.
 * @throws BillfishError INVALID_CHECKPOINT if tensors are missing or inconsistent; UNSUPPORTED_MODEL
 */
export function awqLinear(table: TensorTable, base: AwqConfig, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const config = configForModule(base, name)
  const reason = `an AWQ layer with ${out} outputs and ${inFeatures} inputs`
  if (out % 8 !== 0) throw invalidCheckpoint(`${name} has ${out} outputs; AWQ needs a multiple of 8`)
  const codes = table.require(`${name}.qweight`, ['I32'])
  const [rows = 0, columns = 0] = codes.shape
  const subject = `${name} is stored (tensor ${table.describe(codes)})`
  if (rows * 16 === inFeatures && columns === 2 * out) throw unsupportedFormat(subject, 'AWQ packed for Marlin')
  if (rows === inFeatures && columns * 4 === out) throw unsupportedFormat(subject, 'AWQ with 8 bits')
  table.checkShape(codes, [inFeatures, out / 8], reason)

  const scales = table.require(`${name}.scales`, FLOAT_TYPES)
  const groups = scales.shape[0] ?? 0
  table.checkShape(scales, [groups, out], reason)
  const groupSize = resolveGroupSize(table, scales, config.groupSize, inFeatures, groups)

  const zeros = awqZeros(table, config, name)
  if (zeros !== undefined) table.checkShape(zeros, [groups, out / 8], reason)
  return {
    kind: 'quantized',
    name,
    format: 'awq',
    bits: 4,
    out,
    in: inFeatures,
    groupSize,
    symmetric: zeros === undefined,
    zeroOffset: 0,
    codes,
    scales,
    zeros,
    bias,
  }
}
