import { addon } from '../native/addon'
import type { GemmBenchmarkMachine, GemmBenchmarkResult, GemmWeights } from '../native/benchmark'
import { runTask } from '../native/task'
import { type MeasuredMachine, type MeasuredPoint, measuredMachine, measuredPoint, medianMinMax } from './report'
import { type BenchmarkOptions, benchmarkTarget } from './run'
import type { LinearShape } from './shapes'

export interface GemmOptions extends BenchmarkOptions {
  readonly shapes: readonly LinearShape[]
  /** Rows of the input (tokens); each is measured. */
  readonly rows: readonly number[]
  readonly weights: readonly GemmWeights[]
  /** Inputs of integers and FP8 that share a scale; 0: one scale per row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
  /** Experts, of whose linears the shapes are, and how many a row goes to. */
  readonly grouped?: GroupedRows | undefined
}

export interface GroupedRows {
  readonly experts: number
  readonly perToken: number
}

/** One shape, kind of weights and number of rows. */
export interface GemmPoint extends LinearShape, MeasuredPoint {
  readonly weights: GemmWeights
  /** Of a weight. */
  readonly bits: number
  readonly rows: number
  /** The vendor library in 16 bits, measured in the same run; null if there is none. */
  readonly vendorMicroseconds: number | null
  /** Speedup over the vendor library. */
  readonly timesVendor: number | null
}

export interface GemmReport extends MeasuredMachine {
  readonly groupSize: number
  readonly zeroPoints: boolean
  readonly grouped: GroupedRows | null
  /** 'cuBLAS' if available. */
  readonly vendor: string | null
  /** Its best 16-bit throughput. */
  readonly vendorTeraflops: number | null
  readonly results: readonly GemmPoint[]
}

/**
 * Measures linears with random weights, cycling through copies that together exceed every cache.
 * @throws BillfishError INVALID_OPTION, DEVICE_NOT_FOUND, OUT_OF_MEMORY, and UNSUPPORTED_MODEL for group sizes without
 *   a kernel on the device
 */
export async function measureGemm(options: GemmOptions): Promise<GemmReport> {
  const { shapes, rows, weights, groupSize, zeroPoints, grouped = { experts: 0, perToken: 0 } } = options
  const target = benchmarkTarget(options)
  const cases = shapes.map((shape) => ({ outs: shape.outs, in: shape.in }))
  const spec = { kind: 'gemm', ...target, cases, rows, weights, groupSize, zeroPoints, ...grouped } as const
  const make = () => new (addon().NativeTask)(spec)
  const { end, results } = await runTask(make, cases.length * rows.length * weights.length, options)
  return gemmReport({ ...options, device: target.device }, end, results)
}

/** Derives the report from the measured times. */
export function gemmReport(
  {
    device,
    shapes,
    groupSize,
    zeroPoints,
    grouped,
  }: Pick<GemmOptions, 'device' | 'shapes' | 'groupSize' | 'zeroPoints' | 'grouped'>,
  machine: GemmBenchmarkMachine,
  results: readonly GemmBenchmarkResult[],
): GemmReport {
  const [memoryRate] = medianMinMax(results.map((result) => result.memoryRate))
  return {
    ...measuredMachine(device, machine, memoryRate),
    groupSize,
    zeroPoints,
    grouped: grouped ?? null,
    vendor: machine.vendor || null,
    vendorTeraflops: machine.vendorFlops > 0 ? machine.vendorFlops / 1e12 : null,
    results: results.map((result) => {
      const shape = shapes[result.index] as LinearShape
      const rows = result.rows * (grouped?.perToken ?? 1)
      const flops = 2 * rows * shape.in * shape.outs.reduce((sum, out) => sum + out, 0)
      const vendorSeconds = result.vendorSeconds > 0 ? result.vendorSeconds : null
      return {
        ...shape,
        weights: result.weights,
        bits: result.weights === 'fp8' ? 8 : Number.parseInt(result.weights, 10) || 4,
        rows: result.rows,
        ...measuredPoint(result, result.movedBytes, flops, memoryRate),
        vendorMicroseconds: vendorSeconds && vendorSeconds * 1e6,
        timesVendor: vendorSeconds && vendorSeconds / result.median,
      }
    }),
  }
}
