import { invalidCheckpoint } from '../checkpoint/invalid'
import type { BillfishError } from '../common/errors'
import { cpuTime } from './cpu-time'

/** Time limits of a work item, and its description for error messages. */
export interface TimeLimits {
  /** Wall-clock limit in milliseconds, from the start of the work. */
  readonly milliseconds: number
  /**
   * Wall-clock limit if CPU time can be measured; the CPU limit applies long before unless other processes take the
   * processor.
   */
  readonly wallMillisecondsUnderLoad: number
  /** CPU time limit in milliseconds, if it can be measured. */
  readonly cpuMilliseconds: number
  /** The checkpoint file responsible for the duration. */
  readonly file: string
  /** Such as `tokenizing a text of 60 characters`. */
  readonly what: string
}

/** Limits for short work: hundreds of times the actual time. Loading plus one text stays within 2 seconds. */
const LEAST_MILLISECONDS = 1500
const LEAST_COMPUTING = 1000
/** A fifth and a thirtieth of the slowest rate measured: dense text on a busy machine. */
const ENCODED_BYTES_A_MILLISECOND = { computing: 60, waiting: 10 }
/** A third and a tenth of the rate of a vocabulary with scores on a busy machine. */
const LOADED_BYTES_A_MILLISECOND = { computing: 1000, waiting: 400 }
/** Assumes a load of eight per core: unlike a short text, loading uses a good part of its limit. */
const LOADING_LOAD_FACTOR = 8
type Limits = Pick<TimeLimits, 'milliseconds' | 'wallMillisecondsUnderLoad' | 'cpuMilliseconds'>

/** Time limits for encoding a text. */
export function encodingLimits(bytes: number): Limits {
  return durations(bytes, ENCODED_BYTES_A_MILLISECOND, 1)
}

/** Time limits for loading a tokenizer file. */
export function loadingLimits(bytes: number): Limits {
  return durations(bytes, LOADED_BYTES_A_MILLISECOND, LOADING_LOAD_FACTOR)
}

function durations(
  bytes: number,
  rate: { readonly computing: number; readonly waiting: number },
  loadFactor: number,
): Limits {
  const milliseconds = LEAST_MILLISECONDS + bytes / rate.waiting
  return {
    milliseconds,
    wallMillisecondsUnderLoad: milliseconds * loadFactor,
    cpuMilliseconds: LEAST_COMPUTING + bytes / rate.computing,
  }
}

/** Deadline of a work item, by wall clock or CPU time. */
export class Deadline {
  readonly #start = performance.now()
  readonly #computedBefore: number | undefined

  readonly #terms: TimeLimits
  readonly #schedule: string | undefined

  constructor(terms: TimeLimits, schedule: string | undefined) {
    this.#terms = terms
    this.#schedule = schedule

    this.#computedBefore = cpuTime(schedule)
  }

  /** Milliseconds until the earliest possible end. */
  get remaining(): number {
    const byTheClock = this.#start + this.#milliseconds - performance.now()
    return Math.min(byTheClock, this.#toCompute())
  }

  error(): BillfishError {
    const { file, what, cpuMilliseconds } = this.#terms
    const limit =
      this.#toCompute() <= 0
        ? `${Math.round(cpuMilliseconds)} ms on the processor`
        : `${Math.round(this.#milliseconds)} ms`
    return invalidCheckpoint(
      `${file}: ${what} took more than ${limit} and was terminated. No text of this length takes that long ` +
        'unless the file makes it so: compare it with the released checkpoint',
    )
  }

  get #milliseconds(): number {
    return this.#computedBefore === undefined ? this.#terms.milliseconds : this.#terms.wallMillisecondsUnderLoad
  }

  #toCompute(): number {
    const now = cpuTime(this.#schedule)
    if (now === undefined || this.#computedBefore === undefined) return Number.POSITIVE_INFINITY
    return this.#computedBefore + this.#terms.cpuMilliseconds - now
  }
}
