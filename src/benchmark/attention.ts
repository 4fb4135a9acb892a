import { addon } from '../native/addon'
import type { AttentionBenchmarkResult, BenchmarkMachine } from '../native/benchmark'
import { runTask } from '../native/task'
import { type MeasuredMachine, type MeasuredPoint, measuredMachine, measuredPoint, medianMinMax } from './report'
import { type BenchmarkOptions, benchmarkTarget } from './run'
import type { AttentionHeads } from './shapes'

/** One layer of attention in one step. */
export interface AttentionCase extends AttentionHeads {
  /** Sequences, each with `past` cached positions and `rows` new ones: 1 when decoding, more in prefill. */
  readonly sequences: number
  readonly past: number
  readonly rows: number
}

export interface AttentionOptions extends BenchmarkOptions {
  readonly cases: readonly AttentionCase[]
}

export interface AttentionPoint extends AttentionCase, MeasuredPoint {}

export interface AttentionReport extends MeasuredMachine {
  readonly results: readonly AttentionPoint[]
}

/**
 * Measures attention over a paged KV cache of random values with shuffled blocks, cycling through copies that together
 * exceed every cache of the device.
 * @throws BillfishError INVALID_OPTION, DEVICE_NOT_FOUND, OUT_OF_MEMORY; the reason of the signal if it aborts
 */
export async function measureAttention(options: AttentionOptions): Promise<AttentionReport> {
  const target = benchmarkTarget(options)
  const { cases } = options
  const make = () => new (addon().NativeTask)({ kind: 'attention', ...target, cases })
  const { end, results } = await runTask(make, cases.length, options)
  return attentionReport(target.device, cases, end, results)
}

/** Derives the report from the measured times. */
export function attentionReport(
  device: string,
  cases: readonly AttentionCase[],
  machine: BenchmarkMachine,
  results: readonly AttentionBenchmarkResult[],
): AttentionReport {
  const [memoryRate] = medianMinMax(results.map((result) => result.memoryRate))
  return {
    ...measuredMachine(device, machine, memoryRate),
    results: results.map((result) => ({
      ...(cases[result.index] as AttentionCase),
      ...measuredPoint(result, result.cacheBytes, 2 * result.multiplications, memoryRate),
    })),
  }
}
