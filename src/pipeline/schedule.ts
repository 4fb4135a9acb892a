/** A sequence as the schedule sees it: how many tokens it waits to compute. */
export interface Ready {
  readonly pending: number
}

/** Rows that a sequence brings to a batch. */
export interface Share<S> {
  readonly sequence: S
  readonly rows: number
}

/**
 * The next batch of at most `maxTokens` tokens: sequences that decode (one token each) first, so that no reader waits
 * for another one's long prompt, then prompts in order of arrival, the last one in part if it does not fit.
 *
 * Pure: it looks at nothing but its arguments.
 * @param ready sequences with no step under way, in order of arrival
 */
export function nextBatch<S extends Ready>(ready: readonly S[], maxTokens: number): Share<S>[] {
  const batch: Share<S>[] = []
  let room = maxTokens
  const takeFrom = (sequences: readonly S[]) => {
    for (const sequence of sequences) {
      if (room === 0) return
      const rows = Math.min(sequence.pending, room)
      batch.push({ sequence, rows })
      room -= rows
    }
  }
  takeFrom(ready.filter(({ pending }) => pending === 1))
  takeFrom(ready.filter(({ pending }) => pending > 1))
  return batch
}
