import { BillfishError } from '../common/errors'
import type { GatheredPiece, OperatorSpec, ProgramSpec, RopeSpec, ValueSpec } from '../native/addon'
import type { ExpertsSpec, LinearSpec, MatrixSpec, TensorRef, VectorSpec, WeightSpec } from '../native/weights'
import { ZEROS } from '../quantization/padding'
import { fuse } from './program'
import { Rank, type RankChannels } from './rank'

/** What stored tensors say of a model, whatever its config says. */
export interface StoredLayout {
  /** The directory, for messages. */
  readonly where: string
  /** Decoder layers, up to the last one of which there is a tensor. */
  readonly layers: number
  /** What layers are called: layer i is `${layersName}.${i}`. */
  readonly layersName: string
  /** Names within a layer, such as `mlp.up_proj.weight`, and the first tensor that has each of them. */
  readonly layerTensors: ReadonlyMap<string, string>
  /** Whether there is a head of its own. */
  readonly head: boolean
}

/** Where a model's weights come from: an opened checkpoint, or anything that knows their names and shapes. */
export interface WeightSource {
  /** Only of a checkpoint. */
  readonly layout?: StoredLayout | undefined
  linear(module: string, outFeatures: number, inFeatures: number, bias: 'required' | 'none' | 'optional'): LinearSpec
  vector(tensor: string, shape: readonly number[]): VectorSpec
  table(tensor: string, rows: number, width: number): MatrixSpec
  /** The tensor of this name, if a checkpoint stores one. */
  find(tensor: string): TensorRef | undefined
}

/** A value of the traced program: a matrix of one row a token (or a logit row) and `width` columns. */
export class Value {
  #used = false

  readonly #index: number

  constructor(
    index: number,
    readonly width: number,
    readonly rows: 'tokens' | 'logits',
  ) {
    this.#index = index
  }

  /** The value's number; fails once an operator has overwritten it. */
  get id(): number {
    if (this.#used)
      throw new BillfishError('INTERNAL', `Value ${this.#index} of a model is used after it was overwritten.`)
    return this.#index
  }

  /** The same place with new contents: this handle must not be used any more. */
  overwritten(): Value {
    const next = new Value(this.id, this.width, this.rows)
    this.#used = true
    return next
  }
}

/**
 * Traces the part of a model that one stage computes. A model's definition calls these methods in the order of its
 * forward pass; the outcome is a program that the native side checks and runs once a step.
 *
 * Operators that work in place (rope, add, ...) return a new handle and invalidate the one that they were given, so
 * that a definition which reads a value after it was overwritten fails here and not in its numbers.
 */
export class Graph {
  readonly weights: WeightSpec[] = []
  readonly #weightIndices = new Map<string, number>()
  readonly #values: ValueSpec[] = []
  readonly #ropes: RopeSpec[] = []
  readonly #ropeIndices = new Map<RopeSpec, number>()
  readonly #cacheLayers: { kvHeads: number; headDim: number }[] = []
  readonly #stateLayers: { width: number }[] = []
  readonly #operators: OperatorSpec[] = []
  #inputId: number | undefined

  constructor(
    readonly source: WeightSource,
    /** The rank that is traced, of those that share the stage. */
    readonly rank: Rank = Rank.only,
    /** Modules that a branch of the stage computes on another device, and its link. */
    readonly links: ReadonlyMap<string, number> = new Map(),
  ) {}

  /** All ranks of the stage. */
  get ranks(): Rank[] {
    return Array.from({ length: this.rank.count }, (_, index) => new Rank(index, this.rank.count))
  }

  /** A view of the weights below `prefix`: `layer.linear('mlp.up_proj', ...)`. */
  module(prefix: string): Module {
    return new Module(this.source, prefix)
  }

  /** The hidden states that the stage before hands over, [rows, width]. */
  input(width: number, rows: Value['rows'] = 'tokens'): Value {
    const value = this.#newValue(width, rows, 'residual')
    this.#inputId = value.id
    return value
  }

  /** The rows of `table` that the batch's token ids name, [tokens, hidden]. Its first row is that of token `first`. */
  embedding(table: MatrixSpec, first = 0): Value {
    const out = this.#newValue(table.in, 'tokens', 'residual')
    this.#operators.push({ op: 'embedding', table: this.#weight(table), first, out: out.id })
    return out
  }

  /** x / sqrt(mean(x^2) + eps) * weight. */
  rmsNorm(x: Value, weight: VectorSpec, eps: number): Value {
    const out = this.#newValue(x.width, x.rows, 'activation')
    this.#operators.push({ op: 'rmsNorm', x: x.id, weight: this.#weight(weight), width: x.width, eps, out: out.id })
    return out
  }

  /** {@link rmsNorm} over every head of `headDim` columns by itself. In place. */
  headNorm(x: Value, weight: VectorSpec, headDim: number, eps: number): Value {
    this.#operators.push({ op: 'rmsNorm', x: x.id, weight: this.#weight(weight), width: headDim, eps, out: x.id })
    return x.overwritten()
  }

  /**
   * (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, over every row, [x.rows, x.width]. `weight` and `bias` have
   * x.width elements each; not every model has a bias.
   */
  layerNorm(x: Value, weight: VectorSpec, bias: VectorSpec | undefined, eps: number): Value {
    const out = this.#newValue(x.width, x.rows, 'activation')
    const weights = { weight: this.#weight(weight), bias: bias && this.#weight(bias) }
    this.#operators.push({ op: 'layerNorm', x: x.id, ...weights, eps, out: out.id })
    return out
  }

  /** x * W^T + bias. */
  linear(x: Value, weight: LinearSpec, kind: ValueSpec['class'] = 'activation'): Value {
    const out = this.#newValue(weight.out, x.rows, kind)
    this.#operators.push({ op: 'linear', x: x.id, targets: [{ weight: this.#weight(weight), out: out.id }] })
    return out
  }

  /** Columns [start, start + width) of `x`, without a copy. */
  columns(x: Value, start: number, width: number): Value {
    return this.#newValue(width, x.rows, 'activation', { of: x.id, start })
  }

  /** Rotary position embedding of every head of `headDim` columns, NeoX style. In place. */
  rope(x: Value, headDim: number, rope: RopeSpec): Value {
    let index = this.#ropeIndices.get(rope)
    if (index === undefined) {
      index = this.#ropes.push({ inverseFrequency: rope.inverseFrequency, scale: rope.scale }) - 1
      this.#ropeIndices.set(rope, index)
    }
    this.#operators.push({ op: 'rope', x: x.id, heads: x.width / headDim, headDim, rope: index })
    return x.overwritten()
  }

  /** Qwen v1's log-n attention: rows at 1-based positions p > length are multiplied by log(p) / log(length). In place. */
  logNScale(x: Value, length: number): Value {
    this.#operators.push({ op: 'logNScale', x: x.id, length })
    return x.overwritten()
  }

  /**
   * Attention over the sequence's paged KV cache, into which `k` and `v` are written first. Query heads share kv heads in
   * order (GQA). A `window` w lets position i see keys j with i - w < j <= i; where it is `bidirectional`, it sees all.
   */
  attention(
    q: Value,
    k: Value,
    v: Value,
    options: { headDim: number; scale?: number; window?: number | undefined; bidirectional?: boolean },
  ): Value {
    const { headDim, scale = 1 / Math.sqrt(headDim), window = 0 } = options
    const bidirectional = options.bidirectional ? 1 : 0
    const out = this.#newValue(q.width, 'tokens', 'activation')
    const layer = this.#cacheLayers.push({ kvHeads: k.width / headDim, headDim }) - 1
    const heads = q.width / headDim
    const mask = { window, bidirectional } as const
    this.#operators.push({ op: 'attention', q: q.id, k: k.id, v: v.id, out: out.id, layer, heads, scale, ...mask })
    return out
  }

  /**
   * silu of a convolution over the sequence's last `taps` tokens, of every column by itself, [tokens, x.width]. `weight`
   * is [x.width, taps]; its last column meets the current token, and tokens before the sequence's first are zeros.
   */
  causalConv(x: Value, weight: VectorSpec, taps: number): Value {
    const out = this.#newValue(x.width, 'tokens', 'activation')
    const state = this.#stateLayers.push({ width: x.width * (taps - 1) }) - 1
    this.#operators.push({ op: 'causalConv', x: x.id, weight: this.#weight(weight), out: out.id, state, taps })
    return out
  }

  /**
   * The gated delta rule (arXiv 2412.06464), [tokens, v.width]: a recurrent state [key dim, value dim] of each of `heads`
   * value heads, which share the `keyHeads` heads of q and k in order. `a` and `b`, [tokens, heads], gate its decay and
   * what it learns of a token; `bias` is added to `a`, `logDecay` is the log of the decay's rate, [heads] each.
   */
  gatedDeltaRule(
    { q, k, v, a, b }: Readonly<Record<'q' | 'k' | 'v' | 'a' | 'b', Value>>,
    { bias, logDecay }: Readonly<Record<'bias' | 'logDecay', VectorSpec>>,
    heads: number,
    keyHeads: number,
  ): Value {
    const out = this.#newValue(v.width, 'tokens', 'activation')
    const state = this.#stateLayers.push({ width: (q.width / keyHeads) * v.width }) - 1
    const inputs = { q: q.id, k: k.id, v: v.id, a: a.id, b: b.id }
    const weights = { bias: this.#weight(bias), logDecay: this.#weight(logDecay) }
    this.#operators.push({ op: 'gatedDeltaRule', ...inputs, ...weights, out: out.id, state, heads, keyHeads })
    return out
  }

  /** silu(gate) * up, in place of `gate`. */
  siluMul(gate: Value, up: Value): Value {
    this.#operators.push({ op: 'siluMul', gate: gate.id, up: up.id })
    return gate.overwritten()
  }

  /** x * sigmoid(gate), in place of `x`; a `gate` of one column is that of its whole row. */
  sigmoidMul(x: Value, gate: Value): Value {
    this.#operators.push({ op: 'sigmoidMul', x: x.id, gate: gate.id })
    return x.overwritten()
  }

  /**
   * Sends every token to the `topK` experts with the largest of its logits, [tokens, experts]; their weights are the
   * softmax over all experts, divided by its sum over the chosen ones if `normalize`.
   */
  route(logits: Value, topK: number, normalize: boolean): Value {
    const out = this.#newValue(2 * topK, logits.rows, 'logits')
    this.#operators.push({ op: 'route', x: logits.id, out: out.id, topK, normalize: normalize ? 1 : 0 })
    return out
  }

  /**
   * x * W^T + bias with the weights of the experts that a token is routed to, [tokens, topK * out]. `x` is [tokens, in],
   * or [tokens, topK * in] with a row for each of them. `weights` have experts from number `first` on; others give zeros.
   */
  groupedLinear(x: Value, routing: Value, weights: readonly ExpertsSpec[], first = 0): Value[] {
    const outs = weights.map((weight) => this.#newValue((routing.width / 2) * weight.out, x.rows, 'activation'))
    const targets = weights.map((weight, i) => ({ weight: this.#weight(weight), out: (outs[i] as Value).id }))
    this.#operators.push({ op: 'groupedLinear', x: x.id, routing: routing.id, targets, first })
    return outs
  }

  /** The sum of what the experts of a token give, [tokens, topK * width], each times its weight. */
  combine(x: Value, routing: Value, kind: ValueSpec['class'] = 'activation'): Value {
    const out = this.#newValue(x.width / (routing.width / 2), x.rows, kind)
    this.#operators.push({ op: 'combine', x: x.id, routing: routing.id, out: out.id })
    return out
  }

  /** x + y, in place of `x`. */
  add(x: Value, y: Value): Value {
    this.#operators.push({ op: 'add', x: x.id, y: y.id })
    return x.overwritten()
  }

  /** The rows whose logits are wanted, [logit rows, width]. */
  gather(x: Value): Value {
    const out = this.#newValue(x.width, 'logits', 'residual')
    this.#operators.push({ op: 'gather', x: x.id, out: out.id })
    return out
  }

  /** The sum of all ranks' `x`. */
  allReduce(x: Value, kind: ValueSpec['class'] = 'activation'): Value {
    const out = this.#newValue(x.width, x.rows, kind)
    this.#operators.push({ op: 'allReduce', x: x.id, out: out.id })
    return out
  }

  /** A value of `width` columns, of which every rank's `x` has its share, zeros among them left out. */
  gatherOnAll(x: Value, width: number, shareOf: (rank: Rank) => RankChannels): Value {
    const out = this.#newValue(width, x.rows, 'activation')
    this.#operators.push({ op: 'allGather', x: x.id, out: out.id, pieces: this.#pieces(shareOf) })
    return out
  }

  /** {@link gatherOnAll} for logits, which the first rank alone needs; the others' `x` is returned as it is. */
  gatherOnFirst(x: Value, width: number, shareOf: (rank: Rank) => RankChannels): Value {
    const pieces = this.#pieces(shareOf)
    if (!this.rank.isFirst) {
      this.#operators.push({ op: 'allGather', x: x.id, pieces })
      return x
    }
    const out = this.#newValue(width, x.rows, 'logits')
    this.#operators.push({ op: 'allGather', x: x.id, out: out.id, pieces })
    return out
  }

  #pieces(shareOf: (rank: Rank) => RankChannels): GatheredPiece[] {
    return this.ranks.flatMap((rank) => {
      let from = 0
      return shareOf(rank).flatMap(({ start, count }) => {
        const piece = { rank: rank.index, from, to: start, count }
        from += count
        return start === ZEROS ? [] : [piece]
      })
    })
  }

  /**
   * Makes the rows of `x` available as hidden state `index` of a forward pass that asks for hidden states. If they are
   * those whose logits are wanted, the other tokens have zeros there.
   */
  tap(x: Value, index: number): void {
    if (this.rank.isFirst) this.#operators.push({ op: 'tap', x: x.id, index })
  }

  /** Hands `x` to the other end of a link, where it is received as the columns from `at` on. */
  send(x: Value, link: number, at: number): void {
    this.#operators.push({ op: 'send', x: x.id, link, at })
  }

  /** What the other end of a link sends as its columns from `at` on, [rows, width]. */
  receive(width: number, rows: Value['rows'], kind: ValueSpec['class'], link: number, at: number): Value {
    const out = this.#newValue(width, rows, kind)
    this.#operators.push({ op: 'receive', out: out.id, link, at })
    return out
  }

  /**
   * The program, whose result is `output`: the model's, unless it `handsOver` to a next stage. Of a branch, which sends
   * what it computes, there is none.
   */
  finish(output?: Value, handsOver = false): ProgramSpec {
    return {
      values: this.#values,
      operators: fuse(this.#operators, this.#values),
      ropes: this.#ropes,
      cacheLayers: this.#cacheLayers,
      stateLayers: this.#stateLayers,
      input: this.#inputId,
      output: output?.id,
      handsOver,
    }
  }

  #newValue(
    width: number,
    rows: 'tokens' | 'logits',
    kind: ValueSpec['class'],
    view?: { of: number; start: number },
  ): Value {
    const index = this.#values.push({ width, rows, class: kind, view }) - 1
    return new Value(index, width, rows)
  }

  #weight(spec: WeightSpec): number {
    // A tied head and its embedding are one weight where they share a stage; parts of a stored linear are several.
    const outputs = (spec.kind === 'matrix' || spec.kind === 'quantized') && spec.part?.outputs
    const key = `${spec.kind} ${spec.name} ${outputs ? JSON.stringify(outputs) : ''}`
    let index = this.#weightIndices.get(key)
    if (index === undefined) {
      index = this.weights.push(spec) - 1
      this.#weightIndices.set(key, index)
    }
    return index
  }
}

/** The weights below one module's name. */
export class Module {
  readonly #source: WeightSource

  constructor(
    source: WeightSource,
    readonly name: string,
  ) {
    this.#source = source
  }

  linear(
    module: string,
    outFeatures: number,
    inFeatures: number,
    bias: 'required' | 'none' | 'optional' = 'none',
  ): LinearSpec {
    return this.#source.linear(`${this.name}.${module}`, outFeatures, inFeatures, bias)
  }

  /** The tensor of this name, if a checkpoint stores one. */
  find(tensor: string): TensorRef | undefined {
    return this.#source.find(`${this.name}.${tensor}`)
  }

  /** The elements of a small tensor, such as a bias, in fp32. */
  vector(tensor: string, shape: readonly number[]): VectorSpec {
    return this.#source.vector(`${this.name}.${tensor}`, shape)
  }

  /** The `weight` of a norm; `offset` is added to what is stored. */
  norm(module: string, width: number, offset = 0): VectorSpec {
    const weight = this.#source.vector(`${this.name}.${module}.weight`, [width])
    return offset === 0 ? weight : { ...weight, offset }
  }

  /** The `bias` of a layer norm. */
  normBias(module: string, width: number): VectorSpec {
    return this.#source.vector(`${this.name}.${module}.bias`, [width])
  }
}
