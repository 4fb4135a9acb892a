import type { Command } from 'commander'
import { type AttentionCase, type AttentionReport, measureAttention } from '../benchmark/attention'
import { attentionHeads } from '../benchmark/shapes'
import { formatRate, formatTable } from '../common/format'
import type { ModelType } from '../placement/limits'
import { benchDevice, type DeviceKind, pointsBar, TIMES_MEAN_NOTHING } from './bench-options'
import { wholeNumber, wholeNumbers } from './options'
import { abortable, printJson, type Terminal } from './terminal'

interface Options {
  readonly device?: string
  readonly shapes?: string
  readonly sequences?: readonly number[]
  readonly contexts?: readonly number[]
  readonly promptRows?: number
  readonly dtype?: string
  readonly json?: boolean
}

interface Defaults {
  readonly shapes: string
  readonly sequences: readonly number[]
  readonly contexts: readonly number[]
  readonly promptRows: number
}

const DEFAULTS: Readonly<Record<DeviceKind, Defaults>> = {
  cuda: { shapes: 'qwen2-72b,qwen2-7b', sequences: [1, 8, 32], contexts: [1024, 8192, 32768], promptRows: 512 },
  cpu: { shapes: 'qwen2-7b', sequences: [1, 4], contexts: [512, 8192], promptRows: 512 },
  emulated: { shapes: '4/2x64', sequences: [1, 2], contexts: [48], promptRows: 16 },
}

export function addBenchAttentionCommand(program: Command, terminal: Terminal): void {
  program
    .command('attention')
    .description('Measure attention over a paged KV cache against memory bandwidth')
    .option('--device <device>', 'cuda:0, cpu, ... (default: the first GPU, else cpu)')
    .option('--shapes <list>', 'models (qwen2-72b) and HEADS/KVHEADSxWIDTH (64/8x128), separated by commas')
    .option('--sequences <list>', 'sequences decoding at the same time: 1,8,32', wholeNumbers(1, '1,8,32'))
    .option('--contexts <list>', 'cached tokens per sequence: 1024,8192', wholeNumbers(1, '1024,8192'))
    .option('--prompt-rows <count>', 'prompt tokens per step; 0 to skip prompts', wholeNumber())
    .option('--dtype <type>', 'float16, bfloat16, or float32 on the CPU (default: float16)')
    .option('--json', 'print JSON only')
    .addHelpText(
      'after',
      `
For every context: decoding one token per sequence, and a chunk of one sequence's prompt after that many tokens. GB/s
count the keys and values that are read, beside what plain copying (on the CPU: reading) reaches.

Examples:
  billfish bench attention --device cuda:0
  billfish bench attention --device cpu --shapes 64/8x128 --contexts 4096 --json`,
    )
    .action((options: Options) => abortable(terminal, (signal) => benchAttention(terminal, options, signal)))
}

async function benchAttention(terminal: Terminal, options: Options, signal: AbortSignal): Promise<void> {
  const { device, kind } = benchDevice(options.device)
  const cases = attentionCases({ ...DEFAULTS[kind], ...options })
  const bar = options.json ? undefined : pointsBar(terminal)
  let report: AttentionReport
  try {
    const dtype = options.dtype as ModelType | undefined
    report = await measureAttention({ device, cases, dtype, signal, onProgress: bar?.update })
  } finally {
    bar?.stop()
  }
  if (options.json) printJson(terminal, report)
  else terminal.stdout.write(attentionText(report))
}

function attentionCases({ shapes, sequences, contexts, promptRows }: Defaults): AttentionCase[] {
  return attentionHeads(shapes).flatMap((heads) => [
    ...contexts.flatMap((past) => sequences.map((count) => ({ ...heads, sequences: count, past, rows: 1 }))),
    ...(promptRows === 0 ? [] : [0, ...contexts].map((past) => ({ ...heads, sequences: 1, past, rows: promptRows }))),
  ])
}

/** What is printed for people. */
export function attentionText(report: AttentionReport): string {
  const { device, machine, memoryTraffic, memoryGigabytesPerSecond } = report
  const rows = report.results.map((point) => [
    point.name,
    point.rows === 1 ? 'decode' : 'prompt',
    String(point.sequences),
    String(point.past),
    String(point.rows),
    point.microseconds.toFixed(1),
    formatRate(point.gigabytesPerSecond),
    `${(100 * point.ofMemory).toFixed(1)} %`,
    formatRate(point.teraflops),
  ])
  const head = ['Shape', '', 'Sequences', 'Context', 'Rows', 'us', 'GB/s', `Of ${memoryTraffic}`, 'TFLOP/s']
  return (
    `${device}: ${machine}; ${memoryTraffic} moves ${formatRate(memoryGigabytesPerSecond)} GB/s\n` +
    `${report.timesMeanSomething ? '' : TIMES_MEAN_NOTHING}\n${formatTable([head, ...rows], 'llrrrrrrr')}`
  )
}
