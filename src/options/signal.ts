import { guarded } from './snapshot'

/** Whether a value works as an AbortSignal: of this realm, another one, or a polyfill. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  if (typeof value !== 'object' || value === null) return false
  const { aborted, addEventListener, removeEventListener } = value as Partial<AbortSignal>
  return (
    typeof aborted === 'boolean' && typeof addEventListener === 'function' && typeof removeEventListener === 'function'
  )
}

/**
 * Calls `abort` once when `signal` aborts, but not if it has aborted already. What `abort` throws becomes a process
 * warning: thrown from a listener, it would end the process.
 * @returns a function that stops listening; it may be called at any time, and more than once
 * @throws BillfishError INVALID_OPTION for a signal that throws instead of listening
 */
export function onAbort(signal: AbortSignal | undefined, abort: () => void): () => void {
  if (signal === undefined) return () => {}
  const listener = () => {
    try {
      abort()
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error))
    }
  }
  guarded('signal', () => signal.addEventListener('abort', listener, { once: true }))
  return () => {
    try {
      signal.removeEventListener('abort', listener)
    } catch {
      // The caller's signal misbehaves, but is no longer needed.
    }
  }
}

/** A native signal for one call. */
export interface OwnSignal {
  readonly signal: AbortSignal
  /** Stops listening to the caller's signal, which may live much longer. */
  release(): void
}

/**
 * A native AbortSignal that aborts with the caller's, for the same reason: nothing past an entry point touches the
 * caller's object. Create it before anything is started and release it at the end.
 * @throws BillfishError INVALID_OPTION for a signal that throws when it is read or listened to
 */
export function ownSignal(given: AbortSignal | undefined): OwnSignal {
  const controller = new AbortController()
  if (given === undefined) return { signal: controller.signal, release: () => {} }
  const abort = () => {
    if (!controller.signal.aborted) controller.abort(reasonOf(given))
  }
  guarded('signal', () => {
    const probe = () => {}
    given.addEventListener('abort', probe)
    given.removeEventListener('abort', probe) // report one that throws now, while it is still possible
  })
  const release = onAbort(given, abort)
  if (guarded('signal', () => given.aborted)) abort()
  return { signal: controller.signal, release }
}

/**
 * Runs `body` with an {@link ownSignal} and releases that at the end.
 * @throws the signal's reason if it has aborted already; what `body` throws
 */
export async function withOwnSignal<Result>(
  given: AbortSignal | undefined,
  body: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const { signal, release } = ownSignal(given)
  try {
    signal.throwIfAborted()
    return await body(signal)
  } finally {
    release()
  }
}

/**
 * Awaits running work, which `cancel` ends once the signal aborts.
 * @param cancel called with the signal's reason
 */
export async function cancelledBy<Result>(
  signal: AbortSignal | undefined,
  cancel: (reason: unknown) => void,
  work: Promise<Result>,
): Promise<Result> {
  const abort = () => cancel(signal?.reason)
  const stopListening = onAbort(signal, abort)
  if (signal?.aborted) abort()
  try {
    return await work
  } finally {
    stopListening()
  }
}

function reasonOf(signal: AbortSignal): unknown {
  try {
    return signal.reason
  } catch (error) {
    return error // what the getter throws serves as the reason
  }
}
