import type { PlanDevice } from '../plan'

/** What a stage has to do for each token that it decodes. */
export interface StageWork {
  /** Bytes of weights that it reads, for all tokens of a step together. */
  readonly read: number
  /** Operations of its linears for one token; a multiplication and an addition are two. */
  readonly operations: number
}

/**
 * Operations that a device computes in the time in which it reads a byte of weights, roughly: a CPU core with AVX-512
 * reads 25 GB/s and computes 800 G operations a second, an A100 reads 1.9 TB/s and computes 250 T, an H200 4 and 600 T.
 */
const OPERATIONS_PER_BYTE: Readonly<Record<string, number>> = { cpu: 32, cuda: 140 }

/** Tokens of a step with all sequences under way: each device that computes by itself has a step of its own to do. */
export function tokensPerStep(devices: readonly PlanDevice[], maxSequences: number): number {
  const processors = new Set(devices.map(({ device }) => (isHost(device) ? 'host' : device)))
  return Math.ceil(maxSequences / Math.max(1, processors.size))
}

/** Whether computing for so many tokens takes a device longer than reading the weights, which all of them share. */
export function isComputeBound({ read, operations }: StageWork, { device }: PlanDevice, tokens: number): boolean {
  return operations * tokens > read * intensity(device)
}

/** The time that a device takes for a step, in the unit of its speed: reading or computing, whichever takes longer. */
export function stageTime({ read, operations }: StageWork, { device, speed = 1 }: PlanDevice, tokens: number): number {
  return Math.max(read, (operations * tokens) / intensity(device)) / speed
}

/** What reads weights from a disk computes on the CPU, whose speed is the memory's. */
function intensity(device: string): number {
  return OPERATIONS_PER_BYTE[isHost(device) ? 'cpu' : 'cuda'] as number
}

function isHost(device: string): boolean {
  return device.startsWith('cpu') || device.startsWith('disk')
}
