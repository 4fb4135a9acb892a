import { asBillfishError } from '../errors'
import { activationType, type ModelType, numberFormats } from '../limits'
import type { NativeBenchmark } from '../native/benchmark'
import { onAbort } from '../options/signal'
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
  const abort = () => native?.abort()
  let thrown: { error: unknown } | undefined // by onProgress, which stops the benchmark
  const report = () => {
    try {
      if (!thrown) onProgress?.(results.length, points)
    } catch (error) {
      thrown = { error }
      abort()
    }
  }
  signal?.throwIfAborted()
  const stopListening = onAbort(signal, abort)
  try {
    native = make()
    report()
    const end = await native.run((result) => {
      results.push(result)
      report()
    })
    if (thrown) throw thrown
    return { end, results }
  } catch (error) {
    if (thrown) throw (thrown as { error: unknown }).error
    signal?.throwIfAborted() // aborting stops the benchmark
    throw asBillfishError(error)
  } finally {
    stopListening()
  }
}
