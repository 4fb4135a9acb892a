import { z } from 'zod'
import { optionsOf } from '../options/read-options'
import { abortSignal } from '../options/values'
import type { Strategy } from './accelerate/strategy-map'
import type { DeviceMap } from './device-map'
import { type SizeOptions, sizeOptions } from './limits'
import { type DeviceOptions, deviceOptions } from './plan-devices'

/** How to place a model: a {@link DeviceMap}, `'auto'`, or one of accelerate's {@link Strategy | strategies}. */
export type Placement = DeviceMap | 'auto' | Strategy

/** Options of {@link planModel}. */
export interface PlanOptions extends SizeOptions, DeviceOptions {
  /**
   * Default `'auto'`: the split within the budgets whose slowest stage is fastest, over `devices` or the devices of
   * `maxMemory`; without these over all CUDA devices of this machine, or its CPU. `'balanced'`, `'balanced_low_0'` and
   * `'sequential'` place as accelerate does, by the checkpoint's weights alone.
   */
  readonly deviceMap?: Placement | undefined
  /** Cancels the call, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

export const planOptions = optionsOf<PlanOptions>('planModel()', {
  ...sizeOptions,
  ...deviceOptions,
  deviceMap: z
    .union([
      z.string(),
      z.number(),
      z.record(z.string(), z.union([z.string(), z.number()]).describe("a device such as 'cpu', 'cuda:0' or 0")),
    ])
    .describe(
      "'auto', 'balanced', 'balanced_low_0', 'sequential', a device such as 'cpu', 'cuda:0' or 0, or an object of " +
        'modules and their devices',
    ),
  signal: abortSignal(),
})
