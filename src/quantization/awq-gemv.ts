/**
 * AWQ in the GEMV layout of AutoAWQ, 4 bits. K inputs, N outputs, Z words of zero points a row:
 *
 *     qweight  I32 [N, K/8]   row n, word c: inputs 8c to 8c+7, the first in the lowest bits
 *     qzeros   I32 [N, Z]     row n, word c: groups 8c to 8c+7, the first in the lowest bits
 *     scales   F16 [N, 8 Z]
 *
 * Z words hold more zero points than there are groups: its unit is 128 inputs a group (calculate_zeros_width() of AutoAWQ).
 */
import { invalidCheckpoint } from '../checkpoint/invalid'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import { ceilDiv, roundUp } from '../common/arithmetic'
import type { QuantizedSpec } from '../native/weights'
import { type AwqConfig, awqZeros } from './awq'
import type { LinearRequest } from './groups'
import { configForModule } from './rules'

/** AutoAWQ's default, for configs that do not say: the tensors' widths stand for several sizes. */
const DEFAULT_GROUP_SIZE = 128

/** Words of zero points a row. */
export function zeroWords(inFeatures: number, groupSize: number): number {
  const unit = groupSize >= 128 ? 1 : groupSize >= 64 ? 2 : 4
  return roundUp(ceilDiv(ceilDiv(inFeatures, groupSize), 8), unit)
}

/**
 * Reads an AWQ linear that isGemv() recognized.
 * @throws BillfishError INVALID_CHECKPOINT if tensors are missing or inconsistent
 */
export function awqGemvLinear(table: TensorTable, base: AwqConfig, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const config = configForModule(base, name)
  const stated = config.groupSize ?? DEFAULT_GROUP_SIZE
  const groupSize = stated > 0 ? Math.min(stated, inFeatures) : inFeatures
  const reason = `an AWQ GEMV layer with ${out} outputs and ${inFeatures} inputs in groups of ${groupSize}`
  if (inFeatures % 8 !== 0) throw invalidCheckpoint(`${name} has ${inFeatures} inputs; AWQ GEMV needs a multiple of 8`)
  const codes = table.require(`${name}.qweight`, ['I32'])
  table.checkShape(codes, [out, inFeatures / 8], reason)
  const width = zeroWords(inFeatures, groupSize)
  const scales = table.require(`${name}.scales`, FLOAT_TYPES)
  table.checkShape(scales, [out, 8 * width], reason)
  const zeros = awqZeros(table, config, name)
  if (zeros !== undefined) table.checkShape(zeros, [out, width], reason)
  return {
    kind: 'quantized',
    name,
    format: 'awq-gemv',
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
