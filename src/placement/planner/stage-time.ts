import { ceilDiv } from '../../arithmetic'
import type { PlanDevice } from '../plan'

/** Work of a stage per decoded token. */
export interface StageWork {
  /** Bytes of weights read, once per step for all its tokens. */
  readonly read: number
  /** Operations of its linears per token; a multiply-add is two. */
  readonly operations: number
}

/**
 * Rough number of operations that a device computes in the time it takes to read one byte of weights: a CPU core with
 * AVX-512 reads 25 GB/s and computes 800 GOP/s; an A100 reads 1.9 TB/s and computes 250 TFLOP/s; an H200 4 TB/s and 600
 * TFLOP/s.
 */
const OPERATIONS_PER_BYTE: Readonly<Record<string, number>> = { cpu: 32, cuda: 140 }

/** Tokens per step with all sequences running: each independent device works on a step of its own. */
export function tokensPerStep(devices: readonly PlanDevice[], maxSequences: number): number {
  const processors = new Set(devices.map(({ device }) => (isHost(device) ? 'host' : device)))
  return ceilDiv(maxSequences, Math.max(1, processors.size))
}

/** Whether computing `tokens` tokens takes longer than reading the weights, which all of them share. */
export function isComputeBound({ read, operations }: StageWork, { device }: PlanDevice, tokens: number): boolean {
  return operations * tokens > read * operationsPerByteOn(device)
}

/** Time of a step, in the unit of the device speed: the maximum of reading and computing. */
export function stageTime({ read, operations }: StageWork, { device, speed = 1 }: PlanDevice, tokens: number): number {
  return Math.max(read, (operations * tokens) / operationsPerByteOn(device)) / speed
}

/** Weights on disk are computed on the CPU, which is as fast as memory. */
function operationsPerByteOn(device: string): number {
  return OPERATIONS_PER_BYTE[isHost(device) ? 'cpu' : 'cuda'] as number
}

function isHost(device: string): boolean {
  return device.startsWith('cpu') || device.startsWith('disk')
}
