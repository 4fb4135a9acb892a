import { activationType, type ModelType, numberFormats } from '../limits'
import type { NativeBenchmark } from '../native/benchmark'
import { onAbort } from '../options/signal'
import { asBillfishError } from '../pipeline/runner'
import { deviceName } from '../placement/device-map'

/** How measuring is watched, and ended early. */
export interface Watched {
  readonly signal?: AbortSignal | undefined
  /** Called with how many of how many points have been measured. */
  readonly onProgress?: ((done: number, all: number) => void) | undefined
}

export interface BenchmarkOptions extends Watched {
  /** `'cpu'`, `'cuda:0'`, or, for tests, `'emulated:0'`. */
  readonly device: string
  /** In what is computed; `'float16'` by default. */
  readonly dtype?: ModelType | undefined
}

/** Device and number formats as the native side takes them. @throws BillfishError INVALID_OPTION */
export function benchmarkTarget({ device, dtype = 'float16' }: BenchmarkOptions) {
  return { device: deviceName(device), ...numberFormats(dtype), activationType: activationType(dtype, {}) }
}

/**
 * Runs a native benchmark to its end, and returns its results and what it tells then.
 * @param make the benchmark; what it refuses is thrown, too
 * @param points how many results it brings
 * @throws BillfishError DEVICE_NOT_FOUND, OUT_OF_MEMORY, and what kernels refuse; the signal's reason once it aborts
 */
export async function runBenchmark<Result, End>(
  make: () => NativeBenchmark<Result, End>,
  points: number,
  { signal, onProgress }: Watched,
): Promise<{ end: End; results: Result[] }> {
  const results: Result[] = []
  let native: NativeBenchmark<Result, End> | undefined
  const abort = () => native?.abort()
  let thrown: { error: unknown } | undefined // by onProgress, which ends the measuring
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
    signal?.throwIfAborted() // which ends the measuring
    throw asBillfishError(error)
  } finally {
    stopListening()
  }
}
