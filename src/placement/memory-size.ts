import { z } from 'zod'
import { BillfishError } from '../common/errors'
import { printed } from '../options/printed'

/** Bytes, or a number with a unit such as `'38GiB'`, `'20GB'`, `'500MiB'`, `'1.5 GiB'`. */
export type MemorySize = number | string

const FORMS =
  "bytes as a number of 0 or more, or a string such as '38GiB', '20GB' or '500MiB' (units KB, MB, GB, KiB, MiB, GiB)"

/** Option schema for a memory size. @param unlimited whether Infinity is allowed */
export const memorySize = ({ unlimited = false } = {}) =>
  z
    .custom<MemorySize>((value) => (unlimited && value === Number.POSITIVE_INFINITY) || bytesOf(value) !== undefined)
    .describe(FORMS)

const UNIT_BYTES: Readonly<Record<string, number>> = {
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
}

/**
 * Parses a memory size, as Hugging Face's `max_memory` does: GB is 10^9 bytes and GiB is 2^30. Fractions are rounded
 * down to whole bytes. Case is ignored, except that a lower-case b in a decimal unit means bits: `'8Gb'` is `'1GB'`.
 * @param size bytes, or a string with a unit: KB, MB, GB, KiB, MiB or GiB
 * @param option name of the option, for error messages
 * @returns bytes
 * @throws BillfishError INVALID_OPTION for a negative or non-finite number, or any other string
 */
export function parseMemorySize(size: MemorySize, option = 'memory size'): number {
  const bytes = bytesOf(size)
  if (bytes === undefined) throw invalid(option, size)
  return bytes
}

function bytesOf(size: unknown): number | undefined {
  if (typeof size === 'number') return Number.isFinite(size) && size >= 0 ? size : undefined
  const parts = typeof size === 'string' ? /^\s*([\d.]+(?:e[+-]?\d+)?)\s*([kmg]i?)(b)\s*$/i.exec(size) : null
  const [, digits = '', prefix = '', letter] = parts ?? []
  const bytes = Math.floor(Number(digits) * (UNIT_BYTES[`${prefix}B`.toUpperCase()] ?? Number.NaN))
  if (digits === '' || !Number.isFinite(bytes)) return undefined
  const inBits = letter === 'b' && prefix.length === 1
  return inBits ? Math.floor(bytes / 8) : bytes
}

function invalid(option: unknown, size: unknown): BillfishError {
  const where = typeof option === 'string' ? option : printed(option)
  return new BillfishError('INVALID_OPTION', `${where}: ${printed(size)} is not a memory size; give ${FORMS}.`)
}
