/**
 * AWQ in AutoAWQ's GEMM layout, 4 bits. K inputs, N outputs, G groups:
 *
 *     qweight  I32 [K, N/8]     row k, word c: columns 8c to 8c+7, interleaved
 *     qzeros   I32 [G, N/8]     the same interleave, the zero itself
 *     scales   F16 [G, N]
 *
 *     a word's nibbles, highest first:   column  7 5 3 1 6 4 2 0
 */
import { invalidCheckpoint } from '../checkpoint/invalid'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import type { QuantizedSpec } from '../native/weights'
import type { ConfigFields } from './fields'
import { resolveGroupSize } from './groups'
import type { LinearRequest } from './linear'

type AwqConfig = Extract<QuantizationConfig, { method: 'awq' }>

/** @throws BillfishError INVALID_CHECKPOINT */
export function readAwqConfig(fields: ConfigFields): QuantizationConfig {
  const version = (fields.string('version', 'checkpoint_format', 'format') ?? 'gemm').toLowerCase()
  if (version !== 'gemm') throw fields.invalid('version', version, 'gemm')
  const bits = fields.integer('bits', 'w_bit') ?? 4
  if (bits !== 4) throw fields.invalid('bits', bits, '4 for AWQ')
  return { method: 'awq', bits, groupSize: fields.groupSize(), zeroPoint: fields.boolean(true, 'zero_point') }
}

/** @throws BillfishError INVALID_CHECKPOINT where tensors are missing or contradict the config */
export function awqLinear(table: TensorTable, config: AwqConfig, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const reason = `an AWQ layer with ${out} outputs and ${inFeatures} inputs`
  if (out % 8 !== 0) throw invalidCheckpoint(`${name} has ${out} outputs; AWQ needs a multiple of 8`)
  const codes = table.require(`${name}.qweight`, ['I32'])
  table.checkShape(codes, [inFeatures, out / 8], reason)

  const scales = table.require(`${name}.scales`, FLOAT_TYPES)
  const groups = scales.shape[0] ?? 0
  table.checkShape(scales, [groups, out], reason)
  const groupSize = resolveGroupSize(table, scales, config.groupSize, inFeatures, groups)

  const zeros = config.zeroPoint ? table.require(`${name}.qzeros`, ['I32']) : table.find(`${name}.qzeros`, ['I32'])
  if (zeros !== undefined) {
    if (!config.zeroPoint) {
      throw invalidCheckpoint(
        `Tensor ${table.describe(zeros)} holds zero points, but the quantisation config says zero_point false; correct the config`,
      )
    }
    table.checkShape(zeros, [groups, out / 8], reason)
  }
  return {
    kind: 'quantized',
    name,
    format: 'awq',
    bits: 4,
    out,
    in: inFeatures,
    groupSize,
    symmetric: !config.zeroPoint,
    zeroOffset: 0,
    codes,
    scales,
    zeros,
    bias,
  }
}
