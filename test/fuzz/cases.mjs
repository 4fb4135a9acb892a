/** What all fuzzers share: where their files go, outcomes, and limits of time and memory. */
import { accessSync, constants } from 'node:fs'
import { tmpdir } from 'node:os'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Random } from '../support/random.cjs'

/** The random numbers of one case. @param {number} seed @param {number} number */
export function randomOf(seed, number) {
  return new Random(Math.imul(seed, 0x9e3779b1) ^ number)
}

/** Where fuzzers write their files: in memory if possible, since they spend most of their time on files. */
export const temporaryFolder = isWritable('/dev/shm') ? '/dev/shm' : tmpdir()

function isWritable(folder) {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** The cases of a fuzzer by what became of them, and the slowest. */
export class Outcomes {
  /** @type {Map<string, number>} */
  #counts = new Map()
  slowest = { milliseconds: 0, number: -1 }

  /** @param {string} kind such as `rendered`, or one of {@link kindOfRefusal} @param {number} number @param {number} milliseconds */
  add(kind, number, milliseconds) {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    if (milliseconds > this.slowest.milliseconds) this.slowest = { milliseconds, number }
  }

  /** The number of cases whose kind begins with `start`. @param {string} start */
  of(start) {
    return [...this.#counts].reduce((sum, [kind, count]) => sum + (kind.startsWith(start) ? count : 0), 0)
  }

  get total() {
    return this.of('')
  }

  /** A line for each of the most frequent kinds, and one for the others. */
  table(lines = 40) {
    const sorted = [...this.#counts].sort((a, b) => b[1] - a[1])
    const rows = sorted.slice(0, lines).map(([kind, count]) => `${share(count, this.total)}  ${kind}`)
    const rest = sorted.slice(lines).reduce((sum, [, count]) => sum + count, 0)
    if (rest > 0) rows.push(`${share(rest, this.total)}  ${sorted.length - lines} other kinds`)
    return rows.join('\n')
  }
}

function share(count, total) {
  return `${String(count).padStart(9)} ${((100 * count) / total).toFixed(2).padStart(6)} %`
}

const LONGEST_KIND = 70

/**
 * The kind of a BillfishError: its code, and its message without paths, numbers and what it quotes.
 * @param {readonly string[]} codes codes of errors that a case may end with
 * @throws the error itself, if it is anything else
 */
export function kindOfRefusal(error, codes) {
  const isRefusal = error?.name === 'BillfishError' && codes.includes(error.code)
  if (!isRefusal || error.message.length > 4000) throw error
  const message = error.message
    .replaceAll(/(?:\/[\w.-]+){2,}:?/g, '')
    .replaceAll(/"(?:[^"\\]|\\.)*"?|'[^']*'?|`[^`]*`?|\{.*|\[.*/g, '_')
    .replaceAll(/-?\d[\d.e+]*/g, '#')
    .replaceAll(/\s+/g, ' ')
  return `${error.code} ${message.trim().slice(0, LONGEST_KIND)}`
}

/** A case that computes for longer hangs; waiting for a busy processor does not count. */
const MAX_BUSY_MILLISECONDS = 2000
/** A case that takes longer hangs even if it computes nothing. */
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

/** How much a run may add to the peak memory of its process. */
const LARGEST_GROWTH = 512 * 2 ** 20
const LARGEST_LITTER = 128 * 2 ** 20

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')
const residentBefore = process.memoryUsage.rss()
const peakBefore = peakMemory()

/** The peak resident set of this process, in bytes. */
export function peakMemory() {
  return process.resourceUsage().maxRSS * 1024
}

/** Collects the garbage of former cases, so that the peak is that of the greediest case. */
export function tidy() {
  if (process.memoryUsage.rss() - residentBefore > LARGEST_LITTER) collectGarbage()
}

/**
 * @param {string} after what was done, for the message
 * @throws {Error} if the process has grown by more than it may since this module was loaded
 */
export function checkMemory(after) {
  if (peakMemory() - peakBefore <= LARGEST_GROWTH) return
  throw new Error(`after ${after} the process has had ${Math.round(peakMemory() / 2 ** 20)} MiB`)
}
