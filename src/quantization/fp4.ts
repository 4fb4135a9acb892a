/**
 * FP4: weights that are 4-bit floats (e2m1), N outputs, K inputs. The low three bits of a code are its magnitude, of 0, 0.5,
 * 1, 1.5, 2, 3, 4 and 6; the high bit is its sign. Byte b of a row has input 2b in its low four bits, and 2b + 1 in its high
 * ones. NVFP4 of compressed-tensors has groups of 16 inputs, and one more scale for the whole tensor:
 *
 *     weight_packed        U8 [N, K/2]
 *     weight_scale         F8_E4M3 [N, K/16]
 *     weight_global_scale  F32 [1]             weight = e2m1(code) * (weight_scale / weight_global_scale)
 *
 * ModelOpt has other names for the same, and a scale that multiplies:
 *
 *     weight               U8 [N, K/2]
 *     weight_scale         F8_E4M3 [N, K/16]
 *     weight_scale_2       F32, a scalar       weight = e2m1(code) * (weight_scale * weight_scale_2)
 *
 * MXFP4 of compressed-tensors has groups of 32 inputs, whose scales are powers of two:
 *
 *     weight_packed        U8 [N, K/2]
 *     weight_scale         U8 or F8_E8M0 [N, K/32]   e8m0: weight = e2m1(code) * 2^(weight_scale - 127)
 *
 * Names and types decide which it is, whatever the config says. Scales of activations (`input_global_scale`, `input_scale`)
 * and of the KV cache are not read: activations stay in floating point.
 */
import { invalidCheckpoint, quoted, unsupportedFormat } from '../checkpoint/invalid'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { Fp4Kind, QuantizationConfig } from '../checkpoint/types'
import type { QuantizedSpec, TensorRef } from '../native/weights'
import type { LinearRequest } from './groups'

/** Inputs that share a scale. */
export const FP4_GROUPS: Readonly<Record<Fp4Kind, number>> = { NVFP4: 16, MXFP4: 32 }

/** Who wrote the tensors, which says what they are called. */
export type Fp4Writer = 'compressed-tensors' | 'modelopt'

/** How a module's 4-bit floats are stored. */
export interface Fp4Layout {
  readonly kind: Fp4Kind
  readonly writer: Fp4Writer
}

/** The layout of a module with 4-bit floats; undefined of any other. */
export function fp4Layout(table: TensorTable, module: string): Fp4Layout | undefined {
  const typeOf = (name: string) => table.tensors.get(`${module}.${name}`)?.dtype
  if (typeOf('weight_packed') === 'U8') {
    const isNv = table.has(`${module}.weight_global_scale`) || typeOf('weight_scale') === 'F8_E4M3'
    return { kind: isNv ? 'NVFP4' : 'MXFP4', writer: 'compressed-tensors' }
  }
  if (typeOf('weight') !== 'U8') return undefined
  const isNv = table.has(`${module}.weight_scale_2`) || typeOf('weight_scale') === 'F8_E4M3'
  return isNv ? { kind: 'NVFP4', writer: 'modelopt' } : undefined
}

/** Whether a module has 4-bit floats. */
export function isFp4(table: TensorTable, module: string): boolean {
  return fp4Layout(table, module) !== undefined
}

type CompressedGroup = Extract<QuantizationConfig, { method: 'compressed-tensors' }>['groups'][number]

/** A config group of 4-bit floats. */
export function fp4Scheme(
  fp4: Fp4Kind,
  targets: readonly string[],
  quantizesActivations: boolean,
): CompressedGroup & { readonly fp4: Fp4Kind } {
  const groupSize = FP4_GROUPS[fp4]
  return { targets, bits: 4, groupSize, symmetric: true, actOrder: false, packed: true, fp4, quantizesActivations }
}

/** @throws BillfishError INVALID_CHECKPOINT for inputs that do not fill whole groups */
export function checkFp4Inputs(kind: Fp4Kind, module: string, inFeatures: number): void {
  const group = FP4_GROUPS[kind]
  if (inFeatures % group === 0) return
  throw invalidCheckpoint(
    `${quoted(module)} has ${inFeatures} inputs, but ${kind} has groups of ${group}, which must be whole; correct the sizes in ` +
      'the config, or use the 16-bit model',
  )
}

/** The names of a module's tensors. */
export function fp4Names(module: string, writer: Fp4Writer): { codes: string; scales: string; globalScale: string } {
  const [codes, globalScale] =
    writer === 'modelopt' ? ['weight', 'weight_scale_2'] : ['weight_packed', 'weight_global_scale']
  return { codes: `${module}.${codes}`, scales: `${module}.weight_scale`, globalScale: `${module}.${globalScale}` }
}

/**
 * Reads an FP4 linear.
 *
 * @throws BillfishError INVALID_CHECKPOINT if tensors are missing or inconsistent; UNSUPPORTED_MODEL for activation order
 */
export function fp4Linear(table: TensorTable, { kind, writer }: Fp4Layout, request: LinearRequest): QuantizedSpec {
  const { name, out, in: inFeatures, bias } = request
  checkFp4Inputs(kind, name, inFeatures)
  const groupSize = FP4_GROUPS[kind]
  const names = fp4Names(name, writer)
  const reason = `an ${kind} layer with ${out} outputs and ${inFeatures} inputs`
  const codes = table.require(names.codes, ['U8'])
  table.checkShape(codes, [out, inFeatures / 2], reason)
  const scales = table.require(names.scales, kind === 'NVFP4' ? ['F8_E4M3'] : ['U8', 'F8_E8M0'])
  table.checkShape(scales, [out, inFeatures / groupSize], reason)
  const globalScale = kind === 'NVFP4' ? requireGlobalScale(table, names.globalScale) : undefined
  if (table.has(`${name}.weight_g_idx`)) {
    throw unsupportedFormat(`${quoted(name)} is stored`, `${kind} with activation order (weight_g_idx)`)
  }
  return {
    kind: 'quantized',
    name,
    format: 'fp4',
    bits: 4,
    out,
    in: inFeatures,
    groupSize,
    symmetric: true,
    zeroOffset: 0,
    codes,
    scales,
    globalScale,
    globalScaleDivides: globalScale && writer === 'compressed-tensors',
    bias,
  }
}

function requireGlobalScale(table: TensorTable, name: string): TensorRef {
  const scale = table.require(name, FLOAT_TYPES)
  const { shape } = scale
  if (shape.length === 0 || (shape.length === 1 && shape[0] === 1)) return scale
  throw invalidCheckpoint(
    `Tensor ${table.describe(scale)} must be one number for the whole layer, of shape [1] or []; download the checkpoint again`,
  )
}
