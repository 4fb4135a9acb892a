import type { ModelSpec } from './addon'

/** What a benchmark runs on, and in which types; see {@link ModelSpec}. */
interface BenchmarkTarget extends Pick<ModelSpec, 'exact' | 'cacheType' | 'activationType'> {
  readonly device: string
}

export interface GemmBenchmarkSpec extends BenchmarkTarget {
  readonly kind: 'gemm'
  /** Weights on one input that run in one call: rows of each, and inputs. */
  readonly cases: readonly { readonly outs: readonly number[]; readonly in: number }[]
  /** Rows of the input, each measured. */
  readonly rows: readonly number[]
  readonly bits: readonly number[]
  /** Of quantized weights; 0: one scale a row. */
  readonly groupSize: number
  readonly zeroPoints: boolean
}

export interface AttentionBenchmarkSpec extends BenchmarkTarget {
  readonly kind: 'attention'
  readonly cases: readonly {
    readonly heads: number
    readonly kvHeads: number
    readonly headDim: number
    /** 0: none. */
    readonly window: number
    /** Each with `past` positions in the cache and `rows` new ones. */
    readonly sequences: number
    readonly past: number
    readonly rows: number
  }[]
}

export interface BenchmarkTiming {
  /** Of the spec's cases. */
  readonly index: number
  /** Seconds of one call. */
  readonly median: number
  readonly fastest: number
  readonly slowest: number
  /** Bytes a second that plain reading or copying reached just before. */
  readonly memoryRate: number
}

export interface GemmBenchmarkResult extends BenchmarkTiming {
  readonly bits: number
  readonly rows: number
  /** As the device keeps them. */
  readonly weightBytes: number
  /** And the input and output. */
  readonly movedBytes: number
  /** The same in 16 bits with the vendor's library; 0 without one. */
  readonly vendorSeconds: number
}

export interface AttentionBenchmarkResult extends BenchmarkTiming {
  /** Of the keys and values that are read. */
  readonly cacheBytes: number
  readonly multiplications: number
}

export interface BenchmarkMachine {
  readonly name: string
  /** What memoryRate counts. */
  readonly memoryTraffic: 'reading' | 'copying'
  /** False in the emulator. */
  readonly timesMeanSomething: boolean
}

export interface GemmBenchmarkMachine extends BenchmarkMachine {
  /** 'cuBLAS', or empty. */
  readonly vendor: string
  /** The most multiplications and additions a second that its library reached; 0 without one. */
  readonly vendorFlops: number
}

export interface NativeBenchmark<Result, End> {
  /** Once only. */
  run(onResult: (result: Result) => void): Promise<End>
  abort(): void
}

/** A linear to measure: one weight. `groupSize` 0: one scale a row; it counts for 4 and 8 bits. */
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
  /** Runs of which the median counts, and calls that follow each other in each. */
  readonly runs: number
  readonly launches: number
  /** Every tile, or the three that promise most. */
  readonly everyTile: boolean
  /** Ascending. */
  readonly rows: readonly number[]
  readonly shapes: readonly TuneShape[]
  /** What the file of tunings has, or nothing; and how errors call it. */
  readonly table: string
  readonly source: string
}

export interface TuneMeasurement {
  readonly bits: number
  readonly out: number
  readonly in: number
  readonly rows: number
  /** By the fastest tile of the kernel that converts codes as it goes. */
  readonly fusedMicroseconds: number
  /** By weights made into 16 bits first (of 16 bits: by cuBLAS); null where that is not done. */
  readonly panelMicroseconds: number | null
  /** The tiles that were measured, the fastest first. */
  readonly tiles: readonly TileTime[]
}

/** A tile of cuda/gemm/tiles.h. */
export interface TileTime {
  readonly tokens: number
  readonly outputs: number
  readonly inputs: number
  /** Of the kernel with bulk copies (Hopper and later). */
  readonly bulk: boolean
  readonly blocks: number
  readonly microseconds: number
}

/** Told once all is measured. */
export interface Tuning {
  /** The device's own name, which the tuning is for. */
  readonly machine: string
  /** The file of tunings with this one in it. */
  readonly table: string
}

export interface NativeBenchmarkConstructor {
  new (spec: GemmBenchmarkSpec): NativeBenchmark<GemmBenchmarkResult, GemmBenchmarkMachine>
  new (spec: AttentionBenchmarkSpec): NativeBenchmark<AttentionBenchmarkResult, BenchmarkMachine>
  new (spec: TuneSpec): NativeBenchmark<TuneMeasurement, Tuning>
}
