/** Codes of a word's channels on their way to other places: what {@link CodeRowsPart} and {@link CodeStackPart} consist of. */
import { type ChannelRun, ZEROS } from '../quantization/padding'
import type { CodeStackPart, Packing } from './parts'

/**
 * Moves the codes of one row to their places in `target`.
 *
 * @param fill - zero channels get the code that this word has in their place
 */
export function placeCodes(
  source: Int32Array,
  target: Int32Array,
  runs: readonly ChannelRun[],
  { bits, places }: Packing,
  fill: number,
): void {
  const mask = 2 ** bits - 1
  const codesAWord = places.length
  let at = 0
  for (const { start, count } of runs) {
    const isZeros = start === ZEROS
    const isAligned = at % codesAWord === 0 && (isZeros || start % codesAWord === 0)
    const words = isAligned ? Math.floor(count / codesAWord) : 0
    if (isZeros) target.fill(fill, at / codesAWord, at / codesAWord + words)
    else if (words > 0) {
      const first = start / codesAWord
      target.set(source.subarray(first, first + words), at / codesAWord)
    }
    for (let i = words * codesAWord; i < count; i++) {
      const word = Math.floor((at + i) / codesAWord)
      const shift = (places[(at + i) % codesAWord] as number) * bits
      const from = start + i
      const code = isZeros
        ? fill >>> shift
        : (source[Math.floor(from / codesAWord)] as number) >>> ((places[from % codesAWord] as number) * bits)
      target[word] = ((target[word] as number) & ~(mask << shift)) | ((code & mask) << shift)
    }
    at += count
  }
}

/** Rows of the source that some rows of a stack need: [first, end), which may be empty. */
export function sourceRows(
  { bits, channels }: CodeStackPart,
  row: number,
  rows: number,
): { first: number; end: number } {
  const codesAWord = 32 / bits
  const own = channels.subarray(row * codesAWord, (row + rows) * codesAWord).filter((channel) => channel !== ZEROS)
  if (own.length === 0) return { first: 0, end: 0 }
  return {
    first: Math.floor((own[0] as number) / codesAWord),
    end: Math.floor((own.at(-1) as number) / codesAWord) + 1,
  }
}

/**
 * Makes row `row` of a stack.
 *
 * @param source - its rows from `first` on
 */
export function stackRow(
  { bits, channels, columns, fill }: CodeStackPart,
  row: number,
  source: Int32Array,
  first: number,
  target: Int32Array,
): void {
  const codesAWord = 32 / bits
  const mask = bits === 32 ? -1 : 2 ** bits - 1
  target.fill(0, 0, columns)
  for (let place = 0; place < codesAWord; place++) {
    const channel = channels[row * codesAWord + place] as number
    const shift = place * bits
    const line = (Math.floor(channel / codesAWord) - first) * columns
    const shiftThere = (channel % codesAWord) * bits
    for (let n = 0; n < columns; n++) {
      const code =
        channel === ZEROS
          ? (typeof fill === 'number' ? fill : (fill[n] as number)) >>> shift
          : (source[line + n] as number) >>> shiftThere
      target[n] = (target[n] as number) | ((code & mask) << shift)
    }
  }
}
