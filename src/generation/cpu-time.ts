import { readFileSync, readlinkSync } from 'node:fs'

/**
 * Path of the file in which Linux counts the CPU time of the calling thread, readable from any thread of the process;
 * undefined if unavailable.
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

/** CPU time of a thread in milliseconds, from its {@link ownSchedstatPath}. */
export function cpuTime(schedule: string | undefined): number | undefined {
  if (schedule === undefined) return undefined
  try {
    const nanoseconds = Number(readFileSync(schedule, 'latin1').split(' ')[0])
    return Number.isFinite(nanoseconds) ? nanoseconds / 1e6 : undefined
  } catch {
    return undefined // the thread has ended
  }
}
