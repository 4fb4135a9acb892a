import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { BillfishError } from '../common/errors'
import { addon } from '../native/addon'
import type { TuneMeasurement } from '../native/benchmark'
import { type RunOptions, runTask } from '../native/task'
import { deviceName } from '../placement/device-map'
import type { LinearShape } from './shapes'

export interface TuneOptions extends RunOptions {
  /** A GPU such as `'cuda:0'`, or `'emulated:0'` for tests. */
  readonly device: string
  /** Shapes to measure; each weight is measured on its own. */
  readonly shapes: readonly LinearShape[]
  /** Rows of the input, ascending; panels are measured from 256 rows on. */
  readonly rows: readonly number[]
  /** 4, 8 or 16. */
  readonly bits: readonly number[]
  /** Inputs that share a scale; 0: one scale per row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
  /** bfloat16 instead of float16. */
  readonly bfloat16: boolean
  /** Number of runs (the median counts) and of launches per run. */
  readonly runs?: number
  readonly launches?: number
  /** Measure every tile, for kernel development, instead of the three most promising ones. */
  readonly everyTile?: boolean
  /** Output file; by default the one that loading reads, see `tuningFile()`. */
  readonly file?: string | undefined
}

export interface TuneReport {
  readonly device: string
  /** Name of the device model; the tuning applies to all devices of this name. */
  readonly machine: string
  readonly file: string
  readonly results: readonly TuneMeasurement[]
}

/**
 * The file that models on GPUs read tunings from: BILLFISH_CUDA_TUNING, else `billfish/cuda-tuning.txt` in the cache
 * directory of the user.
 * @throws BillfishError INVALID_OPTION if BILLFISH_CUDA_TUNING is 'off', or the user has no cache directory
 */
function tuningFile(): string {
  const file = addon().tuningPath()
  if (file) return file
  throw new BillfishError(
    'INVALID_OPTION',
    "There is no default tuning file: BILLFISH_CUDA_TUNING is 'off', or neither XDG_CACHE_HOME nor HOME is set. Choose a file with --output.",
  )
}

/**
 * Measures which tile and which multiplication method is fastest on a GPU, and writes the result to the tuning file,
 * where models find it when they are loaded. Tunings of other devices in the file are kept; an aborted run leaves the
 * file unchanged.
 * @throws BillfishError INVALID_OPTION (including an invalid file), DEVICE_NOT_FOUND, OUT_OF_MEMORY; the reason of the
 *   signal if it aborts
 */
export async function tuneGemm(options: TuneOptions): Promise<TuneReport> {
  const { shapes, rows, bits, groupSize, zeroPoints, bfloat16, runs = 10, launches = 16, everyTile = false } = options
  const file = options.file ?? tuningFile()
  const device = deviceName(options.device)
  const weights = shapes.flatMap((shape) => shape.outs.map((out) => ({ out, in: shape.in })))
  const distinct = [...new Map(weights.map((weight) => [`${weight.out}x${weight.in}`, weight])).values()]
  const linears = distinct.flatMap((weight) =>
    bits.map((number) => ({ bits: number, ...weight, groupSize, zeroPoints })),
  )
  const spec = { kind: 'tune', device, bfloat16, runs, launches, everyTile, rows, shapes: linears } as const
  const table = await textOf(file)
  const make = () => new (addon().NativeTask)({ ...spec, table, source: file })
  const { end, results } = await runTask(make, linears.length * rows.length, options)
  await write(file, end.table)
  return { device, machine: end.machine, file, results }
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw new BillfishError('INVALID_OPTION', `The CUDA tuning ${file} cannot be read.`, { cause: error })
  }
}

async function write(file: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  } catch (error) {
    const { message } = error as Error
    throw new BillfishError('INVALID_OPTION', `The CUDA tuning ${file} cannot be written: ${message}.`, {
      cause: error,
    })
  }
}
