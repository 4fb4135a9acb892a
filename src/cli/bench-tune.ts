import type { Command } from 'commander'
import { linearShapes } from '../benchmark/shapes'
import { type TuneReport, tuneGemm } from '../benchmark/tune'
import { formatTable } from '../common/format'
import type { TileTime } from '../native/benchmark'
import { benchDevice, pointsBar, TIMES_MEAN_NOTHING, weightBits } from './bench-options'
import { wholeNumber, wholeNumbers } from './options'
import { abortable, printJson, type Terminal } from './terminal'

interface Options {
  readonly device?: string
  readonly shapes: string
  readonly rows: readonly number[]
  readonly bits: readonly number[]
  readonly group: number
  readonly zeros?: boolean
  readonly bfloat16?: boolean
  readonly runs: number
  readonly everyTile?: boolean
  readonly output?: string
  readonly json?: boolean
}

export function addBenchTuneCommand(program: Command, terminal: Terminal): void {
  program
    .command('tune')
    .description('Tune the GEMM for a GPU; models loaded afterwards use the result')
    .option('--device <device>', 'cuda:0, ... (default: the first GPU)')
    .option('--shapes <list>', 'models (qwen2-72b) and OUTxIN (8192x8192), separated by commas', 'qwen2-72b')
    .option(
      '--rows <list>',
      'rows of the input, ascending',
      wholeNumbers(1, '1,16,64'),
      [1, 8, 16, 64, 256, 384, 512, 1024, 2048],
    )
    .option('--bits <list>', 'of the weights: 4, 8 and 16', weightBits, [4, 8, 16])
    .option('--group <inputs>', 'inputs that share a scale; 0 for one scale per row', wholeNumber(), 128)
    .option('--zeros', 'with zero points, as AWQ has them')
    .option('--bfloat16', 'in bfloat16 instead of float16')
    .option('--runs <count>', 'runs per measurement; the median counts', wholeNumber(), 10)
    .option('--every-tile', 'every tile of the kernels, not only the three most promising')
    .option('--output <file>', 'the file for the result (default: where loading looks)')
    .option('--json', 'print JSON only')
    .addHelpText(
      'after',
      `
Measures linears with random weights, by the most promising tiles and by 16-bit panels; --json has the time of every tile
measured. The result goes into a file that loading reads: BILLFISH_CUDA_TUNING, else billfish/cuda-tuning.txt in the cache
directory. It applies to all devices of the same name.

Examples:
  billfish bench tune --device cuda:0
  billfish bench tune --shapes qwen2-7b,4096x4096 --bits 4 --output tuning.txt
  billfish bench tune --every-tile --rows 1,8,16 --json --output tuning.txt >tiles.json`,
    )
    .action((options: Options) => abortable(terminal, (signal) => benchTune(terminal, options, signal)))
}

async function benchTune(terminal: Terminal, options: Options, signal: AbortSignal): Promise<void> {
  const { device, kind } = benchDevice(options.device)
  const { shapes, rows, bits, group, zeros, bfloat16, runs, output } = options
  const bar = options.json ? undefined : pointsBar(terminal)
  let report: TuneReport
  try {
    report = await tuneGemm({
      device,
      shapes: linearShapes(shapes),
      rows,
      bits,
      groupSize: group,
      zeroPoints: zeros === true,
      bfloat16: bfloat16 === true,
      runs,
      everyTile: options.everyTile === true,
      launches: kind === 'emulated' ? 1 : 16,
      file: output,
      signal,
      onProgress: bar?.update,
    })
  } finally {
    bar?.stop()
  }
  if (options.json) printJson(terminal, report)
  else terminal.stdout.write((kind === 'emulated' ? TIMES_MEAN_NOTHING : '') + tuneText(report))
}

/** What is printed for people. */
export function tuneText({ device, machine, file, results }: TuneReport): string {
  const rows = results.map((result) => [
    `${result.out}x${result.in}`,
    String(result.bits),
    String(result.rows),
    result.fusedMicroseconds.toFixed(1),
    tileText(result.tiles[0]),
    result.panelMicroseconds?.toFixed(1) ?? '-',
  ])
  const table = formatTable([['Shape', 'Bits', 'Rows', 'us', 'By tile', 'us by panels'], ...rows], 'lrrrlr')
  return `${device}: ${machine}\n${table}Written to ${file}.\n`
}

/** Tokens, outputs and inputs of a tile. */
function tileText(tile: TileTime | undefined): string {
  return tile ? `${tile.tokens}x${tile.outputs}x${tile.inputs}${tile.bulk ? ' bulk' : ''}` : '-'
}
