/**
 * Gated DeltaNet (arXiv 2412.06464), which hybrids have in place of attention in most layers: a short causal convolution
 * of queries, keys and values, and a recurrent state of fixed size for every value head.
 */
import type { LinearSpec, VectorSpec } from '../native/weights'
import { sliceLinear } from '../quantization/linear-slice'
import { ZEROS } from '../quantization/padding'
import { SIZE_LIMITS } from './architecture'
import type { ConfigReader } from './config-reader'
import type { Graph, Module, Value } from './graph'
import { channelCount, offsetRuns, type RankChannels, scaleRuns } from './rank'
import { outputProjection } from './tensor-parallel'

export interface GatedDeltaNet {
  readonly keyHeads: number
  /** A multiple of `keyHeads`: consecutive value heads share a key head. */
  readonly valueHeads: number
  readonly keyDim: number
  readonly valueDim: number
  /** Tokens that the convolution sees. */
  readonly taps: number
  /**
   * How the input projections are stored. `separate`: `in_proj_qkv`, rows of all queries, keys and values, `in_proj_z`,
   * `in_proj_b`, `in_proj_a`. `by key head`: `in_proj_qkvz` and `in_proj_ba`, rows of one key head after the other's.
   */
  readonly projections: 'separate' | 'by key head'
  /** Whether a layer has it instead of attention. */
  isRecurrent(layer: number): boolean
}

/** Reads what a hybrid's config says of these layers. */
export function readGatedDeltaNet(config: ConfigReader, projections: GatedDeltaNet['projections']): GatedDeltaNet {
  const keyHeads = config.count('linear_num_key_heads', 16, SIZE_LIMITS.heads)
  const valueHeads = config.count('linear_num_value_heads', 32, SIZE_LIMITS.heads)
  if (valueHeads % keyHeads !== 0) {
    throw config.wrong('linear_num_value_heads', `a multiple of linear_num_key_heads (${keyHeads})`)
  }
  const taps = config.count('linear_conv_kernel_dim', 4, MOST_TAPS)
  if (taps < 2) throw config.wrong('linear_conv_kernel_dim', 'at least 2')
  return {
    keyHeads,
    valueHeads,
    keyDim: config.count('linear_key_head_dim', 128, MOST_KEY_DIM),
    valueDim: config.count('linear_value_head_dim', 128, SIZE_LIMITS.headDim),
    taps,
    projections,
    isRecurrent: recurrentLayers(config),
  }
}

/** Limits of the native operators (binding/engine/operators/recurrent.h). */
const MOST_TAPS = 16
const MOST_KEY_DIM = 1024

/** By `layer_types`, or all but every `full_attention_interval`-th. */
function recurrentLayers(config: ConfigReader): (layer: number) => boolean {
  const types: unknown = config.raw.layer_types
  const layers = config.count('num_hidden_layers', undefined, SIZE_LIMITS.layers)
  if (types == null) {
    const interval = config.count('full_attention_interval', 4)
    return (layer) => (layer + 1) % interval !== 0
  }
  if (!Array.isArray(types) || types.length !== layers) {
    throw config.wrong('layer_types', `a list of ${layers}, one for each layer`)
  }
  if (!types.every((type) => type === 'linear_attention' || type === 'full_attention')) {
    throw config.unsupported('layer_types', 'layers of another type than linear_attention and full_attention')
  }
  return (layer) => types[layer] === 'linear_attention'
}

/** Rows of the input projections that belong to a head, by the tensors' layout. */
interface HeadRows {
  readonly qkv: LinearSpec
  readonly z: LinearSpec
  readonly b: LinearSpec
  readonly a: LinearSpec
}

/**
 * The mixer of a layer: of the normed hidden states `h`, [tokens, hiddenSize], to what is added to the residual stream.
 * A rank has some of the key heads and their value heads, as with attention.
 */
export function gatedDeltaNet(
  g: Graph,
  h: Value,
  layer: Module,
  net: GatedDeltaNet,
  { hiddenSize, normEps }: { readonly hiddenSize: number; readonly normEps: number },
): Value {
  const { keyHeads, valueHeads, keyDim, valueDim, taps } = net
  const { queries: values, keys } = g.rank.heads(valueHeads, keyHeads)
  const own = inputProjections(g, layer, net, hiddenSize, keys, values)
  const mixed = g.causalConv(g.linear(h, own.qkv), convolution(g, layer, net, keys, values), taps)
  const z = g.linear(h, own.z)
  // The gates of a state act on all that follows: they stay in fp32.
  const b = g.linear(h, own.b, 'logits')
  const a = g.linear(h, own.a, 'logits')
  const [keyWidth, valueWidth] = [channelCount(keys) * keyDim, channelCount(values) * valueDim]
  const q = g.columns(mixed, 0, keyWidth)
  const k = g.columns(mixed, keyWidth, keyWidth)
  const v = g.columns(mixed, 2 * keyWidth, valueWidth)
  const perHead = (tensor: string): VectorSpec =>
    elementsOf(g, layer.vector(`linear_attn.${tensor}`, [valueHeads]), values)
  const weights = { bias: perHead('dt_bias'), logDecay: perHead('A_log') }
  const read = g.gatedDeltaRule({ q, k, v, a, b }, weights, channelCount(values), channelCount(keys))
  const normed = g.headNorm(read, layer.norm('linear_attn.norm', valueDim), valueDim, normEps)
  const output = layer.linear('linear_attn.out_proj', hiddenSize, valueHeads * valueDim)
  return outputProjection(g, g.siluMul(z, normed), output, { heads: valueHeads, kvHeads: keyHeads, headDim: valueDim })
}

function inputProjections(
  g: Graph,
  layer: Module,
  { keyHeads, valueHeads, keyDim, valueDim, projections }: GatedDeltaNet,
  hiddenSize: number,
  keys: RankChannels,
  values: RankChannels,
): HeadRows {
  const [allKeys, allValues] = [keyHeads * keyDim, valueHeads * valueDim]
  const linear = (name: string, rows: number) => layer.linear(`linear_attn.${name}`, rows, hiddenSize)
  const rows = (stored: LinearSpec, ...runs: readonly RankChannels[]) => sliceLinear(stored, { outputs: runs.flat() })
  if (projections === 'separate') {
    const [qkv, z] = [linear('in_proj_qkv', 2 * allKeys + allValues), linear('in_proj_z', allValues)]
    const [b, a] = [linear('in_proj_b', valueHeads), linear('in_proj_a', valueHeads)]
    if (g.rank.count === 1) return { qkv, z, b, a }
    const [ofKeys, ofValues] = [scaleRuns(keys, keyDim), scaleRuns(values, valueDim)]
    return {
      qkv: rows(qkv, ofKeys, offsetRuns(ofKeys, allKeys), offsetRuns(ofValues, 2 * allKeys)),
      z: rows(z, ofValues),
      b: rows(b, values),
      a: rows(a, values),
    }
  }
  // Of a key head: its query, its key, the values and then the gates z of its value heads; b and a likewise.
  const shared = valueHeads / keyHeads
  const block = 2 * keyDim + 2 * shared * valueDim
  const valueRow = (head: number) => Math.floor(head / shared) * block + 2 * keyDim + (head % shared) * valueDim
  const gateRow = (head: number) => Math.floor(head / shared) * 2 * shared + (head % shared)
  const qkvz = linear('in_proj_qkvz', 2 * allKeys + 2 * allValues)
  const ba = linear('in_proj_ba', 2 * valueHeads)
  return {
    qkv: rows(
      qkvz,
      headRuns(keys, keyDim, (head) => head * block),
      headRuns(keys, keyDim, (head) => head * block + keyDim),
      headRuns(values, valueDim, valueRow),
    ),
    z: rows(
      qkvz,
      headRuns(values, valueDim, (head) => valueRow(head) + shared * valueDim),
    ),
    b: rows(ba, headRuns(values, 1, gateRow)),
    a: rows(
      ba,
      headRuns(values, 1, (head) => gateRow(head) + shared),
    ),
  }
}

/** The taps of this rank's queries, keys and values. They are stored in that order, however the projections are. */
function convolution(
  g: Graph,
  layer: Module,
  { keyHeads, valueHeads, keyDim, valueDim, taps }: GatedDeltaNet,
  keys: RankChannels,
  values: RankChannels,
): VectorSpec {
  const allKeys = keyHeads * keyDim
  const weight = layer.vector('linear_attn.conv1d.weight', [2 * allKeys + valueHeads * valueDim, 1, taps])
  const ofKeys = scaleRuns(keys, keyDim)
  const ofValues = offsetRuns(scaleRuns(values, valueDim), 2 * allKeys)
  return elementsOf(g, weight, scaleRuns([...ofKeys, ...offsetRuns(ofKeys, allKeys), ...ofValues], taps))
}

function elementsOf(g: Graph, vector: VectorSpec, elements: RankChannels): VectorSpec {
  return g.rank.count === 1 ? vector : { ...vector, elements, length: channelCount(elements) }
}

/** The `width` rows of each head, from `rowOf(head)` on. */
export function headRuns(heads: RankChannels, width: number, rowOf: (head: number) => number): RankChannels {
  return heads.flatMap(({ start, count }) =>
    start === ZEROS
      ? [{ start, count: count * width }]
      : Array.from({ length: count }, (_, i) => ({ start: rowOf(start + i), count: width })),
  )
}
