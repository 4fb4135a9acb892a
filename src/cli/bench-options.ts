import { InvalidArgumentError } from 'commander'
import { devices } from '../devices'
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
