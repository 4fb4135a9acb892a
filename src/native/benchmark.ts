import type { NumberFormats } from './weights'

/** Device and number formats of a benchmark; see {@link NumberFormats}. */
interface BenchmarkTarget extends NumberFormats {
  readonly device: string
}

/** Kinds of weights: bits of integers, 16-bit numbers, or formats of floats. */
export const GEMM_WEIGHTS = ['4', '8', '16', 'fp8', 'nvfp4', 'mxfp4'] as const
export type GemmWeights = (typeof GEMM_WEIGHTS)[number]

export interface GemmBenchmarkSpec extends BenchmarkTarget {
  readonly kind: 'gemm'
  /** Weights that share an input and run in one call: rows of each, and inputs. */
  readonly cases: readonly { readonly outs: readonly number[]; readonly in: number }[]
  /** Rows of the input; each is measured. */
  readonly rows: readonly number[]
  readonly weights: readonly GemmWeights[]
  /** Group size of integers and FP8; 0: one scale per row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
  /** Linears of experts, of which every row goes to `perToken`; both 0: linears of all rows. */
  readonly experts: number
  readonly perToken: number
}

export interface AttentionBenchmarkSpec extends BenchmarkTarget {
  readonly kind: 'attention'
  readonly cases: readonly {
    readonly heads: number
    readonly kvHeads: number
    readonly headDim: number
    /** 0: none. */
    readonly window: number
    /** Sequences, each with `past` cached positions and `rows` new ones. */
    readonly sequences: number
    readonly past: number
    readonly rows: number
  }[]
}

export interface BenchmarkTiming {
  /** Index of the case in the spec. */
  readonly index: number
  /** Seconds per call. */
  readonly median: number
  readonly fastest: number
  readonly slowest: number
  /** Bandwidth of plain reading or copying measured just before, in bytes per second. */
  readonly memoryRate: number
}

export interface GemmBenchmarkResult extends BenchmarkTiming {
  readonly weights: GemmWeights
  readonly rows: number
  /** Size on the device. */
  readonly weightBytes: number
  /** Weights (of experts, those that some row goes to), input and output. */
  readonly movedBytes: number
  /** Time of the vendor library in 16 bits; 0 without one. */
  readonly vendorSeconds: number
}

export interface AttentionBenchmarkResult extends BenchmarkTiming {
  /** Bytes of keys and values read. */
  readonly cacheBytes: number
  readonly multiplications: number
}

export interface BenchmarkMachine {
  readonly name: string
  /** Traffic that memoryRate counts. */
  readonly memoryTraffic: 'reading' | 'copying'
  /** False in the emulator. */
  readonly timesMeanSomething: boolean
}

export interface GemmBenchmarkMachine extends BenchmarkMachine {
  /** 'cuBLAS', or empty. */
  readonly vendor: string
  /** Best FLOP/s of the vendor library; 0 without one. */
  readonly vendorFlops: number
}

/** A linear to measure. `groupSize` 0: one scale per row; ignored for 16 bits. */
export interface TuneShape {
  readonly bits: number
  readonly out: number
  readonly in: number
  readonly groupSize: number
  readonly zeroPoints: boolean
}

export interface TuneSpec {
  readonly kind: 'tune'
  readonly device: string
  readonly bfloat16: boolean
  /** Number of runs (the median counts) and of consecutive launches per run. */
  readonly runs: number
  readonly launches: number
  /** Measure every tile instead of the three most promising ones. */
  readonly everyTile: boolean
  /** Ascending. */
  readonly rows: readonly number[]
  readonly shapes: readonly TuneShape[]
  /** Content of the tuning file, and its name for error messages. */
  readonly table: string
  readonly source: string
}

export interface TuneMeasurement {
  readonly bits: number
  readonly out: number
  readonly in: number
  readonly rows: number
  /** Fastest tile of the kernel that dequantizes on the fly. */
  readonly fusedMicroseconds: number
  /** With weights dequantized to 16-bit panels first (cuBLAS for 16-bit weights); null if not applicable. */
  readonly panelMicroseconds: number | null
  /** Measured tiles, fastest first. */
  readonly tiles: readonly TileTime[]
}

/** A tile of cuda/gemm/tiles.h. */
export interface TileTime {
  readonly tokens: number
  readonly outputs: number
  readonly inputs: number
  /** Whether the kernel uses bulk copies (Hopper and later). */
  readonly bulk: boolean
  readonly blocks: number
  readonly microseconds: number
}

/** Final report of a tuning run. */
export interface Tuning {
  /** Name of the device model that the tuning applies to. */
  readonly machine: string
  /** Content of the tuning file including this run. */
  readonly table: string
}
