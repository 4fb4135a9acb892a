/**
 * Decoder parts that tensor parallelism splits. On one rank they reduce to the plain operators.
 *
 * Between gate/up and down, and between q/k/v and the output projection, every rank has its share of the channels. The
 * outputs of down and of the output projection are all-reduced, so the residual stream is identical on all ranks.
 * Embedding and head are split along the vocabulary.
 */
import type { ValueSpec } from '../native/addon'
import type { LinearSpec, MatrixSpec } from '../native/weights'
import { inputGroup, sliceLinear, splitsAtGroupBoundaries } from '../quantization/linear-slice'
import type { Graph, Value } from './graph'
import { channelCount, type Rank, scaleRuns } from './rank'

/** MLP channels and vocabulary rows are split at multiples of this, which suits every kernel. */
export const CHANNEL_TILE = 16

/** Embeds the tokens of the batch: [tokens, hidden]. */
export function embed(g: Graph, table: MatrixSpec): Value {
  if (g.rank.count === 1) return g.embedding(table)
  const outputs = g.rank.share(table.out, 1, CHANNEL_TILE, table.name)
  // Tokens whose rows are on other ranks yield zeros here.
  return g.allReduce(g.embedding(sliceLinear(table, { outputs }), g.rank.index * channelCount(outputs)), 'residual')
}

/** Logits: [logit rows, vocabulary] on the first rank. */
export function head(g: Graph, x: Value, weight: LinearSpec): Value {
  if (g.rank.count === 1) return g.linear(x, weight, 'logits')
  const shareOf = (rank: Rank) => rank.share(weight.out, 1, CHANNEL_TILE, weight.name)
  const logits = g.linear(x, sliceLinear(weight, { outputs: shareOf(g.rank) }), 'logits')
  return g.gatherOnFirst(logits, weight.out, shareOf)
}

/** down(silu(gate(x)) * up(x)). */
export function gatedMlp(g: Graph, x: Value, gate: LinearSpec, up: LinearSpec, down: LinearSpec): Value {
  if (g.rank.count === 1) return gatedMlpOfRank(g, x, gate, up, down, 'activation')
  return g.allReduce(gatedMlpOfRank(g, x, gate, up, down, 'residual'))
}

/** {@link gatedMlp} before the sum over the ranks. */
export function gatedMlpOfRank(
  g: Graph,
  x: Value,
  gate: LinearSpec,
  up: LinearSpec,
  down: LinearSpec,
  kind: ValueSpec['class'],
): Value {
  if (g.rank.count === 1) return g.linear(g.siluMul(g.linear(x, gate), g.linear(x, up)), down)
  const inputs = g.rank.share(down.in, inputGroup(down), CHANNEL_TILE, down.name)
  const outputs = { outputs: inputs, consumer: down }
  const h = g.siluMul(g.linear(x, sliceLinear(gate, outputs)), g.linear(x, sliceLinear(up, outputs)))
  return g.linear(h, sliceLinear(down, { inputs, inputsInGroupOrder: true, bias: g.rank.isFirst }), kind)
}

/** Query and key-value head counts of a layer, and the head dimension. */
export interface HeadCounts {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
}

/**
 * Projects the attention output, of which this rank has `attended`. If the layer cannot be split between the heads of
 * two ranks (act-order, or a quantization group that two ranks share), every rank gathers all heads and computes its
 * share of the outputs.
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

/** Slices a linear to the outputs of the heads of this rank, `headDim` channels each. */
export function sliceHeads(
  linear: LinearSpec,
  rank: Rank,
  heads: readonly { start: number; count: number }[],
  headDim: number,
): LinearSpec {
  return rank.count === 1 ? linear : sliceLinear(linear, { outputs: scaleRuns(heads, headDim) })
}
