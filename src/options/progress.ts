import { onAbort } from './signal'

/**
 * Wraps a caller's `onProgress` so that it cannot cause an uncaught exception.
 * @param fail called with what the callback throws or rejects with; the callback is not called again after that
 */
export function progressTo<Progress>(
  onProgress: ((progress: Progress) => unknown) | undefined,
  fail: (error: unknown) => void,
): (progress: Progress) => void {
  let failed = false
  const end = (error: unknown) => {
    if (failed) return
    failed = true
    fail(error)
  }
  return (progress) => {
    if (failed || onProgress === undefined) return
    try {
      const returned = onProgress(progress)
      if (typeof returned === 'object' && returned !== null) Promise.resolve(returned).catch(end)
    } catch (error) {
      end(error)
    }
  }
}

/**
 * Runs long work that the caller watches and can end: with the signal, or by throwing from `onProgress`.
 * @param abort ends what `work` is doing
 * @param work called with the function that reports progress, which never throws
 * @throws what `onProgress` threw; the signal's reason once it aborts; what `work` throws
 */
export async function watchedWork<Progress, Result>(
  watcher: {
    readonly signal?: AbortSignal | undefined
    readonly onProgress?: ((progress: Progress) => unknown) | undefined
  },
  abort: () => void,
  work: (report: (progress: Progress) => void) => Promise<Result>,
): Promise<Result> {
  const { signal, onProgress } = watcher
  signal?.throwIfAborted()
  let thrown: { readonly error: unknown } | undefined
  const throwOwnReason = () => {
    if (thrown) throw thrown.error
    signal?.throwIfAborted()
  }
  const report = progressTo(onProgress, (error) => {
    thrown = { error }
    abort()
  })
  const stopListening = onAbort(signal, abort)
  try {
    const result = await work(report)
    throwOwnReason()
    return result
  } catch (error) {
    throwOwnReason()
    throw error
  } finally {
    stopListening()
  }
}
