/**
 * The parts of a decoder that tensor parallelism cuts. On one rank they are what their names say and no more.
 *
 * Between gate/up and down, and between q, k, v and the output projection, every rank has its share of the channels; what
 * comes out of down and output projection is summed over the ranks, so that the residual stream is the same on all of
 * them. Embedding and head are cut along the vocabulary.
 */
import type { LinearSpec, MatrixSpec } from '../native/weights'
import { inputGroup, sliceLinear, splitsAtGroupBoundaries } from '../quantization/linear-slice'
import type { Graph, Value } from './graph'
import { channelCount, type Rank, scaleRuns } from './rank'

/** Channels of an MLP and rows of a vocabulary are cut at multiples of this, which suits every kernel. */
const CHANNEL_TILE = 16

/** The embeddings of the batch's tokens, [tokens, hidden]. */
export function embed(g: Graph, table: MatrixSpec): Value {
  if (g.rank.count === 1) return g.embedding(table)
  const outputs = g.rank.share(table.out, 1, CHANNEL_TILE, table.name)
  // Tokens of other ranks' rows give zeros here.
  return g.allReduce(g.embedding(sliceLinear(table, { outputs }), g.rank.index * channelCount(outputs)), 'residual')
}

/** The logits, [logit rows, vocabulary] on the first rank. */
export function head(g: Graph, x: Value, weight: LinearSpec): Value {
  if (g.rank.count === 1) return g.linear(x, weight, 'logits')
  const shareOf = (rank: Rank) => rank.share(weight.out, 1, CHANNEL_TILE, weight.name)
  const logits = g.linear(x, sliceLinear(weight, { outputs: shareOf(g.rank) }), 'logits')
  return g.gatherOnFirst(logits, weight.out, shareOf)
}

/** down(silu(gate(x)) * up(x)). */
export function gatedMlp(g: Graph, x: Value, gate: LinearSpec, up: LinearSpec, down: LinearSpec): Value {
  if (g.rank.count === 1) return g.linear(g.siluMul(g.linear(x, gate), g.linear(x, up)), down)
  const inputs = g.rank.share(down.in, inputGroup(down), CHANNEL_TILE, down.name)
  const outputs = { outputs: inputs, reader: down }
  const h = g.siluMul(g.linear(x, sliceLinear(gate, outputs)), g.linear(x, sliceLinear(up, outputs)))
  const part = sliceLinear(down, { inputs, inputsInGroupOrder: true, bias: g.rank.isFirst })
  return g.allReduce(g.linear(h, part, 'residual'))
}

/** How many query and key-value heads a layer has, and how wide they are. */
export interface HeadCounts {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
}

/**
 * The projection of the heads' results, of which this rank has `attended`. Where the layer cannot be cut between this
 * rank's heads and the next one's (act-order, or a group of inputs that two ranks share), every rank gets all heads'
 * results and computes its share of the outputs.
 */
export function outputProjection(g: Graph, attended: Value, weight: LinearSpec, counts: HeadCounts): Value {
  if (g.rank.count === 1) return g.linear(attended, weight)
  const { heads, kvHeads, headDim } = counts
  const inputsOf = (rank: Rank) => scaleRuns(rank.heads(heads, kvHeads).queries, headDim)
  if (g.ranks.every((rank) => splitsAtGroupBoundaries(weight, inputsOf(rank)))) {
    const part = sliceLinear(weight, { inputs: inputsOf(g.rank), bias: g.rank.isFirst })
    return g.allReduce(g.linear(attended, part, 'residual'))
  }
  const all = g.gatherOnAll(attended, weight.in, inputsOf)
  const outputsOf = (rank: Rank) => rank.share(weight.out, 1, CHANNEL_TILE, weight.name)
  return g.gatherOnAll(g.linear(all, sliceLinear(weight, { outputs: outputsOf(g.rank) })), weight.out, outputsOf)
}

/** A linear of which every rank has the outputs that its heads, of `headDim` channels each, need. */
export function headsOf(
  linear: LinearSpec,
  rank: Rank,
  heads: readonly { start: number; count: number }[],
  headDim: number,
): LinearSpec {
  return rank.count === 1 ? linear : sliceLinear(linear, { outputs: scaleRuns(heads, headDim) })
}
