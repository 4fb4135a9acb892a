import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { BillfishError } from '../errors'
import { addon } from '../native/addon'
import type { TuneMeasurement } from '../native/benchmark'
import { deviceName } from '../placement/device-map'
import { runBenchmark, type Watched } from './run'
import type { LinearShape } from './shapes'

export interface TuneOptions extends Watched {
  /** A GPU such as `'cuda:0'`, or, for tests, `'emulated:0'`. */
  readonly device: string
  /** Each weight of a shape is measured by itself. */
  readonly shapes: readonly LinearShape[]
  /** Rows of the input, ascending; panels are measured from 256 rows on. */
  readonly rows: readonly number[]
  /** 4, 8 or 16. */
  readonly bits: readonly number[]
  /** Inputs that share a scale; 0: one scale a row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
  /** Whether in bfloat16, else in float16. */
  readonly bfloat16: boolean
  /** Runs of which the median counts, and calls in each. */
  readonly runs?: number
  readonly launches?: number
  /** Measure every tile, for those who write kernels; else the three that promise most. */
  readonly everyTile?: boolean
  /** Where to write; without it where loading looks, see `tuningFile()`. */
  readonly file?: string | undefined
}

export interface TuneReport {
  readonly device: string
  /** The device's own name: the tuning is for all of this name. */
  readonly machine: string
  readonly file: string
  readonly results: readonly TuneMeasurement[]
}

/**
 * The file that models on GPUs read tunings from: what `BILLFISH_CUDA_TUNING` names, else
 * `billfish/cuda-tuning.txt` in the user's cache folder.
 * @throws BillfishError INVALID_OPTION where BILLFISH_CUDA_TUNING is 'off', or the user has no folder
 */
export function tuningFile(): string {
  const file = addon().tuningPath()
  if (file) return file
  throw new BillfishError(
    'INVALID_OPTION',
    "Loading reads no tunings: BILLFISH_CUDA_TUNING is 'off', or neither XDG_CACHE_HOME nor HOME is set. Name the file to write with --output.",
  )
}

/**
 * Measures which tiles and which way of multiplying are fastest on a GPU, and writes it into the file of tunings, where
 * models that are loaded from then on find it. Other devices' tunings in the file stay. A tuning that is aborted leaves
 * the file as it was.
 * @throws BillfishError INVALID_OPTION (a file that is none among it), DEVICE_NOT_FOUND, OUT_OF_MEMORY; the
 *   signal's reason once it aborts
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
  const make = () => new (addon().NativeBenchmark)({ ...spec, table, source: file })
  const { end, results } = await runBenchmark(make, linears.length * rows.length, options)
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
