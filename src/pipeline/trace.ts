import { z } from 'zod'
import type { StepOutput } from '../native/addon'
import { guardMethods } from '../options/method-guard'
import { readValue } from '../options/read-options'

const stepNumber = z
  .custom<number>((value) => typeof value === 'number' && !Number.isNaN(value))
  .describe('the number of a step')

/** A recorded step. Times are milliseconds of the monotonic clock (as `process.hrtime`). */
export interface TracedStep {
  /** Step number, starting at 0. */
  readonly step: number
  /** Tokens computed. */
  readonly tokens: number
  /** Sequences that the tokens belong to. */
  readonly sequences: number
  /** Start and end per stage. */
  readonly stages: readonly { readonly begin: number; readonly end: number }[]
}

/** An event in Trace Event Format, as read by chrome://tracing and Perfetto; `ts` and `dur` are microseconds. */
export type ChromeTraceEvent =
  | {
      readonly ph: 'X'
      readonly name: string
      readonly cat: 'step'
      readonly pid: number
      readonly tid: number
      readonly ts: number
      readonly dur: number
      readonly args: { readonly step: number; readonly tokens: number; readonly sequences: number }
    }
  | {
      readonly ph: 'M'
      readonly name: 'process_name' | 'thread_name' | 'thread_sort_index'
      readonly pid: number
      readonly tid: number
      readonly args: { readonly name: string } | { readonly sort_index: number }
    }

/** Content of a file for chrome://tracing or ui.perfetto.dev; write it with JSON.stringify. */
export interface ChromeTrace {
  readonly traceEvents: readonly ChromeTraceEvent[]
  readonly displayTimeUnit: 'ms'
}

/** Timeline of the last steps of a model, oldest first: when each stage was busy with which step. */
export class Trace {
  static {
    guardMethods(Trace, (value) => value instanceof Trace, 'trace')
  }

  /** @internal */
  constructor(
    /** Stage names: 'cuda:0', or 'stage 2 (cuda:0)' if a device has several. */
    readonly stages: readonly string[],
    readonly steps: readonly TracedStep[],
  ) {}

  /**
   * The steps from number `first` up to but excluding `end`. @throws BillfishError INVALID_OPTION for NaN or
   * non-numbers
   */
  slice(first: number, end = Number.POSITIVE_INFINITY): Trace {
    readValue(stepNumber, first, 'first')
    readValue(stepNumber, end, 'end')
    return new Trace(
      this.stages,
      this.steps.filter(({ step }) => step >= first && step < end),
    )
  }

  /**
   * Fraction of the time each stage was busy, 0 to 1, between the start of the first step and the end of the last;
   * empty without steps.
   */
  utilization(): number[] {
    const intervals = this.steps.flatMap(({ stages }) => stages)
    if (intervals.length === 0) return []
    const begin = intervals.reduce((min, interval) => Math.min(min, interval.begin), Number.POSITIVE_INFINITY)
    const end = intervals.reduce((max, interval) => Math.max(max, interval.end), 0)
    return this.stages.map((_, stage) => {
      const busy = this.steps.reduce((sum, { stages }) => {
        const interval = stages[stage]
        return sum + (interval ? interval.end - interval.begin : 0)
      }, 0)
      return end > begin ? busy / (end - begin) : 0
    })
  }

  /** Converts the trace for chrome://tracing and ui.perfetto.dev: one track per stage, one slice per step. */
  toChromeTrace(): ChromeTrace {
    const pid = 1
    const names: ChromeTraceEvent[] = this.stages.flatMap((name, tid): ChromeTraceEvent[] => [
      { ph: 'M', name: 'thread_name', pid, tid, args: { name } },
      { ph: 'M', name: 'thread_sort_index', pid, tid, args: { sort_index: tid } },
    ])
    const slices = this.steps.flatMap(({ step, tokens, sequences, stages }) =>
      stages.map(
        ({ begin, end }, tid): ChromeTraceEvent => ({
          ph: 'X',
          name: `step ${step}: ${tokens} token${tokens === 1 ? '' : 's'}`,
          cat: 'step',
          pid,
          tid,
          ts: begin * 1000,
          dur: (end - begin) * 1000,
          args: { step, tokens, sequences },
        }),
      ),
    )
    const process: ChromeTraceEvent = { ph: 'M', name: 'process_name', pid, tid: 0, args: { name: 'billfish' } }
    return { traceEvents: [process, ...names, ...slices], displayTimeUnit: 'ms' }
  }
}

/** Steps kept: a few seconds of a busy model, about a megabyte. */
const CAPACITY = 4096

/** Records the last steps. Always on: it stores a few numbers per step. */
export class TraceRecorder {
  readonly #steps: TracedStep[] = [] // a ring, once it is full
  #count = 0

  readonly #stages: readonly string[]
  readonly #busy: number[]

  constructor(stages: readonly string[]) {
    this.#stages = stages
    this.#busy = stages.map(() => 0)
  }

  /** Milliseconds that each stage has been busy since the start. */
  get busy(): ReadonlyMap<string, number> {
    return new Map(this.#stages.map((stage, i) => [stage, this.#busy[i] as number]))
  }

  record(tokens: number, sequences: number, times: StepOutput['stages']): void {
    const stages = this.#stages.map((_, i) => ({ begin: times[2 * i] as number, end: times[2 * i + 1] as number }))
    for (const [i, { begin, end }] of stages.entries()) this.#busy[i] = (this.#busy[i] as number) + end - begin
    this.#steps[this.#count % CAPACITY] = { step: this.#count, tokens, sequences, stages }
    this.#count++
  }

  trace(): Trace {
    const oldest = this.#count % CAPACITY
    const steps =
      this.#count <= CAPACITY ? [...this.#steps] : [...this.#steps.slice(oldest), ...this.#steps.slice(0, oldest)]
    return new Trace(this.#stages, steps)
  }
}
