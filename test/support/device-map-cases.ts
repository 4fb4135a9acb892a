import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { InferStrategy } from '../../src/index'

/** A model as accelerate counts it. */
export interface CountedModel {
  readonly config: Record<string, unknown>
  readonly storage: string
  readonly module_sizes: Record<string, number>
  readonly layer0_module_sizes: Record<string, number>
  readonly tied_parameters: string[][]
  readonly no_split_module_classes: string[]
  readonly leaves: { final_modules: number; mean_bytes: number }
}

export interface DeviceMapCase {
  readonly id: string
  readonly model: string
  readonly strategy: InferStrategy
  readonly max_memory: Record<string, number>
  readonly device_map: Record<string, string | number>
}

/** Device maps computed by accelerate for 18 models (with its versions), explicit forms, and maps of a fixed number of layers. */
export const deviceMapCases = JSON.parse(
  readFileSync(join(__dirname, '../fixtures/device_map/cases.json'), 'utf8'),
) as {
  models: Record<string, CountedModel>
  cases: DeviceMapCase[]
  explicit: { form: string | number | Record<string, number>; resolved?: Record<string, string | number> }[]
  layered: {
    num_gpus: number
    num_layers: number
    device_map: Record<string, number>
    qwenlm_utils_device_map: Record<string, number>
  }[]
}
