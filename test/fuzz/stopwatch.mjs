/** A case that computes for longer hangs. Waiting for a processor that others use is no fault of the case's. */
const MAX_BUSY_MILLISECONDS = 2000
/** One that neither computes nor ends. */
const MAX_MILLISECONDS = 60_000

/** Times a case. */
export class Stopwatch {
  #start = performance.now()
  #usage = process.cpuUsage()

  /** @returns milliseconds so far, by the clock @throws Error if the case hangs */
  read() {
    const milliseconds = performance.now() - this.#start
    const { user, system } = process.cpuUsage(this.#usage)
    const busy = (user + system) / 1000
    // Several threads together can be busy for longer than the case takes.
    if (Math.min(busy, milliseconds) > MAX_BUSY_MILLISECONDS || milliseconds > MAX_MILLISECONDS) {
      throw new Error(`it took ${Math.round(milliseconds)} ms, and computed for ${Math.round(busy)} of them`)
    }
    return milliseconds
  }
}
