import { shown } from '../checkpoint/invalid'
import type { CooperativeTask } from '../common/event-loop'
import { sliceLinear } from '../quantization/linear-slice'
import type { Model, ModelShape, ModuleNames } from './architecture'
import { eosTokenIds, headOf, SIZE_LIMITS } from './architecture'
import type { ConfigReader } from './config-reader'
import { readLayerExperts } from './expert-weights'
import { addSparseMlp, branchOfExperts, type Experts, expertsModule } from './experts'
import { type GatedDeltaNet, gatedDeltaNet, headRuns } from './gated-delta-net'
import type { Graph, Module, Value, WeightSource } from './graph'
import type { RankChannels } from './rank'
import type { Rope } from './rope'
import { ropeFromConfig } from './rope'
import { embed, gatedMlp, head, outputProjection, sliceHeads } from './tensor-parallel'

/** Differences between the members of the family. */
export interface FamilyTraits {
  readonly attentionBias: 'qkv' | 'qkvo' | 'none'
  readonly mlpBias: boolean
  /** RMSNorm of every query and key head before the rotary embedding (Qwen3). */
  readonly headNorm: boolean
  readonly headDim: number
  readonly ropeBase: number
  /** The share of a head that is rotated, if the config does not say; 1 by default. */
  readonly rotatedShare?: number | undefined
  readonly normEps: number
  /** Added to the stored weights of norms; 0 by default. */
  readonly normOffset?: number | undefined
  /** Whether q_proj has a gate of each head behind its query, by whose sigmoid the head's output is multiplied. */
  readonly outputGate?: boolean | undefined
  /** Of hybrids: what most layers have in place of attention. */
  readonly deltaNet?: GatedDeltaNet | undefined
  /** Of models that have them in place of some layers' MLPs. */
  readonly experts?: Experts | undefined
  /** Sliding window of layer i in tokens, or 0 for none. */
  window(layer: number): number
}

export const FAMILY_NAMES: ModuleNames = {
  embedding: 'model.embed_tokens',
  layers: 'model.layers',
  norm: 'model.norm',
  head: 'lm_head',
}

/**
 * The decoder that Llama introduced and Qwen2, Qwen3 and Mistral share: pre-norm, grouped-query attention with rotary
 * embeddings, SwiGLU. The files next to this one say what each of them changes.
 */
export class LlamaFamilyModel implements Model {
  readonly names = FAMILY_NAMES
  readonly hasHead: boolean
  readonly shape: ModelShape
  readonly #heads: number
  readonly #intermediateSize: number | undefined
  readonly #config: ConfigReader
  readonly #tied: boolean
  readonly #rope: Rope

  readonly #source: WeightSource
  readonly #traits: FamilyTraits

  constructor(config: ConfigReader, source: WeightSource, traits: FamilyTraits) {
    this.#source = source
    this.#traits = traits
    this.#config = config

    config.oneOf('hidden_act', ['silu', 'swish'], 'silu')
    this.#heads = config.count('num_attention_heads', undefined, SIZE_LIMITS.heads)
    const kvHeads = config.count('num_key_value_heads', this.#heads, SIZE_LIMITS.heads)
    if (this.#heads % kvHeads !== 0) {
      throw config.wrong('num_key_value_heads', `a divisor of num_attention_heads (${this.#heads})`)
    }
    if (traits.headDim % 2 !== 0) throw config.wrong('head_dim', 'even')
    this.#intermediateSize = config.optionalCount('intermediate_size', SIZE_LIMITS.width)
    const from = headOf(config, source)
    this.#tied = from === 'tied'
    this.hasHead = from !== 'none'
    this.#rope = ropeFromConfig(config, traits.headDim, traits.ropeBase, traits.rotatedShare)
    this.shape = {
      hiddenSize: config.count('hidden_size', undefined, SIZE_LIMITS.width),
      layers: config.count('num_hidden_layers', undefined, SIZE_LIMITS.layers),
      vocabulary: config.count('vocab_size', undefined, SIZE_LIMITS.vocabulary),
      maxPositions: config.count('max_position_embeddings', 2048),
      kvHeads,
      headDim: traits.headDim,
      bidirectional: config.raw.is_causal === null || !config.flag('is_causal', true), // null is false in transformers
      eosTokenIds: eosTokenIds(config),
    }
    if (
      this.shape.bidirectional &&
      Array.from({ length: this.shape.layers }, (_, i) => traits.window(i)).some(Boolean)
    ) {
      throw config.unsupported('is_causal', 'attention to later tokens within a sliding window')
    }
  }

  get hasExperts(): boolean {
    return this.#traits.experts !== undefined
  }

  get hasStates(): boolean {
    return this.#layers.some((layer) => this.#traits.deltaNet?.isRecurrent(layer))
  }

  get kindsOfLayers(): number[] {
    const { experts, deltaNet } = this.#traits
    const firsts = new Map<string, number>()
    for (const layer of this.#layers) {
      const kind = `${experts?.isSparse(layer)} ${deltaNet?.isRecurrent(layer)}`
      if (!firsts.has(kind)) firsts.set(kind, layer)
    }
    return [...firsts.values()]
  }

  get #layers(): number[] {
    return Array.from({ length: this.shape.layers }, (_, layer) => layer)
  }

  embed(g: Graph): Value {
    return embed(g, this.#embeddingTable())
  }

  *readLayer(source: WeightSource, index: number): CooperativeTask<void> {
    const { experts } = this.#traits
    if (!experts?.isSparse(index)) return
    yield* readLayerExperts(source, `${this.names.layers}.${index}`, this.shape.hiddenSize, experts)
  }

  decoderLayer(g: Graph, x: Value, index: number, isLast: boolean): Value {
    const { hiddenSize } = this.shape
    const { mlpBias, normEps, normOffset, experts, deltaNet } = this.#traits
    const layer = g.module(`${this.names.layers}.${index}`)

    const h = g.rmsNorm(x, layer.norm('input_layernorm', hiddenSize, normOffset), normEps)
    const mixed = deltaNet?.isRecurrent(index)
      ? gatedDeltaNet(g, h, layer, deltaNet, { hiddenSize, normEps })
      : this.#attention(g, h, layer, index)
    x = g.add(x, mixed)
    if (isLast) x = g.gather(x)

    const m = g.rmsNorm(x, layer.norm('post_attention_layernorm', hiddenSize, normOffset), normEps)
    if (experts?.isSparse(index)) return addSparseMlp(g, x, m, layer, hiddenSize, experts)
    const width = this.#intermediateSize ?? this.#config.count('intermediate_size')
    const bias = mlpBias ? 'required' : 'none'
    const gate = layer.linear('mlp.gate_proj', width, hiddenSize, bias)
    const up = layer.linear('mlp.up_proj', width, hiddenSize, bias)
    return g.add(x, gatedMlp(g, m, gate, up, layer.linear('mlp.down_proj', hiddenSize, width, bias)))
  }

  expertsOf(index: number): string | undefined {
    return this.#traits.experts?.isSparse(index) ? expertsModule(`${this.names.layers}.${index}`) : undefined
  }

  branchOfExperts(g: Graph, index: number, isLast: boolean): void {
    const { experts } = this.#traits
    if (experts === undefined) throw new Error('a model without experts')
    const layer = g.module(`${this.names.layers}.${index}`)
    branchOfExperts(g, layer, this.shape.hiddenSize, experts, isLast ? 'logits' : 'tokens')
  }

  /** Of the normed hidden states `h`, [tokens, hiddenSize]. */
  #attention(g: Graph, h: Value, layer: Module, index: number): Value {
    const { hiddenSize, kvHeads, headDim } = this.shape
    const { attentionBias, headNorm, normEps, normOffset, outputGate } = this.#traits
    const qkvBias = attentionBias === 'none' ? 'none' : 'required'
    const counts = { heads: this.#heads, kvHeads, headDim }
    const { queries, keys } = g.rank.heads(this.#heads, kvHeads)
    const projection = (name: string, heads: number, share: RankChannels) =>
      g.linear(h, sliceHeads(layer.linear(name, heads * headDim, hiddenSize, qkvBias), g.rank, share, headDim))
    // A gate of headDim rows stands behind the query of every head.
    const queriesAndGates = outputGate
      ? layer.linear('self_attn.q_proj', 2 * this.#heads * headDim, hiddenSize, qkvBias)
      : undefined
    const half = (first: number) =>
      queriesAndGates &&
      g.linear(
        h,
        sliceLinear(queriesAndGates, { outputs: headRuns(queries, headDim, (head) => (2 * head + first) * headDim) }),
      )
    let q = half(0) ?? projection('self_attn.q_proj', this.#heads, queries)
    let k = projection('self_attn.k_proj', kvHeads, keys)
    const v = projection('self_attn.v_proj', kvHeads, keys)
    const gate = half(1)
    if (headNorm) {
      q = g.headNorm(q, layer.norm('self_attn.q_norm', headDim, normOffset), headDim, normEps)
      k = g.headNorm(k, layer.norm('self_attn.k_norm', headDim, normOffset), headDim, normEps)
    }
    q = g.rope(q, headDim, this.#rope)
    k = g.rope(k, headDim, this.#rope)
    const window = this.#traits.window(index)
    const attended = g.attention(q, k, v, { headDim, window, bidirectional: this.shape.bidirectional === true })
    const outputBias = attentionBias === 'qkvo' ? 'required' : 'none'
    const output = layer.linear('self_attn.o_proj', hiddenSize, this.#heads * headDim, outputBias)
    return outputProjection(g, gate ? g.sigmoidMul(attended, gate) : attended, output, counts)
  }

  finalNorm(g: Graph, x: Value): Value {
    const { normOffset, normEps } = this.#traits
    const weight = this.#source.vector(`${this.names.norm}.weight`, [this.shape.hiddenSize])
    return g.rmsNorm(x, normOffset === undefined ? weight : { ...weight, offset: normOffset }, normEps)
  }

  head(g: Graph, x: Value): Value {
    const { vocabulary, hiddenSize } = this.shape
    const weight = this.#tied
      ? this.#embeddingTable()
      : this.#source.linear(this.names.head, vocabulary, hiddenSize, 'none')
    return head(g, x, weight)
  }

  ropeBase(promptLength: number, length: number): number {
    return this.#rope.baseFor(promptLength, length)
  }

  #embeddingTable() {
    return this.#source.table(`${this.names.embedding}.weight`, this.shape.vocabulary, this.shape.hiddenSize)
  }
}

/** head_dim, or hidden_size / num_attention_heads if it is missing. */
export function headDimOf(config: ConfigReader): number {
  const heads = config.count('num_attention_heads', undefined, SIZE_LIMITS.heads)
  const hidden = config.count('hidden_size', undefined, SIZE_LIMITS.width)
  const given = config.optionalCount('head_dim', SIZE_LIMITS.headDim)
  if (given === undefined && hidden % heads !== 0) {
    throw config.wrong('hidden_size', `a multiple of num_attention_heads (${heads}), as there is no head_dim`)
  }
  return given ?? hidden / heads
}

/**
 * Sliding window per layer: from `layer_types` if present, else on all layers from `firstLayer` on, if there is a
 * window at all.
 */
export function slidingWindow(config: ConfigReader, enabled: boolean, firstLayer: number): (layer: number) => number {
  const types = layerTypes(config)
  const none = config.raw.sliding_window
  if (!enabled || none == null || none === 0 || none === -1) {
    if (!types?.includes('sliding_attention')) return () => 0
    const reason = enabled ? `sliding_window is ${shown(none)}` : 'use_sliding_window is not true'
    throw config.wrong('layer_types', `without sliding_attention, as ${reason}`)
  }
  const window = config.count('sliding_window')
  if (types) return (layer) => (types[layer] === 'sliding_attention' ? window : 0)
  return (layer) => (layer >= firstLayer ? window : 0)
}

/** One type per layer, if config.json has them. */
function layerTypes(config: ConfigReader): readonly string[] | undefined {
  const types: unknown = config.raw.layer_types
  if (types == null) return undefined
  const layers = config.count('num_hidden_layers', undefined, SIZE_LIMITS.layers)
  if (!Array.isArray(types) || types.length !== layers) {
    throw config.wrong('layer_types', `a list of ${layers}, one for each layer`)
  }
  if (!types.every((type) => type === 'full_attention' || type === 'sliding_attention')) {
    throw config.unsupported('layer_types', 'layers of another type than full_attention and sliding_attention')
  }
  return types as string[]
}

/** {@link slidingWindow} as Qwen configs enable it: use_sliding_window, from layer max_window_layers on. */
export function qwenSlidingWindow(config: ConfigReader): (layer: number) => number {
  const enabled = config.flag('use_sliding_window', false)
  return slidingWindow(config, enabled, enabled ? config.index('max_window_layers', 28) : 0)
}
