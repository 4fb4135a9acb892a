/**
 * Mixtures of experts: the MLP of a layer as many small ones, of which a router picks a few for every token. Qwen2-MoE,
 * Qwen3-MoE and their successors differ in how the router's weights are normalized and whether there is a shared expert,
 * which every token goes to.
 */
import type { ValueSpec } from '../native/addon'
import { type ModelOptions, SIZE_LIMITS } from './architecture'
import type { ConfigReader } from './config-reader'
import { channelsOfRank, type ExpertSizes, expertsOfRank, type LayerExperts, layerExperts } from './expert-weights'
import type { Graph, Module, Value } from './graph'
import { gatedMlpOfRank } from './tensor-parallel'

export interface Experts extends ExpertSizes {
  /** Experts that a token goes to. */
  readonly perToken: number
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
  traits: {
    /** What norm_topk_prob is if it is missing, or `'always'`. */
    readonly normalize: boolean | 'always'
    readonly hasSharedExpert: boolean
    /** Whether every layer has experts, whatever `decoder_sparse_step` and `mlp_only_layers` say. */
    readonly everywhere?: boolean
  },
): Experts {
  // transformers 5 may write the second one.
  const key =
    config.raw.num_experts == null && config.raw.num_local_experts != null ? 'num_local_experts' : 'num_experts'
  const count = config.count(key, undefined, SIZE_LIMITS.experts)
  const layers = config.count('num_hidden_layers', undefined, SIZE_LIMITS.layers)
  const most = Math.floor(SIZE_LIMITS.allExperts / layers)
  if (count > most) throw config.wrong(key, `at most ${most} in ${layers} layers`)
  const perToken = config.count('num_experts_per_tok')
  if (perToken > count) throw config.wrong('num_experts_per_tok', `at most ${key} (${count})`)
  return {
    count,
    perToken,
    width: config.count('moe_intermediate_size', undefined, SIZE_LIMITS.width),
    normalize: traits.normalize === 'always' || config.flag('norm_topk_prob', traits.normalize),
    parallel: expertParallel,
    sharedWidth: traits.hasSharedExpert
      ? config.count('shared_expert_intermediate_size', undefined, SIZE_LIMITS.width)
      : 0,
    isSparse: traits.everywhere ? () => true : sparseLayers(config),
    wrongCount: (what) => config.contradicted(key, what),
  }
}

/** Every `decoder_sparse_step`-th layer, except for `mlp_only_layers`. */
function sparseLayers(config: ConfigReader): (layer: number) => boolean {
  const step = config.count('decoder_sparse_step', 1)
  const dense = config.raw.mlp_only_layers ?? []
  if (!Array.isArray(dense) || !dense.every((layer) => Number.isInteger(layer) && layer >= 0)) {
    throw config.wrong('mlp_only_layers', 'a list of layers')
  }
  const without = new Set<number>(dense)
  return (layer) => !without.has(layer) && (layer + 1) % step === 0
}

/** The name of a layer's experts. Router and shared expert are not among them. */
export function expertsModule(layer: string): string {
  return `${layer}.mlp.experts`
}

/** x + the MLP of a layer with experts, of the normed hidden states `h`: both are [rows, hiddenSize]. */
export function addSparseMlp(g: Graph, x: Value, h: Value, layer: Module, hiddenSize: number, experts: Experts): Value {
  const { perToken, normalize, sharedWidth } = experts
  const isAlone = g.rank.count === 1
  const summed = isAlone ? 'activation' : 'residual' // the class of what is summed over the ranks
  const whole = layerExperts(g.source, layer.name, hiddenSize, experts)
  const routing = g.route(g.linear(h, whole.router, 'logits'), perToken, normalize)
  const sharedPart = (kind: ValueSpec['class']) =>
    sharedWidth > 0 ? sharedExpert(g, h, layer, hiddenSize, sharedWidth, kind) : undefined
  const link = g.links.get(expertsModule(layer.name))
  if (link !== undefined) {
    g.send(h, link, 0)
    g.send(routing, link, hiddenSize)
    const shared = sharedPart(summed) // while the other device computes
    const added = g.add(x, g.receive(hiddenSize, h.rows, 'activation', link, 0))
    if (!shared) return added
    return g.add(added, isAlone ? shared : g.allReduce(shared))
  }
  const own = experts.parallel ? expertsOfRank(g.rank, whole) : { ...channelsOfRank(g.rank, whole), first: 0 }
  const sum = routedExperts(g, h, routing, own, summed)
  const shared = sharedPart('activation') // which is added to the sum
  if (!isAlone) return g.add(x, g.allReduce(shared ? g.add(sum, shared) : sum))
  const added = g.add(x, sum)
  return shared ? g.add(added, shared) : added
}

/** What the device of a layer's experts computes if it is another one: both ends of the link are in this file. */
export function branchOfExperts(
  g: Graph,
  layer: Module,
  hiddenSize: number,
  experts: Experts,
  rows: Value['rows'],
): void {
  const link = 0
  const h = g.receive(hiddenSize, rows, 'activation', link, 0)
  const routing = g.receive(2 * experts.perToken, rows, 'logits', link, hiddenSize)
  const whole = layerExperts(g.source, layer.name, hiddenSize, experts)
  g.send(routedExperts(g, h, routing, { ...whole, first: 0 }, 'activation'), link, 0)
}

/** The sum of what a token's experts give; of those that `own` has. */
function routedExperts(
  g: Graph,
  h: Value,
  routing: Value,
  own: LayerExperts & { readonly first: number },
  kind: ValueSpec['class'],
): Value {
  const [gated, upped] = g.groupedLinear(h, routing, [own.gate, own.up], own.first)
  const inner = g.siluMul(gated as Value, upped as Value)
  const [outputs] = g.groupedLinear(inner, routing, [own.down], own.first)
  return g.combine(outputs as Value, routing, kind)
}

/** The expert that every token goes to, times its gate; of this rank's channels. */
function sharedExpert(
  g: Graph,
  h: Value,
  layer: Module,
  hiddenSize: number,
  width: number,
  kind: ValueSpec['class'],
): Value {
  const part = gatedMlpOfRank(
    g,
    h,
    layer.linear('mlp.shared_expert.gate_proj', width, hiddenSize),
    layer.linear('mlp.shared_expert.up_proj', width, hiddenSize),
    layer.linear('mlp.shared_expert.down_proj', hiddenSize, width),
    kind,
  )
  return g.sigmoidMul(part, g.linear(h, layer.linear('mlp.shared_expert_gate', 1, hiddenSize), 'logits'))
}
