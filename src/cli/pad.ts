import type { Command } from 'commander'
import { counted, formatBytes, formatCount, formatTable } from '../common/format'
import { type PadResult, padCheckpoint } from '../padding/pad-checkpoint'
import { type PadProgress, padOptions } from '../padding/pad-options'
import { localCheckpoint } from './checkpoint'
import { numberFor, wholeNumbers } from './options'
import { abortable, printJson, progressBar, type Terminal, widthOf } from './terminal'

interface Options {
  readonly multiple?: readonly number[]
  readonly to?: number
  readonly groupSize?: number
  readonly interleave?: boolean
  readonly dryRun?: boolean
  readonly verify: boolean
  readonly json?: boolean
  readonly quiet?: boolean
}

export function addPadCommand(program: Command, terminal: Terminal): void {
  program
    .command('pad')
    .description('Copy a checkpoint with its MLPs padded, so that any engine can split it for tensor parallelism')
    .argument('<directory>', 'a checkpoint directory, or a model on the Hugging Face Hub')
    .argument('<output>', 'a directory that does not exist yet')
    .option('--multiple <counts>', 'tensor-parallel sizes to pad for: 2,4,8', wholeNumbers(1, '2,4,8'))
    .option(
      '--to <size>',
      'the padded size in channels (default: the smallest that divides)',
      numberFor(padOptions.schemas.to),
    )
    .option(
      '--interleave',
      'put a zero channel after each of the first channels instead of all at the end; for models that will be quantized',
    )
    .option(
      '--group-size <count>',
      'give each GPU whole groups of this many channels, in 16-bit models (default: 128)',
      numberFor(padOptions.schemas.groupSize),
    )
    .option('--dry-run', 'show what would be written, and write nothing')
    .option('--verify', 'compare every padded MLP with the original (default)')
    .option('--no-verify', 'skip the comparison')
    .option('--json', 'print JSON only')
    .option('--quiet', 'no progress bar')
    .addHelpText(
      'after',
      `
The padded model computes the same. Quantized checkpoints keep their format and all of their numbers; their zero channels
can only be interleaved if down projections have act-order or one group. Run the same command again to resume an
interrupted one.

Examples:
  billfish pad Qwen2-72B-Instruct-AWQ Qwen2-72B-Instruct-AWQ-padded --multiple 2,4,8
  billfish pad Qwen2-72B-Instruct Qwen2-72B-Instruct-29696 --multiple 2,4,8 --interleave
  billfish pad ./model ./padded --multiple 2,4 --dry-run`,
    )
    .action((directory: string, output: string, options: Options) =>
      abortable(terminal, async (signal) => {
        const isShown = options.quiet !== true && options.json !== true
        const checkpoint = await localCheckpoint(terminal, directory, options, signal)
        const bar = isShown ? paddingBar(terminal) : undefined
        try {
          const result = await padCheckpoint(checkpoint, output, {
            parallelSizes: options.multiple,
            to: options.to,
            placement: options.interleave ? 'interleaved' : 'tail',
            groupSize: options.groupSize,
            dryRun: options.dryRun,
            verify: options.verify,
            signal,
            onProgress: bar?.update,
          })
          bar?.stop()
          if (options.json) printJson(terminal, result)
          else terminal.stdout.write(describe(result, output, widthOf(terminal.stdout)))
        } finally {
          bar?.stop()
        }
      }),
    )
}

function describe(result: PadResult, output: string, width: number): string {
  const { size, paddedSize, layers, layerCount, multiple, verification } = result
  if (paddedSize === size) {
    return `Nothing to pad: the MLPs' ${formatCount(size)} channels are a multiple of ${formatCount(multiple)} already.\n`
  }
  const place = result.placement === 'tail' ? 'at the end' : 'interleaved with the first ones'
  const rows = [
    ['Channels', `${formatCount(size)} -> ${formatCount(paddedSize)}, a multiple of ${formatCount(multiple)}`],
    ['Zeros', `${formatCount(paddedSize - size)}, ${place}`],
    ['Layers', `${layers}.0-${layerCount - 1}: ${counted(result.paddedTensors, 'tensor')} become larger`],
    ['Size', `${formatBytes(result.bytes)} -> ${formatBytes(result.paddedBytes)} in ${counted(result.files, 'file')}`],
  ]
  if (result.lookAlikes.length > 0) {
    rows.push([
      'Left alone',
      `${counted(result.lookAlikes.length, 'module')} of the same names, such as ${result.lookAlikes[0]}`,
    ])
  }
  if (result.leftOut.length > 0) rows.push(['Not copied', `other weights, not padded: ${result.leftOut.join(', ')}`])
  if (result.links.length > 0) rows.push(['Not copied', `links that lead elsewhere: ${result.links.join(', ')}`])
  if (result.reusedFiles > 0) rows.push(['Kept', `${counted(result.reusedFiles, 'file')} that were finished before`])
  if (verification) {
    const layers = counted(verification.layers, 'layer')
    rows.push(['Verified', `${layers}: every channel the same bit for bit, every added one exactly zero`])
  }
  rows.push(result.written ? ['Written', output] : ['Not written', 'a dry run'])
  return formatTable(rows, 'll', width)
}

function paddingBar(terminal: Terminal) {
  const bar = progressBar(terminal, '{phase} {bar} {percentage}%  {done} of {all}  {eta_formatted} left')
  if (bar === undefined) return undefined
  let current: PadProgress['phase'] | undefined
  return {
    update({ phase, done, total }: PadProgress) {
      if (phase !== current) bar.stop()
      current = phase
      const isWriting = phase === 'writing'
      bar.update(done, total, {
        phase: isWriting ? 'Writing' : 'Verifying',
        done: isWriting ? formatBytes(done) : `${done}`,
        all: isWriting ? formatBytes(total) : counted(total, 'layer'),
      })
    },
    stop: bar.stop,
  }
}
