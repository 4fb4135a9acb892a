import type { BenchmarkMachine, BenchmarkTiming } from '../native/benchmark'

/** Machine section of every benchmark report. */
export interface MeasuredMachine {
  readonly device: string
  /** Device name, or the threads and instruction set of the CPU. */
  readonly machine: string
  /** False on emulated devices, whose times are meaningless. */
  readonly timesMeanSomething: boolean
  /** Traffic that memoryGigabytesPerSecond counts: bytes read, or read and written. */
  readonly memoryTraffic: 'reading' | 'copying'
  /** Median bandwidth of plain reading or copying in this run, remeasured between points. */
  readonly memoryGigabytesPerSecond: number
}

/** Section of every benchmark report for one measured point. */
export interface MeasuredPoint {
  /** Median, fastest and slowest time of one call. */
  readonly microseconds: number
  readonly fastestMicroseconds: number
  readonly slowestMicroseconds: number
  /** Minimum traffic, each byte once. */
  readonly gigabytesPerSecond: number
  readonly teraflops: number
  /** gigabytesPerSecond as a fraction of memoryGigabytesPerSecond of the machine. */
  readonly ofMemory: number
  /** Floating-point operations per byte of minimum traffic. */
  readonly flopsPerByte: number
}

/** @param memoryRate bytes per second */
export function measuredMachine(
  device: string,
  { name, timesMeanSomething, memoryTraffic }: BenchmarkMachine,
  memoryRate: number,
): MeasuredMachine {
  return { device, machine: name, timesMeanSomething, memoryTraffic, memoryGigabytesPerSecond: memoryRate / 1e9 }
}

/**
 * @param bytes minimum traffic
 * @param flops floating-point operations
 * @param memoryRate bytes per second
 */
export function measuredPoint(
  { median, fastest, slowest }: BenchmarkTiming,
  bytes: number,
  flops: number,
  memoryRate: number,
): MeasuredPoint {
  return {
    microseconds: median * 1e6,
    fastestMicroseconds: fastest * 1e6,
    slowestMicroseconds: slowest * 1e6,
    gigabytesPerSecond: bytes / median / 1e9,
    teraflops: flops / median / 1e12,
    ofMemory: bytes / median / memoryRate,
    flopsPerByte: flops / bytes,
  }
}

/** Median, lowest and highest. */
export function medianMinMax(values: readonly number[]): [median: number, least: number, most: number] {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number) => sorted[index] as number
  const middle = (sorted.length - 1) / 2
  return [(at(Math.floor(middle)) + at(Math.ceil(middle))) / 2, at(0), at(sorted.length - 1)]
}
