import { deviceKind } from '../native/device-kind'
import { whole } from '../options/values'
import type { SchedulePolicy } from './schedule'

/**
 * Rows of a step at which a device's arithmetic takes as long as reading the weights, for int4: half a byte a weight
 * against two operations a weight and row.
 *
 * CPU: a core with AVX-512 VNNI reads 25 GB/s and makes some 400 G multiply-adds of 16 bits a second (measured:
 * docs/performance.md), so (0.5 / 25e9) / (1 / 400e9) = 8.
 * CUDA: an H200 reads 4 TB/s and does some 600 TFLOP/s in 16 bits, so (0.5 / 4e12) / (2 / 600e12) = 37; an A100 (1.9
 * TB/s, 250 TFLOP/s) 33; 16-bit weights four times that. Between the two:
 */
const BALANCED_ROWS = { cpu: 8, cuda: 64 }

/** What `microBatches` may be. */
export const microBatchesOption = whole(1, 64)

/**
 * How many steps are under way at a time, and what the schedule has to know of the devices.
 *
 * Devices that work independently of each other are kept busy by a step each. Stages that share a processor (all on the
 * CPU) gain nothing from that: each step would read the weights once more for fewer sequences, so they get one step with
 * all of them.
 * @param devices of the stages
 * @param microBatches the user's wish
 */
export function pipelinePolicy(
  devices: readonly string[],
  microBatches: number | undefined,
): Pick<SchedulePolicy, 'stepsInFlight' | 'balancedRows'> {
  const processors = new Set(devices.map((device) => (deviceKind(device) === 'gpu' ? device : 'host')))
  return {
    stepsInFlight: microBatches ?? processors.size,
    balancedRows: processors.has('host') ? BALANCED_ROWS.cpu : BALANCED_ROWS.cuda,
  }
}
