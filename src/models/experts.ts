/**
 * Mixtures of experts: the MLP of a layer as many small ones, of which a router picks a few for every token. Qwen2-MoE,
 * Qwen3-MoE and their successors differ in how the router's weights are normalized and whether there is a shared expert,
 * which every token goes to.
 */
import { invalidCheckpoint, quoted, unsupportedFormat } from '../checkpoint/invalid'
import { FLOAT_TYPES } from '../checkpoint/tensors'
import { BillfishError } from '../common/errors'
import { ELEMENT_BYTES, type ExpertsSpec, type LinearSpec, type TensorRef } from '../native/weights'
import { inputGroup, sliceLinear } from '../quantization/linear-slice'
import { type ModelOptions, SIZE_LIMITS } from './architecture'
import type { ConfigReader } from './config-reader'
import type { Graph, Module, Value } from './graph'
import type { Rank } from './rank'
import { CHANNEL_TILE, gatedMlpOfRank } from './tensor-parallel'

export interface Experts {
  readonly count: number
  /** Experts that a token goes to. */
  readonly perToken: number
  /** Channels of an expert. */
  readonly width: number
  /** Whether the weights of a token's experts are made to sum to 1. */
  readonly normalize: boolean
  /** Channels of the shared expert; 0: none. */
  readonly sharedWidth: number
  /** Whether a rank has whole experts, instead of a share of the channels of all. */
  readonly parallel: boolean
  /** Whether a layer has experts instead of an MLP. */
  isSparse(layer: number): boolean
}

/** Reads what a family's config says of its experts. */
export function readExperts(
  config: ConfigReader,
  { expertParallel = false }: ModelOptions,
  { normalize, hasSharedExpert }: { readonly normalize: boolean; readonly hasSharedExpert: boolean },
): Experts {
  const key = config.raw.num_experts == null ? 'num_local_experts' : 'num_experts' // as transformers 5 writes it
  const count = config.count(key, undefined, SIZE_LIMITS.experts)
  const layers = config.count('num_hidden_layers', undefined, SIZE_LIMITS.layers)
  const most = Math.floor(SIZE_LIMITS.allExperts / layers)
  if (count > most) throw config.wrong(key, `at most ${most} in ${layers} layers`)
  const perToken = config.count('num_experts_per_tok')
  if (perToken > count) throw config.wrong('num_experts_per_tok', `at most ${key} (${count})`)
  const step = config.count('decoder_sparse_step', 1)
  const dense = denseLayers(config)
  return {
    count,
    perToken,
    width: config.count('moe_intermediate_size', undefined, SIZE_LIMITS.width),
    normalize: config.flag('norm_topk_prob', normalize),
    parallel: expertParallel,
    sharedWidth: hasSharedExpert ? config.count('shared_expert_intermediate_size', undefined, SIZE_LIMITS.width) : 0,
    isSparse: (layer) => !dense.has(layer) && (layer + 1) % step === 0,
  }
}

function denseLayers(config: ConfigReader): ReadonlySet<number> {
  const layers = config.raw.mlp_only_layers ?? []
  if (!Array.isArray(layers) || !layers.every((layer) => Number.isInteger(layer) && layer >= 0)) {
    throw config.wrong('mlp_only_layers', 'a list of layers')
  }
  return new Set(layers)
}

type Projection = 'gate_proj' | 'up_proj' | 'down_proj'

/** The linears of all experts of a layer, `[out, in]` each. */
function projections(
  layer: Module,
  { count, width }: Experts,
  hiddenSize: number,
  projection: Projection,
): LinearSpec[] {
  const [out, inputs] = projection === 'down_proj' ? [hiddenSize, width] : [width, hiddenSize]
  const fused = layer.find(projection === 'down_proj' ? 'mlp.experts.down_proj' : 'mlp.experts.gate_up_proj')
  return Array.from({ length: count }, (_, expert) =>
    fused
      ? fusedProjection(fused, count, expert, projection, out, inputs)
      : layer.linear(`mlp.experts.${expert}.${projection}`, out, inputs),
  )
}

/**
 * A part of a tensor that has all experts, as transformers 5 stores them: `gate_up_proj` [experts, 2 * width, hidden] with
 * the rows of the gate first, `down_proj` [experts, hidden, width].
 */
function fusedProjection(
  tensor: TensorRef,
  count: number,
  expert: number,
  projection: Projection,
  out: number,
  inputs: number,
): LinearSpec {
  const rows = projection === 'down_proj' ? out : 2 * out
  const { name, shape, dtype } = tensor
  if (shape.length !== 3 || shape[0] !== count || shape[1] !== rows || shape[2] !== inputs) {
    throw invalidCheckpoint(
      `Tensor ${quoted(name)} has the shape [${shape.join(', ')}]; ${count} experts need [${count}, ${rows}, ${inputs}]`,
    )
  }
  if (!FLOAT_TYPES.includes(dtype)) {
    throw unsupportedFormat(`The experts of ${quoted(name)} are stored in one tensor`, `quantized (${dtype})`)
  }
  const bytes = out * inputs * ELEMENT_BYTES[dtype]
  const row = expert * rows + (projection === 'up_proj' ? out : 0)
  const weight = { ...tensor, shape: [out, inputs], offset: tensor.offset + row * inputs * ELEMENT_BYTES[dtype], bytes }
  return { kind: 'matrix', name, out, in: inputs, weight }
}

/**
 * One weight of the experts of a layer.
 * @throws BillfishError INVALID_CHECKPOINT if they are not all stored in the same way
 */
export function stackExperts(name: string, experts: readonly LinearSpec[]): ExpertsSpec {
  const [first] = experts as readonly [LinearSpec]
  const form = formOf(first)
  const other = experts.find((expert) => formOf(expert) !== form)
  if (other !== undefined) {
    throw invalidCheckpoint(
      `The experts ${first.name} (${form}) and ${other.name} (${formOf(other)}) are not stored in the same way`,
    )
  }
  const hasZeroPoints = experts.some((expert) => expert.kind === 'quantized' && !expert.symmetric)
  return { kind: 'experts', name, out: first.out, in: first.in, experts, hasZeroPoints }
}

/** What the experts of a layer must have in common. */
function formOf(linear: LinearSpec): string {
  const bias = linear.bias ? ', with a bias' : ''
  if (linear.kind === 'matrix') return `${linear.weight.dtype}${bias}`
  const numbers = linear.format === 'fp8' ? 'FP8' : `${linear.bits} bits`
  return `${numbers} in groups of ${linear.groupSize} with scales in ${linear.scales.dtype}${bias}`
}

/** x + the MLP of a layer with experts, of the normed hidden states `h`: both are [tokens, hiddenSize]. */
export function addSparseMlp(g: Graph, x: Value, h: Value, layer: Module, hiddenSize: number, experts: Experts): Value {
  const { count, perToken, normalize, sharedWidth } = experts
  const isAlone = g.rank.count === 1
  const routing = g.route(g.linear(h, layer.linear('mlp.gate', count, hiddenSize), 'logits'), perToken, normalize)
  const linears = (projection: Projection) => projections(layer, experts, hiddenSize, projection)
  const all = { gate: linears('gate_proj'), up: linears('up_proj'), down: linears('down_proj') }
  const { gate, up, down, first } = experts.parallel ? wholeExperts(g.rank, all) : shares(g.rank, all)
  const stack = (projection: Projection, own: readonly LinearSpec[]) =>
    stackExperts(`${layer.name}.mlp.experts.${projection}`, own)
  const [gated, upped] = g.groupedLinear(h, routing, [stack('gate_proj', gate), stack('up_proj', up)], first)
  const inner = g.siluMul(gated as Value, upped as Value)
  const [outputs] = g.groupedLinear(inner, routing, [stack('down_proj', down)], first)
  const sum = g.combine(outputs as Value, routing, isAlone ? 'activation' : 'residual')

  const shared = sharedWidth > 0 ? sharedExpert(g, h, layer, hiddenSize, sharedWidth) : undefined
  if (!isAlone) return g.add(x, g.allReduce(shared ? g.add(sum, shared) : sum))
  const added = g.add(x, sum)
  return shared ? g.add(added, shared) : added
}

/** Linears of the experts of a rank, of which the first is number `first` of the layer's. */
interface OwnExperts extends Readonly<Record<'gate' | 'up' | 'down', readonly LinearSpec[]>> {
  readonly first: number
}

/** A share of the channels of every expert. */
function shares(rank: Rank, { gate, up, down }: Omit<OwnExperts, 'first'>): OwnExperts {
  if (rank.count === 1) return { gate, up, down, first: 0 }
  const inputs = down.map((linear) => rank.share(linear.in, inputGroup(linear), CHANNEL_TILE, linear.name))
  const outputsOf = (linears: readonly LinearSpec[]) =>
    linears.map((linear, i) => sliceLinear(linear, { outputs: inputs[i], consumer: down[i] }))
  return {
    gate: outputsOf(gate),
    up: outputsOf(up),
    down: down.map((linear, i) =>
      sliceLinear(linear, { inputs: inputs[i], inputsInGroupOrder: true, bias: rank.isFirst }),
    ),
    first: 0,
  }
}

/** Some of the experts, as many as others have or one more. */
function wholeExperts({ index, count: ranks }: Rank, { gate, up, down }: Omit<OwnExperts, 'first'>): OwnExperts {
  if (down.length < ranks) {
    throw new BillfishError(
      'INVALID_OPTION',
      `expertParallel: ${down.length} experts are too few for ${ranks} devices (tensorParallelSize). Omit expertParallel.`,
    )
  }
  const [first, end] = [index, index + 1].map((at) => Math.floor((at * down.length) / ranks)) as [number, number]
  const own = (linears: readonly LinearSpec[]) => linears.slice(first, end)
  return { gate: own(gate), up: own(up), down: own(down), first }
}

/** The expert that every token goes to, times its gate; of this rank's channels. */
function sharedExpert(g: Graph, h: Value, layer: Module, hiddenSize: number, width: number): Value {
  const part = gatedMlpOfRank(
    g,
    h,
    layer.linear('mlp.shared_expert.gate_proj', width, hiddenSize),
    layer.linear('mlp.shared_expert.up_proj', width, hiddenSize),
    layer.linear('mlp.shared_expert.down_proj', hiddenSize, width),
    'activation',
  )
  return g.sigmoidMul(part, g.linear(h, layer.linear('mlp.shared_expert_gate', 1, hiddenSize), 'logits'))
}
