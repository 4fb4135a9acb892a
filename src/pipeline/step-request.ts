import type { StepOutput, StepRequest } from '../native/addon'
import type { BlockPool } from './block-pool'
import type { Batch } from './scheduler'
import type { Sequence, SequenceStep } from './sequence'

/** Values per sequence in StepRequest.sequences. */
const SPAN_NUMBERS = 6

/** Sizes of what a step returns. */
export interface OutputShape {
  readonly hiddenSize: number
  /** Number of decoder layers. */
  readonly layers: number
  /** Output values per row: logits, or normed hidden states if the model has no head. */
  readonly outputWidth: number
}

/** Rows and requested results of a sequence in a step. */
interface StepPart {
  readonly sequence: Sequence
  readonly rows: number
  readonly logitRows: number
  /** Rows that are sampled: its last ones. */
  readonly samples: number
}

export interface ComposedStep {
  readonly request: StepRequest
  readonly parts: readonly StepPart[]
}

/** Converts a batch to a native request, after its rows have been scheduled. */
export function composeStep(
  batch: Batch,
  pool: BlockPool,
  ropeBase: (promptLength: number, length: number) => number,
): ComposedStep {
  const total = batch.reduce((sum, { rows }) => sum + rows, 0)
  const tokens = new Int32Array(total)
  const positions = new Int32Array(total)
  const sequences = new Int32Array(batch.length * SPAN_NUMBERS)
  const ropeBases = new Float64Array(batch.length)
  const blockTables: number[] = []
  const logitRows: number[] = []
  const sampling: StepRequest['sampling'][number][] = []
  const parts: StepPart[] = []
  let row = 0
  for (const [i, { sequence, rows, from: past, draft }] of batch.entries()) {
    const { request, scheduled } = sequence
    const known = rows - draft.length
    const blocks = sequence.blocks.slice(0, pool.blocksFor(past + rows))
    sequences.set([row, rows, past, blockTables.length, blocks.length, sequence.slot as number], i * SPAN_NUMBERS)
    blockTables.push(...blocks)
    ropeBases[i] = ropeBase(sequence.promptLength, scheduled)
    for (let j = 0; j < rows; j++) {
      tokens[row + j] = (j < known ? sequence.tokens[past + j] : draft[j - known]) as number
      positions[row + j] = past + j
    }
    const lastRow = row + rows - 1
    const isLast = sequence.pending === 0
    const samples = isLast && request.sampling ? 1 + draft.length : 0
    const wanted = request.wantLogits === true ? rows : request.wantLogits && isLast ? 1 : samples
    for (let r = lastRow - wanted + 1; r <= lastRow; r++) {
      logitRows.push(r)
      const drafted = samples - 1 - (lastRow - r) // tokens of the draft up to this row
      sampling.push(request.sampling && drafted >= 0 ? request.sampling(draft.slice(0, drafted)) : null)
    }
    parts.push({ sequence, rows, logitRows: wanted, samples })
    row += rows
  }
  const request = {
    tokens,
    positions,
    sequences,
    blockTables: Int32Array.from(blockTables),
    ropeBases,
    logitRows: Int32Array.from(logitRows),
    sampling,
    wantLogits: batch.some(({ sequence }) => Boolean(sequence.request.wantLogits)),
    wantHiddenStates: batch.some(({ sequence }) => sequence.request.wantHiddenStates),
    search: batch.some(({ sequence, from }) => from < sequence.searchTo),
  }
  return { request, parts }
}

/**
 * Splits the output of a step into the results of its sequences, in batch order: one of a sequence, and one more for each
 * token of its draft.
 */
export function splitOutput(
  { parts }: ComposedStep,
  output: StepOutput,
  { outputWidth, hiddenSize, layers }: OutputShape,
): SequenceStep[][] {
  let row = 0
  let logitRow = 0
  let sample = 0
  const isNonFinite = (first: number, end: number) => output.nonFiniteRows.some((at) => at >= first && at < end)
  return parts.map(({ sequence: { request }, rows, logitRows, samples }) => {
    const drafted = Math.max(0, samples - 1)
    const firstDrafted = logitRow + logitRows - drafted
    const end = row + rows
    const states = request.wantHiddenStates ? output.hiddenStates : undefined
    const step: SequenceStep = {
      nonFinite: isNonFinite(logitRow, firstDrafted),
      sample: samples > 0 ? output.samples[sample] : undefined,
      logits: request.wantLogits
        ? output.logits?.slice(logitRow * outputWidth, (logitRow + logitRows) * outputWidth)
        : undefined,
      hiddenStates: states?.slice(0, layers + 1).map((state) => state.slice(row * hiddenSize, end * hiddenSize)),
      // The wanted rows are a sequence's last ones.
      normedStates: request.wantLogits
        ? states?.[layers + 1]?.slice((end - logitRows) * hiddenSize, end * hiddenSize)
        : undefined,
    }
    const draft = Array.from({ length: drafted }, (_, i) => ({
      nonFinite: isNonFinite(firstDrafted + i, firstDrafted + i + 1),
      sample: output.samples[sample + 1 + i],
    }))
    sample += samples
    logitRow += logitRows
    row = end
    return [step, ...draft]
  })
}
