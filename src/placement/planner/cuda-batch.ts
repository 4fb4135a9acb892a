/**
 * Bytes of a step's batch on a CUDA device, and of attention's partial results: the twin of cuda/layer/batch.cc and
 * attention_plan.cc.
 */
import type { OperatorSpec, ProgramSpec } from '../../native/addon'

/** The largest batch. */
export interface BatchLimits {
  readonly rows: number
  readonly sequences: number
  /** Entries of all block tables together. */
  readonly tableEntries: number
}

interface AttentionShape {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly window: number
}

/** The shapes of a stage's attention layers, each once. */
function attentionShapes({ operators, cacheLayers }: ProgramSpec): AttentionShape[] {
  const shapes = operators
    .filter((operator): operator is Extract<OperatorSpec, { op: 'attention' }> => operator.op === 'attention')
    .map(({ heads, layer, window }) => ({
      ...(cacheLayers[layer] as { kvHeads: number; headDim: number }),
      heads,
      window,
    }))
  const keys = shapes.map(({ heads, kvHeads, headDim, window }) => [heads, kvHeads, headDim, window].join())
  return shapes.filter((_, i) => keys.indexOf(keys[i] as string) === i)
}

/** Lists one after the other, each from a multiple of 256 bytes on. */
export function batchMemory(program: ProgramSpec, { rows, sequences, tableEntries }: BatchLimits): number {
  const lists = [
    sequences * 32, // spans
    ...[rows, rows, rows, rows].map((count) => count * 4), // tokens, positions, sequence of a row, logit rows
    tableEntries * 4,
  ]
  for (const shape of attentionShapes(program)) {
    const { decodeItems, prefillItems, merges } = attentionCapacity(shape, rows, sequences)
    lists.push(16, decodeItems * 32, merges * 32, prefillItems * 32) // the first: how many of each
  }
  for (const { inverseFrequency } of program.ropes) {
    const half = inverseFrequency.length
    lists.push(sequences * half * 4, half * 4, rows * 2 * half * 4) // frequencies a sequence, its own, table of angles
  }
  return lists.reduce((sum, bytes) => sum + Math.ceil(bytes / 256) * 256, 0)
}

/** Partial results of the layer that needs most: [units of 16 rows][head dim + maximum and sum], fp32. */
export function attentionScratch(program: ProgramSpec): number {
  return Math.max(
    0,
    ...attentionShapes(program).map((shape) => {
      const { partials } = attentionCapacity(shape, 0, 0)
      return partials * shape.kvHeads * decodeTileRows * (shape.headDim + 2) * 4
    }),
  )
}

const decodeTileRows = 16
const prefillTileRows = 64
/** Blocks wanted for all kv heads; a tile is cut into fewer parts than mostSplits. */
const decodeBlocks = 4 * 132
const prefillBlocks = 2 * 132
const mostSplits = 128

/** attention_capacity(): the most that a batch's attention is cut into. */
function attentionCapacity({ heads, kvHeads }: AttentionShape, rows: number, sequences: number) {
  const wanted = (blocks: number) => Math.min(Math.max(Math.floor(blocks / kvHeads), 1), mostSplits - 1)
  const decodePartials = 2 * wanted(decodeBlocks)
  const prefillParts = 2 * wanted(prefillBlocks)
  const prefillPartials = (prefillParts * prefillTileRows) / decodeTileRows
  return {
    decodeItems: sequences + decodePartials,
    prefillItems: Math.ceil((rows * (heads / kvHeads)) / prefillTileRows) + sequences + prefillParts,
    merges: (decodePartials + prefillPartials) / 2,
    partials: decodePartials + prefillPartials,
  }
}
