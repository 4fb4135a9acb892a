import type { Command } from 'commander'
import { type Devices, devices } from '../devices'
import { formatBytes, formatTable } from './format'
import { printJson, type Terminal } from './terminal'

export function addDevicesCommand(program: Command, terminal: Terminal): void {
  program
    .command('devices')
    .description('Show the devices that models can be placed on')
    .option('--json', 'print JSON, and nothing else, to standard output')
    .addHelpText(
      'after',
      `
Examples:
  billfish devices
  billfish devices --json | jq '.cuda.reason'`,
    )
    .action((options: { readonly json?: boolean }) => {
      const found = devices()
      if (options.json) printJson(terminal, found)
      else terminal.stdout.write(describe(found))
    })
}

function describe({ devices, cuda }: Devices): string {
  const rows = devices.map((device) =>
    device.kind === 'cpu'
      ? [device.device, `${device.cores} cores, ${device.instructionSet}`]
      : [
          device.device,
          `${device.name}, compute capability ${device.computeCapability}, ${device.multiprocessors} multiprocessors, ` +
            `${formatBytes(device.freeBytes)} of ${formatBytes(device.totalBytes)} free`,
        ],
  )
  const versions = `driver ${cuda.driverVersion ?? 'none'}, runtime ${cuda.runtimeVersion ?? 'none'}`
  return (
    formatTable(rows, 'll') +
    (cuda.available ? `CUDA: ${versions}\n` : `No CUDA device: ${cuda.reason ?? 'this build has no CUDA in it'}\n`)
  )
}
