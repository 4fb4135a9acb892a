import type { Command } from 'commander'
import { type GemmPoint, type GemmReport, type GroupedRows, measureGemm } from '../benchmark/gemm'
import { linearShapes } from '../benchmark/shapes'
import { formatRate, formatTable } from '../common/format'
import type { GemmWeights } from '../native/benchmark'
import { rooflinePicture } from '../pictures/roofline'
import type { ModelType } from '../placement/limits'
import { benchDevice, type DeviceKind, gemmWeights, groupedRows, pointsBar, TIMES_MEAN_NOTHING } from './bench-options'
import { wholeNumber, wholeNumbers } from './options'
import { abortable, printJson, type Terminal, writeOutput } from './terminal'

interface Options {
  readonly device?: string
  readonly shapes?: string
  readonly rows?: readonly number[]
  readonly bits?: readonly GemmWeights[]
  readonly grouped?: GroupedRows
  readonly group: number
  readonly zeros?: boolean
  readonly dtype?: string
  readonly json?: boolean
  readonly svg?: string
}

const DEFAULTS: Readonly<
  Record<DeviceKind, { shapes: string; rows: readonly number[]; bits: readonly GemmWeights[] }>
> = {
  cuda: {
    shapes: 'qwen2-72b,8192x8192',
    rows: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
    bits: ['4', '8', '16'],
  },
  cpu: { shapes: 'qwen2-7b', rows: [1, 4, 16, 64, 256], bits: ['4', '8', '16'] },
  emulated: { shapes: '192x256', rows: [1, 16], bits: ['4', '16'] },
}

export function addBenchGemmCommand(program: Command, terminal: Terminal): void {
  program
    .command('gemm')
    .description('Measure linears against memory bandwidth and, on GPUs, cuBLAS')
    .option('--device <device>', 'cuda:0, cpu, ... (default: the first GPU, else cpu)')
    .option(
      '--shapes <list>',
      'models (qwen2-72b: the linears of a layer, and the head) and OUTxIN (8192x8192), separated by commas',
    )
    .option('--rows <list>', 'rows of the input: 1,16,64', wholeNumbers(1, '1,16,64'))
    .option('--bits <list>', 'of the weights: 4, 8 and 16, or formats of floats: fp8, nvfp4 and mxfp4', gemmWeights)
    .option(
      '--group <inputs>',
      'inputs that share a scale; 0 for one scale per row (FP4 has its own)',
      wholeNumber(),
      128,
    )
    .option('--grouped <list>', 'experts, whose linears the shapes are, and how many a row goes to: 128,8', groupedRows)
    .option('--zeros', 'with zero points, as AWQ has them')
    .option('--dtype <type>', 'float16, bfloat16, or float32 on the CPU (default: float16)')
    .option('--json', 'print JSON only')
    .option('--svg <file>', 'draw a roofline chart')
    .addHelpText(
      'after',
      `
Random weights, rotated through copies that together exceed three times the last-level cache. Medians; GB/s count
weights, input and output, beside what plain copying (on the CPU: reading) reaches in the same run.

Examples:
  billfish bench gemm --device cuda:0 --svg gemm.svg
  billfish bench gemm --device cpu --shapes qwen2-7b,4096x4096 --rows 1,512 --bits 4 --json
  billfish bench gemm --device cuda:0 --shapes 1536x2048,2048x768 --grouped 128,8 --bits 4,fp8`,
    )
    .action((options: Options) => abortable(terminal, (signal) => benchGemm(terminal, options, signal)))
}

async function benchGemm(terminal: Terminal, options: Options, signal: AbortSignal): Promise<void> {
  const { device, kind } = benchDevice(options.device)
  const { shapes, rows, bits } = { ...DEFAULTS[kind], ...options }
  const bar = options.json ? undefined : pointsBar(terminal)
  let report: GemmReport
  try {
    report = await measureGemm({
      device,
      shapes: linearShapes(shapes),
      rows,
      weights: bits,
      groupSize: options.group,
      zeroPoints: options.zeros === true,
      grouped: options.grouped,
      dtype: options.dtype as ModelType | undefined,
      signal,
      onProgress: bar?.update,
    })
  } finally {
    bar?.stop()
  }
  if (options.svg !== undefined) await writeOutput('--svg', options.svg, gemmPicture(report))
  if (options.json) printJson(terminal, report)
  else terminal.stdout.write(gemmText(report))
}

/** What is printed for people. */
export function gemmText(report: GemmReport): string {
  const { vendor } = report
  const rows = report.results.map((point) => [
    point.name,
    point.weights,
    String(point.rows),
    point.microseconds.toFixed(1),
    formatRate(point.gigabytesPerSecond),
    `${(100 * point.ofMemory).toFixed(1)} %`,
    formatRate(point.teraflops),
    ...(vendor ? [point.timesVendor === null ? '-' : `${point.timesVendor.toFixed(2)}x`] : []),
  ])
  const head = ['Shape', 'Weights', 'Rows', 'us', 'GB/s', `Of ${report.memoryTraffic}`, 'TFLOP/s']
  const table = formatTable([[...head, ...(vendor ? [vendor] : [])], ...rows], 'lrrrrrrr'.slice(0, vendor ? 8 : 7))
  return `${machineText(report)}${report.timesMeanSomething ? '' : TIMES_MEAN_NOTHING}\n${table}`
}

function machineText({ device, machine, memoryTraffic, ...report }: GemmReport): string {
  const vendor = report.vendor
    ? `; ${report.vendor} reaches ${report.vendorTeraflops === null ? '-' : formatRate(report.vendorTeraflops)} TFLOP/s`
    : ''
  return `${device}: ${machine}; ${memoryTraffic} moves ${formatRate(report.memoryGigabytesPerSecond)} GB/s${vendor}\n`
}

const weightsText = (weights: GemmWeights) => (/^\d/.test(weights) ? `${weights} bits` : weights.toUpperCase())

function gemmPicture(report: GemmReport): string {
  const names = [...new Set(report.results.map(({ name }) => name))]
  const weights = [...new Set(report.results.map((point) => point.weights))]
  const label = (point: GemmPoint) =>
    `${point.name}, ${weightsText(point.weights)}, ${point.rows} rows: ${formatRate(point.teraflops)} TFLOP/s, ` +
    `${formatRate(point.gigabytesPerSecond)} GB/s, ${point.microseconds.toFixed(1)} us`
  const best = Math.max(...report.results.map(({ teraflops }) => teraflops))
  return rooflinePicture({
    title: `Linears on ${report.machine}`,
    subtitle: report.timesMeanSomething
      ? `medians; weights from memory, ${report.groupSize === 0 ? 'one scale a row' : `groups of ${report.groupSize}`}`
      : 'an emulated device: times mean nothing',
    gigabytesPerSecond: report.memoryGigabytesPerSecond,
    memoryLabel: `${report.memoryTraffic}: ${formatRate(report.memoryGigabytesPerSecond)} GB/s`,
    teraflops: report.vendorTeraflops ?? best,
    rateLabel:
      report.vendorTeraflops === null
        ? `best of this run: ${formatRate(best)} TFLOP/s`
        : `${report.vendor}, 16 bits: ${formatRate(report.vendorTeraflops)} TFLOP/s`,
    colors: weights.map(weightsText),
    marks: names,
    series: names.flatMap((name, mark) =>
      weights.map((kind, color) => ({
        color,
        mark,
        points: report.results
          .filter((point) => point.name === name && point.weights === kind)
          .map((point) => ({ flopsPerByte: point.flopsPerByte, teraflops: point.teraflops, label: label(point) })),
      })),
    ),
  })
}
