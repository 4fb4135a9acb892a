import { asBillfishError } from '../errors'
import { activationType, type ModelType, numberFormats } from '../limits'
import type { NativeBenchmark } from '../native/benchmark'
import { watchedWork } from '../options/progress'
import { deviceName } from '../placement/device-map'

/** Progress and cancellation of a benchmark. */
export interface RunOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the number of measured points and their total. */
  readonly onProgress?: ((done: number, all: number) => void) | undefined
}

export interface BenchmarkOptions extends RunOptions {
  /** `'cpu'`, `'cuda:0'`, or `'emulated:0'` for tests. */
  readonly device: string
  /** Compute dtype; `'float16'` by default. */
  readonly dtype?: ModelType | undefined
}

/** Device and number formats in native form. @throws BillfishError INVALID_OPTION */
export function benchmarkTarget({ device, dtype = 'float16' }: BenchmarkOptions) {
  return { device: deviceName(device), ...numberFormats(dtype), activationType: activationType(dtype, {}) }
}

/**
 * Runs a native benchmark to completion; returns its results and its final report.
 * @param make creates the benchmark; its errors are rethrown
 * @param points number of results
 * @throws BillfishError DEVICE_NOT_FOUND, OUT_OF_MEMORY, and errors of the kernels; the reason of the signal if it
 *   aborts
 */
export async function runBenchmark<Result, End>(
  make: () => NativeBenchmark<Result, End>,
  points: number,
  { signal, onProgress }: RunOptions,
): Promise<{ end: End; results: Result[] }> {
  const results: Result[] = []
  let native: NativeBenchmark<Result, End> | undefined
  const watcher = { signal, onProgress: onProgress && ((done: number) => onProgress(done, points)) }
  const end = await watchedWork(
    watcher,
    () => native?.abort(),
    async (report) => {
      try {
        native = make()
        report(0)
        return await native.run((result) => report(results.push(result)))
      } catch (error) {
        throw asBillfishError(error)
      }
    },
  )
  return { end, results }
}
