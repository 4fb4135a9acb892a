/** Code points, or bytes, from `low` to `high`. */
export interface Range {
  readonly low: number
  readonly high: number
}

const MAX_CODE_POINT = 0x10ffff
const SURROGATES: Range = { low: 0xd800, high: 0xdfff }
/** The highest code points of one, two and three bytes. */
const LENGTH_LIMITS = [0x7f, 0x7ff, 0xffff]

/** The ranges sorted, without overlaps and without surrogates, which have no UTF-8. */
export function codePointRanges(ranges: readonly Range[]): Range[] {
  const merged: { low: number; high: number }[] = []
  for (const { low, high } of [...ranges].sort((a, b) => a.low - b.low)) {
    const last = merged[merged.length - 1]
    if (last && low <= last.high + 1) last.high = Math.max(last.high, high)
    else merged.push({ low, high })
  }
  return merged.flatMap(({ low, high }) =>
    [
      { low, high: Math.min(high, SURROGATES.low - 1) },
      { low: Math.max(low, SURROGATES.high + 1), high },
    ].filter((part) => part.low <= part.high),
  )
}

/** All code points but those in `ranges`. */
export function complement(ranges: readonly Range[]): Range[] {
  const others: Range[] = []
  let next = 0
  for (const { low, high } of codePointRanges([...ranges, SURROGATES])) {
    if (next < low) others.push({ low: next, high: low - 1 })
    next = high + 1
  }
  if (next <= MAX_CODE_POINT) others.push({ low: next, high: MAX_CODE_POINT })
  return codePointRanges(others)
}

/** The code points that are in both. */
export function intersection(a: readonly Range[], b: readonly Range[]): Range[] {
  return complement([...complement(a), ...complement(b)])
}

/** The UTF-8 of a range as sequences of byte ranges: a text is in the range if its bytes are in those of a sequence. */
export function utf8Sequences({ low, high }: Range): Range[][] {
  for (const limit of LENGTH_LIMITS) {
    if (low <= limit && limit < high) {
      return [...utf8Sequences({ low, high: limit }), ...utf8Sequences({ low: limit + 1, high })]
    }
  }
  if (high <= (LENGTH_LIMITS[0] as number)) return [[{ low, high }]]
  // Split until, from the first byte that differs on, all values of the following bytes are in the range.
  for (let bits = 6; bits <= 18; bits += 6) {
    const mask = (1 << bits) - 1
    if ((low & ~mask) === (high & ~mask)) continue
    if ((low & mask) !== 0) {
      return [...utf8Sequences({ low, high: low | mask }), ...utf8Sequences({ low: (low | mask) + 1, high })]
    }
    if ((high & mask) !== mask) {
      return [...utf8Sequences({ low, high: (high & ~mask) - 1 }), ...utf8Sequences({ low: high & ~mask, high })]
    }
  }
  const [lowest, highest] = [Buffer.from(String.fromCodePoint(low)), Buffer.from(String.fromCodePoint(high))]
  return [[...lowest].map((byte, i) => ({ low: byte, high: highest[i] as number }))]
}
