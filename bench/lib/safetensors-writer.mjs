/**
 * A safetensors file, written tensor by tensor:
 *
 *     header length u64 | header JSON, padded with spaces to 8 bytes | tensor data, in the header's order
 */
import { closeSync, openSync, writeSync } from 'node:fs'

const ELEMENT_BYTES = { F32: 4, I32: 4, F16: 2, BF16: 2, F8_E4M3: 1, U8: 1 }

/** Bytes of a tensor `{ dtype, shape }`. */
export const tensorBytes = ({ dtype, shape }) =>
  shape.reduce((product, extent) => product * extent, ELEMENT_BYTES[dtype])

/** The file's beginning, up to the first tensor's data. */
export function safetensorsHeader(tensors) {
  const entries = { __metadata__: { format: 'pt' } }
  let offset = 0
  for (const tensor of tensors) {
    const end = offset + tensorBytes(tensor)
    entries[tensor.name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = Buffer.from(JSON.stringify(entries))
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  header.writeBigUInt64LE(BigInt(header.length - 8))
  json.copy(header, 8)
  return header
}

/**
 * Writes a file; calls `data()` of one tensor after the other, so that only one is in memory at a time.
 * @param {string} path
 * @param {{ name: string, dtype: string, shape: number[], data: () => NodeJS.ArrayBufferView }[]} tensors
 * @returns {number} bytes written
 */
export function writeSafetensors(path, tensors) {
  const file = openSync(path, 'w')
  try {
    let written = writeAll(file, safetensorsHeader(tensors))
    for (const tensor of tensors) {
      const data = tensor.data()
      if (data.byteLength !== tensorBytes(tensor)) {
        throw new Error(`${tensor.name}: ${data.byteLength} bytes of data for a tensor of ${tensorBytes(tensor)} bytes`)
      }
      written += writeAll(file, data)
    }
    return written
  } finally {
    closeSync(file)
  }
}

/**
 * Writes all of `view` (on Linux a single write stops at 2 GiB). Returns its bytes.
 * @param {number} file descriptor @param {NodeJS.ArrayBufferView} view
 */
export function writeAll(file, view) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written)
  return bytes.length
}
