import type { BenchmarkMachine, BenchmarkTiming } from '../native/benchmark'

/** What a benchmark says of the machine, whatever it measures. */
export interface MeasuredMachine {
  readonly device: string
  /** Its name, or the CPU's threads and instruction set. */
  readonly machine: string
  /** False on emulated devices, whose times say nothing. */
  readonly timesMeanSomething: boolean
  /** What memoryGigabytesPerSecond counts: bytes read, or read and written. */
  readonly memoryTraffic: 'reading' | 'copying'
  /** What plain reading or copying reached in this run, measured again and again between the points: the median. */
  readonly memoryGigabytesPerSecond: number
}

/** What a benchmark says of each of its points, whatever it measures. */
export interface MeasuredPoint {
  /** Medians of one call, and the fastest and slowest. */
  readonly microseconds: number
  readonly fastestMicroseconds: number
  readonly slowestMicroseconds: number
  /** What must be read and written, once each. */
  readonly gigabytesPerSecond: number
  readonly teraflops: number
  /** gigabytesPerSecond as a share of the machine's memoryGigabytesPerSecond. */
  readonly ofMemory: number
  /** Multiplications and additions a byte that must be read or written. */
  readonly flopsPerByte: number
}

/** @param memoryRate bytes a second */
export function measuredMachine(
  device: string,
  { name, timesMeanSomething, memoryTraffic }: BenchmarkMachine,
  memoryRate: number,
): MeasuredMachine {
  return { device, machine: name, timesMeanSomething, memoryTraffic, memoryGigabytesPerSecond: memoryRate / 1e9 }
}

/**
 * @param bytes that must be read and written
 * @param flops multiplications and additions
 * @param memoryRate bytes a second
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
