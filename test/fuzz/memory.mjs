/** What a run of a fuzzer may add to the memory of its process, at its peak. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const LARGEST_GROWTH = 512 * 2 ** 20
const LARGEST_LITTER = 128 * 2 ** 20

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')
const residentBefore = process.memoryUsage.rss()
const peakBefore = peakMemory()

/** The most memory that this process has had, in bytes. */
export function peakMemory() {
  return process.resourceUsage().maxRSS * 1024
}

/** Collects what cases have left behind: the peak is to tell of the greediest of them. */
export function tidy() {
  if (process.memoryUsage.rss() - residentBefore > LARGEST_LITTER) collectGarbage()
}

/**
 * @param after - what has been done, for the message
 * @throws Error if the process has grown by more than it may
 */
export function checkMemory(after) {
  if (peakMemory() - peakBefore <= LARGEST_GROWTH) return
  throw new Error(`after ${after} the process has had ${Math.round(peakMemory() / 2 ** 20)} MiB`)
}
