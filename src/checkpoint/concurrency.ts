/**
 * Calls `body(i, worker)` for i = 0 .. count - 1, at most `limit` calls at a time. After a failure no further calls
 * start, and those in flight are awaited. `worker` is below `limit`; calls with the same worker never overlap.
 */
export async function forEachConcurrently(
  count: number,
  limit: number,
  body: (i: number, worker: number) => Promise<void>,
): Promise<void> {
  let next = 0
  let failed = false
  const work = async (worker: number) => {
    while (next < count && !failed) {
      try {
        await body(next++, worker)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const results = await Promise.allSettled(Array.from({ length: Math.min(limit, count) }, (_, worker) => work(worker)))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
