import { readFileSync, readlinkSync } from 'node:fs'

/**
 * The file in which Linux counts what the calling thread has computed, to be read by any thread of the process; undefined
 * where there is none.
 */
export function ownSchedstatPath(): string | undefined {
  try {
    const [, , thread] = readlinkSync('/proc/thread-self').split('/')
    const path = `/proc/self/task/${thread}/schedstat`
    return cpuTime(path) === undefined ? undefined : path
  } catch {
    return undefined
  }
}

/** Milliseconds that a thread has computed, by its {@link ownSchedstatPath}. */
export function cpuTime(schedule: string | undefined): number | undefined {
  if (schedule === undefined) return undefined
  try {
    const nanoseconds = Number(readFileSync(schedule, 'latin1').split(' ')[0])
    return Number.isFinite(nanoseconds) ? nanoseconds / 1e6 : undefined
  } catch {
    return undefined // the thread has ended
  }
}
