import { type AttentionBenchmarkResult, addon, type BenchmarkMachine } from '../native/addon'
import { type MeasuredMachine, measuredMachine, microseconds } from './gemm'
import { type BenchmarkOptions, benchmarkTarget, runBenchmark } from './run'
import type { AttentionHeads } from './shapes'
import { spread } from './spread'

/** Attention of one layer in one step. */
export interface AttentionCase extends AttentionHeads {
  /** Each with `past` positions in the cache and `rows` new ones: 1 in decoding, more in prompts. */
  readonly sequences: number
  readonly past: number
  readonly rows: number
}

export interface AttentionOptions extends BenchmarkOptions {
  readonly cases: readonly AttentionCase[]
}

export interface AttentionPoint extends AttentionCase {
  /** Medians of one call, and the fastest and slowest. */
  readonly microseconds: number
  readonly fastestMicroseconds: number
  readonly slowestMicroseconds: number
  /** Keys and values that are read, once each. */
  readonly gigabytesPerSecond: number
  readonly teraflops: number
  /** gigabytesPerSecond as a share of the machine's memoryGigabytesPerSecond. */
  readonly ofMemory: number
  /** Multiplications and additions a byte of keys and values. */
  readonly flopsPerByte: number
}

export interface AttentionReport extends MeasuredMachine {
  readonly results: readonly AttentionPoint[]
}

/**
 * Measures attention over a paged KV cache of random numbers with shuffled blocks, taken in turn from copies that no
 * cache of the device holds together.
 * @throws BillfishError INVALID_OPTION, ABORTED, DEVICE_NOT_FOUND, OUT_OF_MEMORY
 */
export async function measureAttention(options: AttentionOptions): Promise<AttentionReport> {
  const target = benchmarkTarget(options)
  const { NativeBenchmark } = addon()
  const native = new NativeBenchmark({ kind: 'attention', ...target, cases: options.cases })
  const { machine, results } = await runBenchmark(native, options.cases.length, options)
  return attentionReport(target.device, options.cases, machine, results)
}

/** What follows from the times. */
export function attentionReport(
  device: string,
  cases: readonly AttentionCase[],
  machine: BenchmarkMachine,
  results: readonly AttentionBenchmarkResult[],
): AttentionReport {
  const [memoryRate] = spread(results.map((result) => result.memoryRate))
  return {
    ...measuredMachine(device, machine, memoryRate),
    results: results.map((result) => {
      const flops = 2 * result.multiplications
      const bytesPerSecond = result.cacheBytes / result.median
      return {
        ...(cases[result.index] as AttentionCase),
        ...microseconds(result),
        gigabytesPerSecond: bytesPerSecond / 1e9,
        teraflops: flops / result.median / 1e12,
        ofMemory: bytesPerSecond / memoryRate,
        flopsPerByte: flops / result.cacheBytes,
      }
    }),
  }
}
