/**
 * A program under measurement lives in a process of its own: its peak memory is its own, and one program's threads and
 * garbage do not disturb another's. The benchmark forks it and sends one request at a time over the IPC channel.
 *
 *     benchmark --> { method, options }      process --> { result } or { error }
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from './command-line.mjs'

/** Bytes of a field of /proc/self/status, e.g. VmHWM, the highest resident set so far. */
function statusBytes(status, field) {
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

/** What the process holds: the peak and present resident set, and how much of the present is not file pages. */
function memory() {
  const status = readFileSync('/proc/self/status', 'utf8')
  return {
    peakResident: statusBytes(status, 'VmHWM'),
    resident: statusBytes(status, 'VmRSS'),
    residentAnonymous: statusBytes(status, 'RssAnon'),
  }
}

/**
 * How late the event loop comes to a timer due every millisecond, in milliseconds, while `work` is under way. It is a run
 * of its own, so that the timer does not disturb the speeds measured.
 */
async function eventLoopDelay(work) {
  const resolution = 1
  const histogram = monitorEventLoopDelay({ resolution })
  histogram.enable()
  await work()
  histogram.disable()
  const late = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - resolution) // the histogram holds whole intervals
  return { p50: late(histogram.percentile(50)), p99: late(histogram.percentile(99)), max: late(histogram.max) }
}

/**
 * The child's side: answers requests by `methods`, `memory` and `delays` until the parent disconnects. `delays` tells the
 * event-loop delay while another method runs, beside that of an idle second.
 */
export function answerRequests(methods) {
  const delays = async ({ method, options }) => ({
    idle: await eventLoopDelay(() => sleep(1000)),
    busy: await eventLoopDelay(() => methods[method](options)),
  })
  const all = { memory, delays, ...methods }
  process.on('message', async ({ method, options }) => {
    try {
      process.send({ result: await all[method](options) })
    } catch (error) {
      const known = error?.name === 'BillfishError' && error.code !== 'INTERNAL'
      process.send({ error: known ? error.message : (error.stack ?? String(error)) })
    }
  })
  process.on('disconnect', () => process.exit())
}

/** The parent's side. */
export class MeasuredProcess {
  #child
  #file

  /** @param {string} file the module to run @param {Record<string, string>} environment added to this one's */
  constructor(file, environment) {
    this.#file = file
    this.#child = fork(file, { env: { ...process.env, ...environment } })
  }

  /** Sends one request and waits for its answer. Fails with the child's stack, or when the child ends. */
  async request(method, options = {}) {
    const ended = new AbortController()
    const exit = (code, signal) => ended.abort(new Error(`${this.#file} ended (${signal ?? code}) during ${method}`))
    this.#child.once('exit', exit)
    try {
      this.#child.send({ method, options })
      const [answer] = await once(this.#child, 'message', { signal: ended.signal })
      if (answer.error) throw new Failure(`${basename(this.#file)}: ${method}: ${answer.error}`)
      return answer.result
    } catch (error) {
      throw ended.signal.aborted ? ended.signal.reason : error
    } finally {
      this.#child.off('exit', exit)
    }
  }

  /** Ends the process. */
  async close() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    if (this.#child.connected) this.#child.disconnect()
    await exited
  }
}
