import { writeSync } from 'node:fs'

/**
 * Writes all of `view` (a single write may take less than it is given: Linux stops at 2 GiB). Returns its bytes.
 * @param {number} file descriptor @param {NodeJS.ArrayBufferView} view
 */
export function writeAll(file, view) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written)
  return bytes.length
}
