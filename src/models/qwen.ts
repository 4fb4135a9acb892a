import type { LinearSpec } from '../native/weights'
import { sliceLinear } from '../quantization/linear-slice'
import type { Architecture, Model, ModelShape, ModuleNames } from './architecture'
import { eosTokenIds, headOf, SIZE_LIMITS } from './architecture'
import type { ConfigReader } from './config-reader'
import type { Graph, Value, WeightSource } from './graph'
import { channelCount, offsetRuns, type Rank, type RankChannels, scaleRuns } from './rank'
import type { Rope } from './rope'
import { checkRope, plainRope, qwenDynamicRope, ROPE_LIMITS } from './rope'
import { embed, gatedMlp, head, outputProjection } from './tensor-parallel'

const NAMES: ModuleNames = {
  embedding: 'transformer.wte',
  layers: 'transformer.h',
  norm: 'transformer.ln_f',
  head: 'lm_head',
}

/**
 * Qwen v1 (Qwen-7B to Qwen-72B). Unlike its successors it has one fused qkv linear with a bias; intermediate_size
 * counts gate and up together; w2 is the gate and w1 the up projection; the rotary base grows with the prompt (dynamic
 * NTK), and queries are scaled by log-n beyond the trained length.
 */
class QwenModel implements Model {
  readonly names = NAMES
  readonly hasHead: boolean
  readonly kindsOfLayers = [0]
  readonly shape: ModelShape
  readonly #heads: number
  readonly #mlpWidth: number
  readonly #normEps: number
  readonly #rope: Rope
  /** Trained length if log-n attention is enabled, else 0. */
  readonly #logNLength: number

  readonly #source: WeightSource

  constructor(config: ConfigReader, source: WeightSource) {
    this.#source = source

    if (!config.flag('is_causal', true)) throw config.unsupported('is_causal', 'attention to later tokens')
    this.hasHead = headOf(config, source) !== 'none'
    this.#heads = config.count('num_attention_heads', undefined, SIZE_LIMITS.heads)
    const headDim = config.count('kv_channels', 128, SIZE_LIMITS.headDim)
    const doubledWidth = config.count('intermediate_size', undefined, 2 * SIZE_LIMITS.width)
    if (doubledWidth % 2 !== 0) throw config.wrong('intermediate_size', 'even: it counts gate and up together')
    this.#mlpWidth = doubledWidth / 2
    this.#normEps = config.epsilon('layer_norm_epsilon', 1e-6)
    const trainedLength = config.count('seq_length', 2048)
    const rotated = config.positive('rotary_pct', 1) * headDim
    if (rotated > headDim || rotated % 2 !== 0) throw config.wrong('rotary_pct', 'a share of the head of even width')
    const base = config.within(ROPE_LIMITS.base, 'rotary_emb_base', 10000)
    const dynamic = config.flag('use_dynamic_ntk', true)
    this.#rope = checkRope(
      dynamic ? qwenDynamicRope(base, rotated, trainedLength) : plainRope(base, rotated),
      rotated,
      () => config.wrong('rotary_emb_base', 'a base whose powers are normal fp32 numbers'),
    )
    this.#logNLength = config.flag('use_logn_attn', true) ? trainedLength : 0
    this.shape = {
      hiddenSize: config.count('hidden_size', undefined, SIZE_LIMITS.width),
      layers: config.count('num_hidden_layers', undefined, SIZE_LIMITS.layers),
      vocabulary: config.count('vocab_size', undefined, SIZE_LIMITS.vocabulary),
      maxPositions: config.count('max_position_embeddings', Math.max(8192, trainedLength)),
      kvHeads: this.#heads,
      headDim,
      eosTokenIds: eosTokenIds(config),
    }
  }

  embed(g: Graph): Value {
    const { vocabulary, hiddenSize } = this.shape
    return embed(g, this.#source.table(`${this.names.embedding}.weight`, vocabulary, hiddenSize))
  }

  decoderLayer(g: Graph, x: Value, index: number, isLast: boolean): Value {
    const { hiddenSize, headDim } = this.shape
    const all = this.#heads * headDim
    const layer = g.module(`${this.names.layers}.${index}`)

    const h = g.rmsNorm(x, layer.norm('ln_1', hiddenSize), this.#normEps)
    const own = scaleRuns(g.rank.heads(this.#heads, this.#heads).queries, headDim)
    const width = channelCount(own)
    const qkv = g.linear(h, this.#sliceQkv(g.rank, layer.linear('attn.c_attn', 3 * all, hiddenSize, 'required'), own))
    let q = g.rope(g.columns(qkv, 0, width), headDim, this.#rope)
    const k = g.rope(g.columns(qkv, width, width), headDim, this.#rope)
    const v = g.columns(qkv, 2 * width, width)
    if (this.#logNLength > 1) q = g.logNScale(q, this.#logNLength)
    const attended = g.attention(q, k, v, { headDim })
    const counts = { heads: this.#heads, kvHeads: this.#heads, headDim }
    x = g.add(x, outputProjection(g, attended, layer.linear('attn.c_proj', hiddenSize, all), counts))
    if (isLast) x = g.gather(x)

    const m = g.rmsNorm(x, layer.norm('ln_2', hiddenSize), this.#normEps)
    const gate = layer.linear('mlp.w2', this.#mlpWidth, hiddenSize)
    const up = layer.linear('mlp.w1', this.#mlpWidth, hiddenSize)
    return g.add(x, gatedMlp(g, m, gate, up, layer.linear('mlp.c_proj', hiddenSize, this.#mlpWidth)))
  }

  /** The heads of this rank in each third of the fused weight. */
  #sliceQkv(rank: Rank, weight: LinearSpec, own: RankChannels): LinearSpec {
    if (rank.count === 1) return weight
    const third = weight.out / 3
    return sliceLinear(weight, { outputs: [0, 1, 2].flatMap((i) => offsetRuns(own, i * third)) })
  }

  finalNorm(g: Graph, x: Value): Value {
    return g.rmsNorm(x, this.#source.vector(`${this.names.norm}.weight`, [this.shape.hiddenSize]), this.#normEps)
  }

  head(g: Graph, x: Value): Value {
    const { vocabulary, hiddenSize } = this.shape
    return head(g, x, this.#source.linear(this.names.head, vocabulary, hiddenSize, 'none'))
  }

  ropeBase(promptLength: number, length: number): number {
    return this.#rope.baseFor(promptLength, length)
  }
}

export const qwen: Architecture = {
  modelTypes: ['qwen'],
  names: NAMES,
  create: (config, source) => new QwenModel(config, source),
}
