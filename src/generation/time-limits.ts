import { invalidCheckpoint } from '../checkpoint/invalid'
import type { BillfishError } from '../errors'
import { cpuTime } from './cpu-time'

/** What a piece of work may take, and how errors speak of it. */
export interface TimeLimits {
  /** By the clock, from when the thread begins with it. */
  readonly milliseconds: number
  /** The same where `computing` can be told, which ends it long before unless other processes keep it waiting. */
  readonly wallMillisecondsUnderLoad: number
  /** What the thread may compute for it, where that can be told: other processes want the processor, too. */
  readonly computing: number
  /** The file of the checkpoint that decides how long it takes. */
  readonly file: string
  /** Such as `tokenizing a text of 60 characters`. */
  readonly what: string
}

/** What a short piece of work may take: hundreds of times what it does take. Loading and one text stay within 2 seconds. */
const LEAST_MILLISECONDS = 1500
const LEAST_COMPUTING = 1000
/** A fifth and a thirtieth of the slowest that a tokenizer has been measured at: dense text on a busy machine. */
const ENCODED_BYTES_A_MILLISECOND = { computing: 60, waiting: 10 }
/** A third and a tenth of a vocabulary with scores, on a busy machine. */
const LOADED_BYTES_A_MILLISECOND = { computing: 1000, waiting: 400 }
/** A load of eight on each core: unlike a short text, a tokenizer takes a good part of what it may. */
const LOADING_KEPT_WAITING = 8
type Durations = Pick<TimeLimits, 'milliseconds' | 'wallMillisecondsUnderLoad' | 'computing'>

/** What encoding a text may take. */
export function encodingLimits(bytes: number): Durations {
  return durations(bytes, ENCODED_BYTES_A_MILLISECOND, 1)
}

/** What loading a tokenizer's file may take. */
export function loadingLimits(bytes: number): Durations {
  return durations(bytes, LOADED_BYTES_A_MILLISECOND, LOADING_KEPT_WAITING)
}

function durations(
  bytes: number,
  rate: { readonly computing: number; readonly waiting: number },
  wallMillisecondsUnderLoad: number,
): Durations {
  const milliseconds = LEAST_MILLISECONDS + bytes / rate.waiting
  return {
    milliseconds,
    wallMillisecondsUnderLoad: milliseconds * wallMillisecondsUnderLoad,
    computing: LEAST_COMPUTING + bytes / rate.computing,
  }
}

/** When a piece of work has taken more than its terms allow, by the clock or on the processor. */
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

  /** Milliseconds that it may go on for, at least, from now. */
  get remaining(): number {
    const byTheClock = this.#start + this.#milliseconds - performance.now()
    return Math.min(byTheClock, this.#toCompute())
  }

  error(): BillfishError {
    const { file, what, computing } = this.#terms
    const limit =
      this.#toCompute() <= 0 ? `${Math.round(computing)} ms on the processor` : `${Math.round(this.#milliseconds)} ms`
    return invalidCheckpoint(
      `${file}: ${what} took more than ${limit} and was ended. No text of this length takes so long ` +
        'unless the file makes it so: compare it with the released checkpoint',
    )
  }

  get #milliseconds(): number {
    return this.#computedBefore === undefined ? this.#terms.milliseconds : this.#terms.wallMillisecondsUnderLoad
  }

  #toCompute(): number {
    const now = cpuTime(this.#schedule)
    if (now === undefined || this.#computedBefore === undefined) return Number.POSITIVE_INFINITY
    return this.#computedBefore + this.#terms.computing - now
  }
}
