/** Tensors of safetensors files, and 16-bit floats. */
import { readFileSync } from 'node:fs'

export interface StoredTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Buffer
}

/** A tensor to write. */
export interface TensorContents {
  readonly dtype: string
  readonly shape: readonly number[]
  /** Zeros if left out. */
  readonly data?: Uint8Array
  /** Replaces the offsets of tensors that lie one after another. */
  readonly data_offsets?: readonly unknown[]
}

const BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  I16: 2,
  BF16: 2,
  U8: 1,
  I8: 1,
  BOOL: 1,
}

/** All tensors of a small safetensors file. */
export function readSafetensors(path: string): Map<string, StoredTensor> {
  const file = readFileSync(path)
  const dataStart = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, dataStart)) as Record<string, never>
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, { dtype, shape, data_offsets }]: [string, Record<string, never>]) => {
        const [begin, end] = data_offsets as unknown as [number, number]
        return [
          name,
          { dtype, shape, data: file.subarray(dataStart + begin, dataStart + end) } as unknown as StoredTensor,
        ]
      }),
  )
}

/** A safetensors file from the text of its header and the number of bytes behind it (all zero). */
export function rawSafetensors(header: string, dataBytes: number, headerBytes = Buffer.byteLength(header)): Buffer {
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(headerBytes))
  return Buffer.concat([prefix, Buffer.from(header), Buffer.alloc(dataBytes)])
}

/** The bytes of a safetensors file. */
export function safetensors(
  tensors: Readonly<Record<string, TensorContents>>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Buffer {
  let end = 0
  const contents: { begin: number; data: Uint8Array }[] = []
  const entries = Object.entries(tensors).map(([name, { data, ...tensor }]) => {
    const begin = end
    end += data?.length ?? tensor.shape.reduce((product, dimension) => product * dimension, BYTES[tensor.dtype] ?? 1)
    if (data) contents.push({ begin, data })
    return [name, { data_offsets: [begin, end], ...tensor }]
  })
  const file = rawSafetensors(JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }), end)
  for (const { begin, data } of contents) file.set(data, file.length - end + begin)
  return file
}

/** An I32 tensor. */
export function words(shape: readonly number[], word: (index: number) => number): TensorContents {
  const values = Int32Array.from({ length: shape.reduce((product, dimension) => product * dimension, 1) }, (_, i) =>
    word(i),
  )
  return { dtype: 'I32', shape, data: new Uint8Array(values.buffer) }
}

/** The fp16 bits of a number, rounded to nearest, ties to even. */
export function halfBits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.abs(value)
  if (Number.isNaN(size)) return 0x7e00
  if (size >= 65520) return sign | 0x7c00
  const exponent = Math.max(Math.floor(Math.log2(size || 2 ** -24)), -14)
  const units = size / 2 ** (exponent - 10) // of the last bit: whole numbers are fp16
  const floor = Math.floor(units)
  const rest = units - floor
  const rounded = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0)
  // Subnormal numbers have an exponent of -14 and no leading one; a fraction that overflows carries into the exponent.
  return sign | ((exponent + 14) * 1024 + rounded)
}

/** Numbers as fp16, little-endian. */
export function halves(values: ArrayLike<number>): Buffer {
  return Buffer.from(Uint16Array.from(values, halfBits).buffer)
}

/** The number that fp16 bits stand for; none of infinity or NaN. */
export function halfValue(bits: number): number {
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return bits & 0x8000 ? -size : size
}

/** The nearest fp16 number. */
export function toHalf(value: number): number {
  return halfValue(halfBits(value))
}

/** The numbers of little-endian fp32, fp16 or bf16, which fp32 holds exactly. */
export function floatsOf({ dtype, data }: { readonly dtype: string; readonly data: Uint8Array }): Float32Array {
  const bytes = Uint8Array.from(data)
  if (dtype === 'F32') return new Float32Array(bytes.buffer)
  const stored = new Uint16Array(bytes.buffer)
  if (dtype === 'BF16') return new Float32Array(Uint32Array.from(stored, (bits) => bits << 16).buffer)
  return Float32Array.from(stored, halfValue)
}
