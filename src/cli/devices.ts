import type { Command } from 'commander'
import { formatBytes, formatTable, paragraph } from '../common/format'
import { type Devices, devices } from '../devices'
import { printJson, type Terminal, widthOf } from './terminal'

export function addDevicesCommand(program: Command, terminal: Terminal): void {
  program
    .command('devices')
    .description('List the devices that models can be placed on')
    .option('--emulated', 'include the emulated CUDA devices, which are for tests')
    .option('--json', 'print JSON only')
    .addHelpText(
      'after',
      `
Examples:
  billfish devices
  billfish devices --json | jq '.cuda.reason'`,
    )
    .action((options: { readonly json?: boolean; readonly emulated?: boolean }) => {
      const found = devices({ emulated: options.emulated })
      if (options.json) printJson(terminal, found)
      else terminal.stdout.write(describe(found, widthOf(terminal.stdout)))
    })
}

function describe({ devices, cuda, addon, emulator }: Devices, width: number): string {
  const rows = devices.map((device) => [device.device, inWords(device)])
  const versions = `driver ${cuda.driverVersion ?? 'none'}, runtime ${cuda.runtimeVersion ?? 'none'}`
  const libraries = libraryInWords('cuBLAS', cuda.cublas) + libraryInWords('NCCL', cuda.nccl)
  return (
    formatTable(rows, 'll', width) +
    (cuda.available
      ? `CUDA: ${versions}\n${libraries}`
      : paragraph(`No CUDA device: ${cuda.reason ?? 'this build has no CUDA support'}`, width)) +
    `Addon ${cuda.compiled ? 'with' : 'without'} CUDA: ${addon.path}\n` +
    (addon.passedOver === null ? '' : paragraph(addon.passedOver, width)) +
    (emulator?.reason ? paragraph(`No emulated device: ${emulator.reason}`, width) : '')
  )
}

function libraryInWords(name: string, { library, version, reason }: Devices['cuda']['nccl']): string {
  return reason === null ? `${name}: ${version}, ${library}\n` : `No ${name}: ${reason}\n`
}

function inWords(device: Devices['devices'][number]): string {
  if (device.kind === 'cpu') return `${device.cores} cores, ${device.instructionSet}`
  const name = device.kind === 'cuda' ? device.name : 'in the emulator'
  const problem = device.kind === 'cuda' && device.problem !== null ? `, and cannot be used: ${device.problem}` : ''
  const notice = device.codeNotice === null ? '' : `. ${device.codeNotice}`
  return (
    `${name}, compute capability ${device.computeCapability}, ${device.multiprocessors} multiprocessors, ` +
    `${formatBytes(device.freeBytes)} of ${formatBytes(device.totalBytes)} free${problem}${notice}`
  )
}
