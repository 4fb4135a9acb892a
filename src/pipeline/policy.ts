import { deviceKind } from '../native/devices'
import { whole } from '../options/values'
import type { SchedulePolicy } from './schedule'

/**
 * Rows per step at which compute time equals the time to read the weights, for int4: half a byte per weight, against
 * two operations per weight and row.
 *
 * CPU: a core with AVX-512 VNNI reads 25 GB/s and computes about 400 G 16-bit multiply-adds per second (measured:
 * docs/performance.md), so (0.5 / 25e9) / (1 / 400e9) = 8.
 * CUDA: an H200 reads 4 TB/s and computes about 600 TFLOP/s in 16 bits, so (0.5 / 4e12) / (2 / 600e12) = 37; an A100
 * (1.9 TB/s, 250 TFLOP/s) 33; with 16-bit weights four times that. The value is in between.
 */
const BALANCED_ROWS = { cpu: 8, cuda: 64 }

/** Valid values of `microBatches`. */
export const microBatchesOption = whole(1, 64)

/**
 * The number of steps in flight, and what the scheduler needs to know about the devices.
 *
 * Each independent device is kept busy with a step of its own. Stages that share a processor (all CPU stages) gain
 * nothing from that, since every step reads the weights again, so they get one step with all sequences.
 * @param devices devices of the stages
 * @param microBatches override by the user
 * @param branches devices of the stages' branches, which compute the steps of their stages
 */
export function pipelinePolicy(
  devices: readonly string[],
  microBatches: number | undefined,
  branches: readonly string[] = [],
): Pick<SchedulePolicy, 'stepsInFlight' | 'balancedRows'> {
  const processorOf = (device: string) => (deviceKind(device) === 'gpu' ? device : 'host')
  const isOnHost = [...devices, ...branches].some((device) => processorOf(device) === 'host')
  return {
    stepsInFlight: microBatches ?? new Set(devices.map(processorOf)).size,
    balancedRows: isOnHost ? BALANCED_ROWS.cpu : BALANCED_ROWS.cuda,
  }
}
