/**
 * FP8: weights that are 8-bit floats (e4m3), N outputs, K inputs, with scales that multiply them:
 *
 *     weight            F8_E4M3 [N, K]
 *     weight_scale_inv  [ceil(N/R), ceil(K/C)]   one for R x C weights: fewer at the edges
 *                       [N, 1] or [N]            one for each output
 *                       [1] or a scalar          one for all
 *
 * `quant_method: fp8` (the -FP8 releases of Qwen) has blocks of 128 x 128, or one scale for all. compressed-tensors' formats
 * float-quantized and naive-quantized have any of the three, and call the scales `weight_scale`, as some writers of the first
 * do. The tensors decide which; only the sides of a block come from the config. Scales of activations (`input_scale`,
 * `activation_scale`) and of the KV cache are not read: activations stay in floating point.
 */
import { invalidCheckpoint } from '../checkpoint/invalid'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig, ScaleBlock } from '../checkpoint/types'
import { ceilDiv } from '../common/arithmetic'
import type { QuantizedSpec, TensorRef } from '../native/weights'
import { schemeByName } from './compressed-tensors'
import type { ConfigFields } from './fields'
import type { LinearRequest } from './groups'
import { blockOf } from './scale-block'
import { named } from './unsupported'

const DEFAULT_BLOCK: ScaleBlock = { rows: 128, groupSize: 128 }

/** @throws BillfishError INVALID_CHECKPOINT */
export function readFp8Config(fields: ConfigFields): QuantizationConfig {
  const type = fields.string('fmt') ?? 'e4m3'
  if (type !== 'e4m3') return { method: 'unsupported', format: `FP8 ${named(type)}`, where: fields.where }
  const skipped = fields.get('modules_to_not_convert', 'ignored_layers') ?? []
  if (!Array.isArray(skipped) || !skipped.every((name) => typeof name === 'string')) {
    throw fields.invalid('modules_to_not_convert', skipped, 'a list of module names')
  }
  const quantizesActivations = fields.get('activation_scheme') !== undefined
  return { method: 'fp8', block: readBlock(fields), skipped, quantizesActivations }
}

function readBlock(fields: ConfigFields): ScaleBlock | undefined {
  const sides = fields.get('weight_block_size')
  return sides === undefined ? undefined : blockOf(fields, 'weight_block_size', sides)
}

/** Whether `quant_method: fp8` leaves a module out: lists have whole names, their ends, and what contains modules. */
export function isLeftOut({ skipped }: { readonly skipped: readonly string[] }, module: string): boolean {
  return skipped.some((name) => module === name || module.startsWith(`${name}.`) || module.endsWith(`.${name}`))
}

/** Reads an FP8 linear. @throws BillfishError INVALID_CHECKPOINT if tensors are missing or inconsistent */
export function fp8Linear(table: TensorTable, config: QuantizationConfig, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  const codes = table.require(`${name}.weight`, ['F8_E4M3'])
  table.checkShape(codes, [out, inFeatures], `an FP8 layer with ${out} outputs and ${inFeatures} inputs`)
  const stored = ['weight_scale_inv', 'weight_scale'].map((scale) => `${name}.${scale}`)
  const scales = table.require(stored.find((scale) => table.has(scale)) ?? (stored[0] as string), FLOAT_TYPES)
  const block = statedBlock(config, name)
  const { rows, groupSize } = scaleGrid(table, scales, block, out, inFeatures)
  return {
    kind: 'quantized',
    name,
    format: 'fp8',
    bits: 8,
    out,
    in: inFeatures,
    groupSize,
    scaleRows: rows,
    symmetric: true,
    zeroOffset: 0,
    codes,
    scales: { ...scales, shape: [ceilDiv(out, rows), ceilDiv(inFeatures, groupSize)] },
    bias,
  }
}

/** The weights that share a scale, from the shape of the scales. */
function scaleGrid(
  table: TensorTable,
  scales: TensorRef,
  block: ScaleBlock,
  out: number,
  inFeatures: number,
): ScaleBlock {
  const [rows, columns = 1] = scales.shape
  const isMatrix = scales.shape.length <= 2
  const groupSize = Math.min(block.groupSize, inFeatures)
  const isOfBlocks = rows === ceilDiv(out, block.rows) && columns === ceilDiv(inFeatures, groupSize)
  if (isMatrix && isOfBlocks) return { rows: Math.min(block.rows, out), groupSize }
  if (scales.shape.every((length) => length === 1)) return { rows: out, groupSize: inFeatures }
  if (isMatrix && rows === out && columns === 1) return { rows: 1, groupSize: inFeatures }
  throw invalidCheckpoint(
    `Tensor ${table.describe(scales)} does not have the scales of an FP8 layer with ${out} outputs and ${inFeatures} inputs: ` +
      `[${ceilDiv(out, block.rows)}, ${ceilDiv(inFeatures, groupSize)}] of blocks of ${block.rows} x ${block.groupSize}, ` +
      `[${out}, 1] of outputs, or [1]; correct weight_block_size (block_structure) in the config, or download the checkpoint again`,
  )
}

/** The sides of a block, for scales that turn out to be those of blocks, and whether the config states them. */
export function statedBlock(config: QuantizationConfig, module: string): ScaleBlock & { readonly isStated: boolean } {
  const stated = config.method === 'fp8' ? config.block : floatsOf(config, module)
  const isStated = stated !== undefined && stated.groupSize > 0
  return { ...(isStated ? stated : DEFAULT_BLOCK), isStated }
}

function floatsOf(config: QuantizationConfig, module: string): ScaleBlock | undefined {
  if (config.method !== 'compressed-tensors') return undefined
  return schemeByName(config, module)?.floats ?? config.groups.find(({ floats }) => floats !== undefined)?.floats
}
