/** Long computations of the addon, each on a thread of its own: measurements, and comparing padded files. */
import { asBillfishError } from '../common/errors'
import { watchedWork } from '../options/progress'
import type {
  AttentionBenchmarkResult,
  AttentionBenchmarkSpec,
  BenchmarkMachine,
  GemmBenchmarkMachine,
  GemmBenchmarkResult,
  GemmBenchmarkSpec,
  TuneMeasurement,
  TuneSpec,
  Tuning,
} from './benchmark'
import type { PaddingComparison, PaddingSpec } from './padding'

export interface NativeTask<Result, End> {
  /** Once only. */
  run(onResult: (result: Result) => void): Promise<End>
  /** Makes {@link run} reject with ABORTED. */
  abort(): void
}

export interface NativeTaskConstructor {
  new (spec: GemmBenchmarkSpec): NativeTask<GemmBenchmarkResult, GemmBenchmarkMachine>
  new (spec: AttentionBenchmarkSpec): NativeTask<AttentionBenchmarkResult, BenchmarkMachine>
  new (spec: TuneSpec): NativeTask<TuneMeasurement, Tuning>
  new (spec: PaddingSpec): NativeTask<object, PaddingComparison>
}

/** How a task is watched, and ended early. */
export interface RunOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the number of results so far, and of all. */
  readonly onProgress?: ((done: number, all: number) => void) | undefined
}

/**
 * Runs a native task to its end.
 *
 * @param make creates the task; what it throws is thrown, too
 * @param all how many results the task brings
 * @throws BillfishError with the task's own code; the signal's reason once it aborts; what `onProgress` throws, which ends
 *   the task
 */
export async function runTask<Result, End>(
  make: () => NativeTask<Result, End>,
  all: number,
  { signal, onProgress }: RunOptions,
): Promise<{ end: End; results: Result[] }> {
  const results: Result[] = []
  let task: NativeTask<Result, End> | undefined
  const watcher = { signal, onProgress: onProgress && ((done: number) => onProgress(done, all)) }
  const end = await watchedWork(
    watcher,
    () => task?.abort(),
    async (report) => {
      try {
        task = make()
        report(0)
        return await task.run((result) => report(results.push(result)))
      } catch (error) {
        throw asBillfishError(error)
      }
    },
  )
  return { end, results }
}
