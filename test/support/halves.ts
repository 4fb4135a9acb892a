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
