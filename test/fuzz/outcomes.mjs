/** Counts what became of a fuzzer's cases, by kind, and knows which took longest. */
export class Outcomes {
  #counts = new Map()
  slowest = { milliseconds: 0, number: -1 }

  /** @param kind such as `rendered`, or what {@link kindOfRefusal} says */
  add(kind, number, milliseconds) {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    if (milliseconds > this.slowest.milliseconds) this.slowest = { milliseconds, number }
  }

  /** Cases whose kind is that, or of a code that begins with it. */
  of(start) {
    return [...this.#counts].reduce((sum, [kind, count]) => sum + (kind.startsWith(start) ? count : 0), 0)
  }

  get total() {
    return this.of('')
  }

  /** A line for each of the most frequent kinds. */
  table(lines = 40) {
    const sorted = [...this.#counts].sort((a, b) => b[1] - a[1])
    const rows = sorted.slice(0, lines).map(([kind, count]) => `${share(count, this.total)}  ${kind}`)
    const rest = sorted.slice(lines).reduce((sum, [, count]) => sum + count, 0)
    if (rest > 0) rows.push(`${share(rest, this.total)}  ${sorted.length - lines} other kinds`)
    return rows.join('\n')
  }
}

function share(count, total) {
  return `${String(count).padStart(9)} ${((100 * count) / total).toFixed(2).padStart(6)} %`
}

const LONGEST_KIND = 70

/**
 * The kind of a BillfishError: its code, and its message without paths, numbers and what it quotes.
 * @param codes the refusals that are right here
 * @throws the error itself, if it is anything else
 */
export function kindOfRefusal(error, codes) {
  const isRefusal = error?.name === 'BillfishError' && codes.includes(error.code)
  if (!isRefusal || error.message.length > 4000) throw error
  const message = error.message
    .replaceAll(/(?:\/[\w.-]+){2,}:?/g, '')
    .replaceAll(/"(?:[^"\\]|\\.)*"?|'[^']*'?|`[^`]*`?|\{.*|\[.*/g, '_')
    .replaceAll(/-?\d[\d.e+]*/g, '#')
    .replaceAll(/\s+/g, ' ')
  return `${error.code} ${message.trim().slice(0, LONGEST_KIND)}`
}
