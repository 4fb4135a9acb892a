import { z } from 'zod'
import type { StepOutput } from '../native/addon'
import { guardMethods } from '../options/method-guard'
import { readValue } from '../options/read-options'

const stepNumber = z
  .custom<number>((value) => typeof value === 'number' && !Number.isNaN(value))
  .describe('the number of a step')

/** A step as the trace keeps it. Times are milliseconds on the machine's monotonic clock (as `process.hrtime`). */
export interface TracedStep {
  /** Number of the step, from 0. */
  readonly step: number
  /** Tokens that it computed, and sequences that they belong to. */
  readonly tokens: number
  readonly sequences: number
  /** When each stage worked on it. */
  readonly stages: readonly { readonly begin: number; readonly end: number }[]
}

/** An event of the Trace Event Format that chrome://tracing and Perfetto read; `ts` and `dur` are microseconds. */
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

/** A file for chrome://tracing or ui.perfetto.dev, as an object: write it with JSON.stringify. */
export interface ChromeTrace {
  readonly traceEvents: readonly ChromeTraceEvent[]
  readonly displayTimeUnit: 'ms'
}

/** When each stage was busy with which step: the last steps of a model, oldest first. */
export class Trace {
  static {
    guardMethods(Trace, (value) => value instanceof Trace, 'trace')
  }

  /** @internal */
  constructor(
    /** Names of the stages: 'cuda:0', or 'stage 2 (cuda:0)' where a device has several. */
    readonly stages: readonly string[],
    readonly steps: readonly TracedStep[],
  ) {}

  /** The steps numbered `first` up to, but not including, `end`. @throws BillfishError INVALID_OPTION for no numbers */
  slice(first: number, end = Number.POSITIVE_INFINITY): Trace {
    readValue(stepNumber, first, 'first')
    readValue(stepNumber, end, 'end')
    return new Trace(
      this.stages,
      this.steps.filter(({ step }) => step >= first && step < end),
    )
  }

  /**
   * Part of the time that each stage was busy, 0 to 1, from the first step's begin to the last step's end; empty if
   * there are no steps.
   */
  utilization(): number[] {
    const intervals = this.steps.flatMap(({ stages }) => stages)
    if (intervals.length === 0) return []
    const begin = intervals.reduce((least, interval) => Math.min(least, interval.begin), Number.POSITIVE_INFINITY)
    const end = intervals.reduce((most, interval) => Math.max(most, interval.end), 0)
    return this.stages.map((_, stage) => {
      const busy = this.steps.reduce((sum, { stages }) => {
        const interval = stages[stage]
        return sum + (interval ? interval.end - interval.begin : 0)
      }, 0)
      return end > begin ? busy / (end - begin) : 0
    })
  }

  /** For chrome://tracing and ui.perfetto.dev: one track a stage, one slice a step. */
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

/** Steps that are remembered: some seconds of a busy model, in about a megabyte. */
const CAPACITY = 4096

/** Remembers the last steps. Cheap enough to be always on: a few numbers a step. */
export class TraceRecorder {
  readonly #steps: TracedStep[] = [] // a ring, once it is full
  #count = 0

  readonly #stages: readonly string[]

  constructor(stages: readonly string[]) {
    this.#stages = stages
  }

  record(tokens: number, sequences: number, times: StepOutput['stages']): void {
    const stages = this.#stages.map((_, i) => ({ begin: times[2 * i] as number, end: times[2 * i + 1] as number }))
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
