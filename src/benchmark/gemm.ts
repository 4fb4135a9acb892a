import { addon } from '../native/addon'
import type { GemmBenchmarkMachine, GemmBenchmarkResult } from '../native/benchmark'
import { type MeasuredMachine, type MeasuredPoint, measuredMachine, measuredPoint } from './report'
import { type BenchmarkOptions, benchmarkTarget, runBenchmark } from './run'
import type { LinearShape } from './shapes'
import { spread } from './spread'

export interface GemmOptions extends BenchmarkOptions {
  readonly shapes: readonly LinearShape[]
  /** Rows of the input (tokens), each measured. */
  readonly rows: readonly number[]
  /** 4, 8 or 16. */
  readonly bits: readonly number[]
  /** Inputs that share a scale; 0: one scale a row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
}

/** One shape with weights of so many bits on so many rows. */
export interface GemmPoint extends LinearShape, MeasuredPoint {
  readonly bits: number
  readonly rows: number
  /** The vendor's library in 16 bits in the same run; null without one. */
  readonly vendorMicroseconds: number | null
  /** How many times faster than that. */
  readonly timesVendor: number | null
}

export interface GemmReport extends MeasuredMachine {
  readonly groupSize: number
  readonly zeroPoints: boolean
  /** 'cuBLAS' where it is there. */
  readonly vendor: string | null
  /** What it reaches at its best in 16 bits. */
  readonly vendorTeraflops: number | null
  readonly results: readonly GemmPoint[]
}

/**
 * Measures linears on random weights, with data taken in turn from copies that no cache holds together.
 * @throws BillfishError INVALID_OPTION, DEVICE_NOT_FOUND, OUT_OF_MEMORY, and UNSUPPORTED_MODEL for groups that
 *   the device has no kernel for
 */
export async function measureGemm(options: GemmOptions): Promise<GemmReport> {
  const { shapes, rows, bits, groupSize, zeroPoints } = options
  const target = benchmarkTarget(options)
  const cases = shapes.map((shape) => ({ outs: shape.outs, in: shape.in }))
  const spec = { kind: 'gemm', ...target, cases, rows, bits, groupSize, zeroPoints } as const
  const make = () => new (addon().NativeBenchmark)(spec)
  const { end, results } = await runBenchmark(make, cases.length * rows.length * bits.length, options)
  return gemmReport({ ...options, device: target.device }, end, results)
}

/** What follows from the times. */
export function gemmReport(
  { device, shapes, groupSize, zeroPoints }: Pick<GemmOptions, 'device' | 'shapes' | 'groupSize' | 'zeroPoints'>,
  machine: GemmBenchmarkMachine,
  results: readonly GemmBenchmarkResult[],
): GemmReport {
  const [memoryRate] = spread(results.map((result) => result.memoryRate))
  return {
    ...measuredMachine(device, machine, memoryRate),
    groupSize,
    zeroPoints,
    vendor: machine.vendor || null,
    vendorTeraflops: machine.vendorFlops > 0 ? machine.vendorFlops / 1e12 : null,
    results: results.map((result) => {
      const shape = shapes[result.index] as LinearShape
      const flops = 2 * result.rows * shape.in * shape.outs.reduce((sum, out) => sum + out, 0)
      const vendorSeconds = result.vendorSeconds > 0 ? result.vendorSeconds : null
      return {
        ...shape,
        bits: result.bits,
        rows: result.rows,
        ...measuredPoint(result, result.movedBytes, flops, memoryRate),
        vendorMicroseconds: vendorSeconds && vendorSeconds * 1e6,
        timesVendor: vendorSeconds && vendorSeconds / result.median,
      }
    }),
  }
}
