import { BillfishError } from '../errors'

/** @throws BillfishError ABORTED */
export function throwIfPaddingAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return
  throw new BillfishError('ABORTED', 'Padding was aborted by its signal; the same call goes on where it stopped.', {
    cause: signal.reason,
  })
}
