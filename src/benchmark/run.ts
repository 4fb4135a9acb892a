import type { RunOptions } from '../native/task'
import { deviceName } from '../placement/device-map'
import { activationType, type ModelType, numberFormats } from '../placement/limits'

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
