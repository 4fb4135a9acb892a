/**
 * Exact bytes of what a stage holds on a CUDA device, or an emulated one: the twin of cuda/backend/stage_needs.cu and of
 * the layouts of cuda/gemm and cuda/layer.
 */
import { BillfishError } from '../../errors'
import type { ProgramSpec, StageSpec, ValueSpec } from '../../native/addon'
import { ELEMENT_BYTES, mayHaveOrder, type QuantizedSpec, type WeightSpec } from '../../native/weights'
import { attentionScratch, type BatchLimits, batchMemory } from './cuda-batch'
import type { MemoryLimits, StageMemory } from './stage-memory'

const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple
/** What a stage allocates, and the parts of that, begins at multiples of 256 bytes (DeviceMemory::granularity). */
export const allocated = (bytes: number) => roundUp(bytes, 256)
/** A device gives a stage all its memory at once, in pages of 2 MiB (DeviceArena). */
export const inPages = (bytes: number) => roundUp(bytes, 2 * 2 ** 20)

/** Activations, 16-bit weights and the KV cache are fp16 or bf16; the residual stream and logits are fp32. */
const activationBytes = 2
const residualBytes = 4

/** @throws BillfishError INVALID_OPTION for dtype 'float32' */
export function cudaMemory({ device, program, weights }: StageSpec, limits: MemoryLimits): StageMemory {
  if (limits.exact) {
    throw new BillfishError(
      'INVALID_OPTION',
      `dtype 'float32' is for CPU devices: ${device} computes in 16 bits. Use 'auto', 'float16' or 'bfloat16'.`,
    )
  }
  const positions = limits.blockCount * limits.blockSize
  const kvCache = program.cacheLayers.reduce(
    (sum, { kvHeads, headDim }) => sum + 2 * allocated(positions * kvHeads * headDim * activationBytes),
    0,
  )
  const arenas =
    allocated(program.tokenBytes * limits.maxBatchTokens) + allocated(program.logitBytes * limits.maxLogitRows)
  const batch: BatchLimits = {
    rows: limits.maxBatchTokens,
    sequences: Math.min(limits.maxBatchTokens, limits.blockCount),
    tableEntries: limits.blockCount,
  }
  const buffers =
    arenas +
    allocated(batchMemory(program, batch)) +
    allocated(attentionScratch(program)) +
    linearBuffers(program, weights, limits) +
    outputBuffers(program, limits) +
    allocated(samplerMemory(program, limits))
  return { weights: weights.reduce((sum, weight) => sum + cudaWeight(weight), 0), kvCache, buffers }
}

/** A weight in one block of memory. */
export function cudaWeight(weight: WeightSpec): number {
  switch (weight.kind) {
    case 'vector':
      return allocated(weight.length * 4) // kept as fp32
    case 'matrix': // rows are padded to 64 elements
      return allocated(weight.out * roundUp(weight.in, 64) * activationBytes) + biasMemory(weight)
    case 'quantized':
      return packedMemory(weight)
  }
}

/**
 * The packed layout of cuda/gemm/layout.h: codes, scales, zero points, bias and order. Outputs are padded to strips of
 * 64, the inputs of codes to 128; a group of 96 inputs is kept as three of 32.
 */
function packedMemory(weight: QuantizedSpec): number {
  const { bits, out, in: inputs, groupSize, symmetric, scales } = weight
  const outputs = roundUp(out, 64)
  const packedGroup = groupSize >= inputs ? inputs : groupSize & -groupSize // the power of two in it
  const entries = outputs * Math.ceil(inputs / packedGroup)
  return (
    allocated((outputs * roundUp(inputs, 128) * bits) / 8) +
    allocated(entries * ELEMENT_BYTES[scales.dtype]) +
    (symmetric ? 0 : allocated(entries)) +
    biasMemory(weight) +
    (mayHaveOrder(weight) ? allocated(inputs * 4) : 0)
  )
}

function biasMemory({ out, bias }: Exclude<WeightSpec, { kind: 'vector' }>): number {
  return bias ? allocated(out * 4) : 0
}

/** The workspace of the linears, and a 16-bit copy of an input that the stage has in fp32. */
function linearBuffers(program: ProgramSpec, weights: readonly WeightSpec[], limits: MemoryLimits): number {
  let rows = 0
  let gathered = 0 // inputs of the widest linear whose input is put into another order, or padded
  let panel = 0 // bytes of the largest panel of a weight that is dequantized first
  let narrowed = 0
  for (const operator of program.operators) {
    if (operator.op !== 'linear') continue
    const x = program.values[operator.x] as ValueSpec
    rows = Math.max(rows, rowsOf(x, limits))
    if (x.class !== 'activation') narrowed = Math.max(narrowed, rowsOf(x, limits) * x.width * activationBytes)
    for (const target of operator.targets) {
      const weight = weights[target.weight] as Exclude<WeightSpec, { kind: 'vector' }>
      const ordered = weight.kind === 'quantized' && mayHaveOrder(weight)
      if (ordered || weight.in % 8 !== 0) gathered = Math.max(gathered, weight.in)
      if (weight.kind === 'quantized') panel = Math.max(panel, panelBytes(weight, rowsOf(x, limits)))
    }
  }
  return rows === 0 ? 0 : allocated(linearWorkspace(rows, gathered) + panel) + allocated(narrowed)
}

/** linear_workspace_bytes of cuda/gemm/linear.h: a counter a block, 24 MiB of partial sums, and the gathered input. */
function linearWorkspace(rows: number, gathered: number): number {
  return 1024 * 4 + 24 * 2 ** 20 + rows * roundUp(gathered, 64) * 2
}

/**
 * panel_bytes of cuda/gemm/linear.h: at most 128 MiB, where a step may have 256 rows. Weights that take more are cut
 * into panels of even heights, multiples of 256 outputs (of 64 where 256 do not fit).
 */
function panelBytes({ out, in: inputs }: QuantizedSpec, rows: number): number {
  if (rows < 256) return 0
  const stride = roundUp(inputs, 64)
  const fitting = Math.floor(2 ** 26 / stride)
  const unit = fitting < 256 ? 64 : 256
  const most = Math.floor(fitting / unit) * unit
  if (most === 0) return 0
  const whole = out <= Math.floor(fitting / 64) * 64
  const panelRows = whole ? roundUp(out, 64) : Math.min(roundUp(Math.ceil(out / Math.ceil(out / most)), unit), most)
  return panelRows * stride * activationBytes
}

/**
 * Two buffers of hidden states on their way to the next stage, and an fp32 copy of what the host gets and the stage has
 * in 16 bits: its output, or a hidden state.
 */
function outputBuffers({ values, output, operators }: ProgramSpec, limits: MemoryLimits): number {
  const bytesOf = (value: ValueSpec) => rowsOf(value, limits) * value.width * residualBytes
  const leaving = [output, ...operators.flatMap((operator) => (operator.op === 'tap' ? [operator.x] : []))]
  const widened = leaving.map((id) => values[id] as ValueSpec).filter((value) => value.class === 'activation')
  const last = values[output] as ValueSpec
  return (last.rows === 'tokens' ? 2 * allocated(bytesOf(last)) : 0) + allocated(Math.max(0, ...widened.map(bytesOf)))
}

/**
 * What the last stage's sampler works in (Sampler::Layout of cuda/layer/sampling.cc): requests, changes of logits,
 * answers and alternatives.
 */
function samplerMemory({ values, output }: ProgramSpec, { maxLogitRows }: MemoryLimits): number {
  const { rows, width } = values[output] as ValueSpec
  if (rows !== 'logits') return 0
  const edits = (width + 1024 * maxLogitRows) * 16
  const alternatives = (width + 64 * maxLogitRows) * 8
  return allocated(maxLogitRows * 64) + allocated(edits) + allocated(maxLogitRows * 32) + allocated(alternatives)
}

function rowsOf({ rows }: ValueSpec, limits: MemoryLimits): number {
  return rows === 'tokens' ? limits.maxBatchTokens : limits.maxLogitRows
}
