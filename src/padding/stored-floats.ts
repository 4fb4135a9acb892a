/** Stored floating-point numbers as fp32, which holds every one of them exactly. */
import type { TensorType } from '../native/weights'

let halves: Float32Array | undefined

/** The value of all 65536 fp16 numbers. */
function halfTable(): Float32Array {
  if (halves) return halves
  halves = Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1
    const exponent = (bits >> 10) & 31
    const fraction = bits & 1023
    if (exponent === 0) return sign * fraction * 2 ** -24
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
  })
  return halves
}

/**
 * @param bytes - little-endian, at an offset that is a multiple of the element's size
 * @param target - takes the numbers from its beginning; one of their number is made where there is none
 */
export function floatsOf(bytes: Uint8Array, type: TensorType, target?: Float32Array<ArrayBuffer>): Float32Array {
  if (type === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const stored = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2)
  const floats = target ?? new Float32Array(stored.length)
  if (type === 'BF16') {
    const bits = new Uint32Array(floats.buffer)
    for (let i = 0; i < stored.length; i++) bits[i] = (stored[i] as number) << 16
  } else {
    const table = halfTable()
    for (let i = 0; i < stored.length; i++) floats[i] = table[stored[i] as number] as number
  }
  return floats.subarray(0, stored.length)
}
