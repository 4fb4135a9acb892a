/**
 * Quantizes weights by rounding to nearest, and gives their dequantized values: a reference for what an engine makes of the
 * stored tensors. The files in src/quantization describe the layouts.
 */

import type { StoredTensor } from './tensors'
import { halves, toHalf } from './tensors'

export interface Quantization {
  readonly format: 'gptq' | 'awq' | 'awq-gemv' | 'compressed-tensors' | 'fp8' | 'fp4'
  readonly bits: 4 | 8
  /** fp8: the side of a block; fp4: 16 is NVFP4, 32 is MXFP4. Infinity: all inputs. */
  readonly groupSize: number
  /** compressed-tensors: one scale and zero point for the whole weight; its groups have all inputs. */
  readonly oneScale?: boolean
  readonly symmetric: boolean
  /** compressed-tensors: one signed number a byte. */
  readonly unpacked?: boolean
  /** fp4: NVFP4 as ModelOpt writes it, not compressed-tensors. */
  readonly modelopt?: boolean
  /** gptq: the group of every input, in any order. */
  readonly groupIndex?: readonly number[]
}

/** A linear's weight, [out][in] in rows. */
export interface Weights {
  readonly out: number
  readonly in: number
  readonly values: Float64Array
}

/** The quantization_config of a checkpoint with linears quantized this way. */
export function quantizationConfig(
  { format, bits, groupSize, oneScale, symmetric, unpacked, modelopt }: Omit<Quantization, 'groupIndex'>,
  actOrder: boolean,
): object {
  switch (format) {
    case 'gptq':
      return { quant_method: format, bits, group_size: groupSize, sym: symmetric, desc_act: actOrder }
    case 'awq':
      return { quant_method: format, bits, group_size: groupSize, zero_point: !symmetric, version: 'gemm' }
    case 'awq-gemv':
      return { quant_method: 'awq', bits, group_size: groupSize, zero_point: !symmetric, version: 'gemv' }
    case 'fp8':
      return { quant_method: format, activation_scheme: 'dynamic', weight_block_size: [groupSize, groupSize] }
    case 'fp4': {
      if (modelopt) return { quant_method: 'modelopt', quant_algo: 'W4A16_NVFP4', ignore: [] }
      const weights = { num_bits: 4, group_size: groupSize, symmetric, type: 'float' }
      const kind = groupSize === 16 ? 'nvfp4' : 'mxfp4'
      const groups = { group_0: { targets: ['Linear'], weights } }
      return { quant_method: 'compressed-tensors', format: `${kind}-pack-quantized`, config_groups: groups }
    }
    case 'compressed-tensors': {
      const shares = oneScale ? { strategy: 'tensor' } : { strategy: 'group', group_size: groupSize }
      const weights = { num_bits: bits, symmetric, type: 'int', ...shares }
      const groups = { group_0: { targets: ['Linear'], weights } }
      return { quant_method: format, format: unpacked ? 'int-quantized' : 'pack-quantized', config_groups: groups }
    }
  }
}

/**
 * The tensors of the linear `name`, and the weight that they represent.
 * @param quantization its groupIndex, if any, has an entry for each of the linear's inputs
 */
export function quantize(
  name: string,
  { out, in: inputs, values }: Weights,
  quantization: Quantization,
): { tensors: Record<string, StoredTensor>; dequantized: Weights } {
  const { bits, groupSize, oneScale, symmetric, groupIndex } = quantization
  if (quantization.format === 'fp8') return quantizeFp8(name, { out, in: inputs, values }, groupSize)
  if (quantization.format === 'fp4') return quantizeFp4(name, { out, in: inputs, values }, quantization)
  const groupOf = (k: number) => groupIndex?.[k] ?? Math.floor(k / groupSize)
  const groups = Math.max(1, Math.ceil(inputs / groupSize))
  const least = values.reduce((a, b) => Math.min(a, b), 0)
  const greatest = values.reduce((a, b) => Math.max(a, b), 0)
  const most = 2 ** bits - 1
  const codes = new Uint8Array(out * inputs)
  const scales = new Float64Array(out * groups)
  const zeros = new Uint8Array(out * groups)
  const dequantized = new Float64Array(out * inputs)
  for (let n = 0; n < out; n++) {
    const [low, high] = [new Float64Array(groups), new Float64Array(groups)]
    for (let k = 0; k < inputs; k++) {
      const [g, value] = [groupOf(k), values[n * inputs + k] as number]
      low[g] = Math.min(low[g] as number, value)
      high[g] = Math.max(high[g] as number, value)
    }
    for (let g = 0; g < groups; g++) {
      const [from, to] = oneScale ? [least, greatest] : [low[g] as number, high[g] as number]
      const range = symmetric ? 2 * Math.max(-from, to) : to - from
      const scale = toHalf(range / most) || 1 // of nothing but zeros
      scales[n * groups + g] = scale
      zeros[n * groups + g] = symmetric ? 2 ** (bits - 1) : Math.round(-from / scale)
    }
    for (let k = 0; k < inputs; k++) {
      const at = n * groups + groupOf(k)
      const [scale, zero] = [scales[at] as number, zeros[at] as number]
      const code = Math.max(0, Math.min(most, Math.round((values[n * inputs + k] as number) / scale) + zero))
      codes[n * inputs + k] = code
      dequantized[n * inputs + k] = scale * (code - zero)
    }
  }
  const tensors = stored(name, { out, inputs, groups, codes, scales, zeros }, quantization)
  return { tensors, dequantized: { out, in: inputs, values: dequantized } }
}

/** Finite e4m3 numbers by their codes, without signs. */
const E4M3 = Float64Array.from({ length: 127 }, (_, code) => {
  const [exponent, mantissa] = [code >> 3, code & 7]
  return exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7)
})

/** The code of the nearest number of at most 448. */
function e4m3Of(value: number): number {
  const magnitude = Math.abs(value)
  let code = E4M3.findIndex((number) => number >= magnitude)
  if (code === -1) code = E4M3.length - 1
  const below = E4M3[code - 1]
  if (below !== undefined && magnitude - below < (E4M3[code] as number) - magnitude) code--
  return value < 0 ? code | 0x80 : code
}

/** In blocks of side x side, with scales in fp16. */
function quantizeFp8(name: string, { out, in: inputs, values }: Weights, side: number) {
  const columns = Math.ceil(inputs / side)
  const blockOf = (at: number) => Math.floor(at / inputs / side) * columns + Math.floor((at % inputs) / side)
  const largest = new Float64Array(Math.ceil(out / side) * columns)
  for (const [at, value] of values.entries()) {
    largest[blockOf(at)] = Math.max(largest[blockOf(at)] as number, Math.abs(value))
  }
  const scales = largest.map((value) => toHalf(value / 448) || 1)
  const scaleOf = (at: number) => scales[blockOf(at)] as number
  const codes = Uint8Array.from(values, (value, at) => e4m3Of(value / scaleOf(at)))
  const dequantized = Float64Array.from(codes, (code, at) => {
    return scaleOf(at) * (E4M3[code & 0x7f] as number) * (code > 0x7f ? -1 : 1)
  })
  const tensors: Record<string, StoredTensor> = {
    [`${name}.weight`]: { dtype: 'F8_E4M3', shape: [out, inputs], data: Buffer.from(codes.buffer) },
    [`${name}.weight_scale_inv`]: numbers(
      scales.length / columns,
      columns,
      (row, i) => scales[row * columns + i] as number,
    ),
  }
  return { tensors, dequantized: { out, in: inputs, values: dequantized } }
}

/** e2m1 numbers by their codes, without signs. */
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]

/** The code of the nearest number of at most 6. */
function e2m1Of(value: number): number {
  const away = E2M1.map((number) => Math.abs(number - Math.abs(value)))
  const code = away.indexOf(Math.min(...away))
  return value < 0 ? code | 8 : code
}

/** NVFP4 in groups of 16, with a scale for the whole tensor; MXFP4 in groups of 32. */
function quantizeFp4(
  name: string,
  { out, in: inputs, values }: Weights,
  { groupSize, modelopt = false }: Pick<Quantization, 'groupSize' | 'modelopt'>,
) {
  const groups = inputs / groupSize
  const groupOf = (at: number) => Math.floor(at / groupSize) // of all rows, one after the other
  const largest = new Float64Array(out * groups)
  for (const [at, value] of values.entries()) {
    largest[groupOf(at)] = Math.max(largest[groupOf(at)] as number, Math.abs(value))
  }
  const isNv = groupSize === 16
  // The largest scale is then e4m3's largest number.
  const multiplier = Math.fround((largest.reduce((most, value) => Math.max(most, value), 0) || 1) / (6 * 448))
  const stored = Math.fround(modelopt ? multiplier : 1 / multiplier)
  const global = modelopt ? stored : 1 / stored
  const scaleCodes = Uint8Array.from(largest, (value) => {
    if (isNv) return e4m3Of(value / 6 / global)
    return value === 0 ? 127 : 127 + Math.ceil(Math.log2(value / 6))
  })
  const scaleOf = (at: number) => {
    const code = scaleCodes[groupOf(at)] as number
    return isNv ? (E4M3[code] as number) * global : 2 ** (code - 127)
  }
  const codes = Uint8Array.from(values, (value, at) => (scaleOf(at) === 0 ? 0 : e2m1Of(value / scaleOf(at))))
  const dequantized = Float64Array.from(codes, (code, at) => {
    return scaleOf(at) * (E2M1[code & 7] as number) * (code & 8 ? -1 : 1)
  })
  const pairs = Uint8Array.from({ length: codes.length / 2 }, (_, i) => {
    return (codes[2 * i] as number) | ((codes[2 * i + 1] as number) << 4)
  })
  const tensors: Record<string, StoredTensor> = {
    [`${name}.${modelopt ? 'weight' : 'weight_packed'}`]: {
      dtype: 'U8',
      shape: [out, inputs / 2],
      data: Buffer.from(pairs.buffer),
    },
    [`${name}.weight_scale`]: {
      dtype: isNv ? 'F8_E4M3' : 'U8',
      shape: [out, groups],
      data: Buffer.from(scaleCodes.buffer),
    },
  }
  if (isNv) {
    tensors[`${name}.${modelopt ? 'weight_scale_2' : 'weight_global_scale'}`] = {
      dtype: 'F32',
      shape: modelopt ? [] : [1],
      data: Buffer.from(Float32Array.of(stored).buffer),
    }
  }
  return { tensors, dequantized: { out, in: inputs, values: dequantized } }
}

interface Codes {
  readonly out: number
  readonly inputs: number
  readonly groups: number
  /** [out][inputs], and [out][groups]. */
  readonly codes: Uint8Array
  readonly scales: Float64Array
  readonly zeros: Uint8Array
}

function stored(
  name: string,
  { out, inputs, groups, codes, scales, zeros }: Codes,
  { format, bits, groupSize, oneScale, symmetric, groupIndex, unpacked }: Quantization,
): Record<string, StoredTensor> {
  const code = (n: number, k: number) => codes[n * inputs + k] as number
  const zero = (n: number, g: number) => zeros[n * groups + g] as number
  const scale = (n: number, g: number) => scales[n * groups + g] as number
  const perWord = 32 / bits
  switch (format) {
    case 'gptq':
      return {
        [`${name}.qweight`]: words(inputs / perWord, out, bits, (word, n, i) => code(n, word * perWord + i)),
        [`${name}.qzeros`]: words(groups, out / perWord, bits, (g, word, i) => zero(word * perWord + i, g) - 1),
        [`${name}.scales`]: numbers(groups, out, (g, n) => scale(n, g)),
        [`${name}.g_idx`]: integers(groupIndex ?? Array.from({ length: inputs }, (_, k) => Math.floor(k / groupSize))),
      }
    case 'awq': {
      const column = [0, 2, 4, 6, 1, 3, 5, 7] // of each nibble, from the lowest
      return {
        [`${name}.qweight`]: words(inputs, out / 8, 4, (k, word, i) => code(word * 8 + (column[i] as number), k)),
        [`${name}.qzeros`]: words(groups, out / 8, 4, (g, word, i) => zero(word * 8 + (column[i] as number), g)),
        [`${name}.scales`]: numbers(groups, out, (g, n) => scale(n, g)),
      }
    }
    case 'awq-gemv': {
      const unit = groupSize >= 128 ? 1 : groupSize >= 64 ? 2 : 4 // calculate_zeros_width() of AutoAWQ
      const width = Math.ceil(Math.ceil(groups / 8) / unit) * unit
      const ifGroup = (g: number, value: (g: number) => number) => (g < groups ? value(g) : 0)
      return {
        [`${name}.qweight`]: words(out, inputs / 8, 4, (n, word, i) => code(n, word * 8 + i)),
        [`${name}.qzeros`]: words(out, width, 4, (n, word, i) => ifGroup(word * 8 + i, (g) => zero(n, g))),
        [`${name}.scales`]: numbers(out, width * 8, (n, at) => ifGroup(at, (g) => scale(n, g))),
      }
    }
    case 'fp8':
    case 'fp4':
      return {} // quantizeFp8, quantizeFp4
    case 'compressed-tensors': {
      const signed = (n: number, g: number) => zero(n, g) - 2 ** (bits - 1)
      const zeros = oneScale
        ? { ...bytes(1, 1, signed), shape: [1] }
        : unpacked
          ? bytes(out, groups, signed)
          : words(out / perWord, groups, bits, (word, g, i) => zero(word * perWord + i, g))
      const shared = {
        [`${name}.weight_scale`]: oneScale ? { ...numbers(1, 1, scale), shape: [1] } : numbers(out, groups, scale),
        ...(symmetric ? {} : { [`${name}.weight_zero_point`]: zeros }),
      }
      if (unpacked) {
        return { [`${name}.weight`]: bytes(out, inputs, (n, k) => code(n, k) - 2 ** (bits - 1)), ...shared }
      }
      return {
        [`${name}.weight_packed`]: words(out, inputs / perWord, bits, (n, word, i) => code(n, word * perWord + i)),
        [`${name}.weight_shape`]: integers([out, inputs]),
        ...shared,
      }
    }
  }
}

/** I32 [rows, columns] with 32 / bits codes per word, the first in the lowest bits. */
function words(
  rows: number,
  columns: number,
  bits: number,
  code: (row: number, column: number, i: number) => number,
): StoredTensor {
  const all = new Uint32Array(rows * columns)
  const mask = 2 ** bits - 1
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let word = 0
      for (let i = 0; i < 32 / bits; i++) word |= (code(row, column, i) & mask) << (i * bits)
      all[row * columns + column] = word
    }
  }
  return { dtype: 'I32', shape: [rows, columns], data: Buffer.from(all.buffer) }
}

function numbers(rows: number, columns: number, value: (row: number, column: number) => number): StoredTensor {
  const all = Array.from({ length: rows * columns }, (_, i) => value(Math.floor(i / columns), i % columns))
  return { dtype: 'F16', shape: [rows, columns], data: halves(all) }
}

function bytes(rows: number, columns: number, value: (row: number, column: number) => number): StoredTensor {
  const all = Int8Array.from({ length: rows * columns }, (_, i) => value(Math.floor(i / columns), i % columns))
  return { dtype: 'I8', shape: [rows, columns], data: Buffer.from(all.buffer) }
}

function integers(values: readonly number[]): StoredTensor {
  return { dtype: 'I32', shape: [values.length], data: Buffer.from(Int32Array.from(values).buffer) }
}
