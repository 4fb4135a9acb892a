/**
 * Calls a caller's `onProgress` so that nothing it does can become an uncaught exception of the process.
 * @param fail gets what the callback throws, or, if it is an async function, rejects with; it is not called again then
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
