/**
 * Calls `body` for 0 to count - 1, at most `limit` at a time; after a failure no further ones are begun, and those under
 * way are awaited. `body` also gets the number, below `limit`, of the worker that calls it: calls of one never overlap.
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
