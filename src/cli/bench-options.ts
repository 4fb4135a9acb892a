import { InvalidArgumentError } from 'commander'
import type { GroupedRows } from '../benchmark/gemm'
import { devices } from '../devices'
import { GEMM_WEIGHTS, type GemmWeights } from '../native/benchmark'
import { deviceName } from '../placement/device-map'
import { wholeNumbers } from './options'
import { type ProgressBar, progressBar, type Terminal } from './terminal'

/** `4,8,16`: bits of weights, each once. */
export function weightBits(text: string): number[] {
  const bits = wholeNumbers(1, '4,8')(text)
  if (!bits.every((number) => [4, 8, 16].includes(number))) {
    throw new InvalidArgumentError(`Weights have 4, 8 or 16 bits, not ${text}.`)
  }
  return [...new Set(bits)]
}

/** `4,16,nvfp4`: kinds of weights, each once. */
export function gemmWeights(text: string): GemmWeights[] {
  const isKind = (name: string): name is GemmWeights => GEMM_WEIGHTS.includes(name as GemmWeights)
  const kinds = text.split(',').map((name) => name.trim().toLowerCase())
  if (!kinds.every(isKind)) {
    throw new InvalidArgumentError(`Weights have 4, 8 or 16 bits, or are fp8, nvfp4 or mxfp4, not ${text}.`)
  }
  return [...new Set(kinds)]
}

/** `128,8`: experts, and how many of them a row goes to. */
export function groupedRows(text: string): GroupedRows {
  const [experts = 0, perToken = 0, ...rest] = wholeNumbers(1, '128,8')(text)
  if (rest.length > 0 || perToken < 1 || perToken > experts || experts > 4096) {
    throw new InvalidArgumentError(`Give experts, at most 4096, and how many a row goes to: 128,8, not ${text}.`)
  }
  return { experts, perToken }
}

export type DeviceKind = 'cpu' | 'cuda' | 'emulated'

/** The device that an option names, else the first GPU, else the CPU. @throws BillfishError INVALID_OPTION */
export function benchDevice(option: string | undefined): { device: string; kind: DeviceKind } {
  const found = option ?? devices().devices.find(({ kind }) => kind === 'cuda')?.device ?? 'cpu'
  const device = deviceName(found)
  return { device, kind: (/^(cuda|emulated)/.exec(device)?.[1] as DeviceKind | undefined) ?? 'cpu' }
}

/** What `onProgress` of a benchmark takes. */
export function pointsBar(terminal: Terminal): ProgressBar | undefined {
  return progressBar(terminal, 'Measuring {bar} {value} of {total}')
}

/** Said where it is so, whatever was measured. */
export const TIMES_MEAN_NOTHING = 'This is an emulated device: its times mean nothing.\n'
