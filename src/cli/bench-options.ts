import { InvalidArgumentError } from 'commander'
import { devices } from '../devices'
import { deviceName } from '../placement/device-map'
import { type ProgressBar, progressBar } from './progress-bar'
import type { Terminal } from './terminal'

/** `1,16,64`: whole numbers from `least` on. */
export function wholeNumbers(least: number): (text: string) => number[] {
  return (text) =>
    text.split(',').map((part) => {
      const number = Number(part)
      if (/^\s*\d{1,9}\s*$/.test(part) && number >= least) return number
      throw new InvalidArgumentError(`'${part}' is no whole number from ${least} on; write them as 1,16,64.`)
    })
}

/** `4,8,16`: bits of weights, each once. */
export function weightBits(text: string): number[] {
  const bits = text.split(',').map(Number)
  const wrong = bits.find((number) => ![4, 8, 16].includes(number))
  if (wrong !== undefined) throw new InvalidArgumentError(`Weights have 4, 8 or 16 bits, not ${text}.`)
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
export const timesMeanNothing = 'An emulated device: its times mean nothing.\n'
