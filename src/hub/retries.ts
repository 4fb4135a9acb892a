import { setTimeout as sleep } from 'node:timers/promises'
import { BillfishError } from '../common/errors'

/** A failure that may be gone at the next try: a lost connection, a busy server. */
export class TransientFailure extends Error {
  /** @param wait milliseconds that the server asks to wait */
  constructor(
    message: string,
    readonly wait?: number,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

const MAX_TRIES = 5
const FIRST_WAIT = 500
const LONGEST_WAIT = 300_000

/** Counts the tries of one piece of work, and waits between them, twice as long each time. */
export class Retries {
  #failures = 0

  constructor(readonly signal: AbortSignal) {}

  /** Something was achieved: later failures are the first ones of what is left. */
  reset(): void {
    this.#failures = 0
  }

  /**
   * Waits for the next try.
   * @throws BillfishError DOWNLOAD_FAILED after the last one, with the failure as its cause; any other error; the signal's
   *   reason
   */
  async after(error: unknown): Promise<void> {
    this.signal.throwIfAborted()
    if (!(error instanceof TransientFailure)) throw error
    const { wait = 0 } = error
    if (++this.#failures === MAX_TRIES || wait > LONGEST_WAIT) {
      const tries = this.#failures === 1 ? '' : `, after ${this.#failures} tries`
      throw new BillfishError(
        'DOWNLOAD_FAILED',
        `${error.message}${tries}. Try again later: it goes on where it stopped.`,
        {
          cause: error,
        },
      )
    }
    const jitter = 0.5 + Math.random() / 2 // so that many processes that failed together do not return together
    const pause = Math.max(wait, FIRST_WAIT * 2 ** (this.#failures - 1) * jitter)
    await sleep(pause, undefined, { signal: this.signal }).catch(() => this.signal.throwIfAborted())
  }
}

/** Calls `attempt` until it succeeds. @throws as {@link Retries.after} */
export async function retried<Result>(signal: AbortSignal, attempt: () => Promise<Result>): Promise<Result> {
  const retries = new Retries(signal)
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      await retries.after(error)
    }
  }
}
