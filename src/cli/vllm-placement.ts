/** How vLLM's command line says where a model goes, in billfish's terms. */
import { BillfishError } from '../common/errors'
import type { CudaDevice } from '../devices'

/**
 * The budgets of `--gpu-memory-utilization`: this share of each GPU's memory, but no more than is free.
 * @throws BillfishError INVALID_OPTION if there is no GPU
 */
export function gpuBudgets(
  share: number,
  gpus: readonly Pick<CudaDevice, 'device' | 'totalBytes' | 'freeBytes'>[],
): Record<string, number> {
  if (gpus.length === 0) {
    const message = '--gpu-memory-utilization is given, but this machine has no usable GPU'
    throw new BillfishError('INVALID_OPTION', `${message}; leave it out, or limit the CPU with --max-memory cpu=SIZE.`)
  }
  return Object.fromEntries(
    gpus.map(({ device, totalBytes, freeBytes }) => [device, Math.floor(Math.min(totalBytes * share, freeBytes))]),
  )
}

/**
 * The device of each stage of `--pipeline-parallel-size`: the first `ranks` devices compute the first stage together, the
 * next ones the second.
 * @param devices to take them from; the GPUs from the first one on if undefined
 * @throws BillfishError INVALID_OPTION for fewer devices than that takes
 */
export function stageDevices(stages: number, ranks: number, devices: readonly string[] | undefined): string[] {
  const needed = stages * ranks
  const own = devices ?? Array.from({ length: needed }, (_, index) => `cuda:${index}`)
  if (own.length !== needed) {
    throw new BillfishError(
      'INVALID_OPTION',
      `--pipeline-parallel-size ${stages} with --tensor-parallel-size ${ranks} takes ${needed} devices, but --devices has ${own.length}. Name ${needed}.`,
    )
  }
  return Array.from({ length: stages }, (_, stage) => own.slice(stage * ranks, (stage + 1) * ranks).join(','))
}
