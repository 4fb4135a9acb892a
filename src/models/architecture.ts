import type { CooperativeTask } from '../common/event-loop'
import type { ConfigReader } from './config-reader'
import type { Graph, Value, WeightSource } from './graph'

/**
 * Upper limits on config values: far above any real model, yet low enough that nothing derived from them, such as the
 * list of module names, takes noticeable time or memory.
 */
export const SIZE_LIMITS = {
  /** The deepest known models have about 130; the time of an automatic split is quadratic in it. */
  layers: 1000,
  heads: 65_536,
  /** 4096 rotary frequencies, the maximum of a program. */
  headDim: 8192,
  /** The largest known models have 512. */
  experts: 4096,
  /** Of all layers. */
  allExperts: 131_072,
  /** Hidden size and MLP width. */
  width: 1 << 24,
  vocabulary: 1 << 26,
} as const

/** What the engine needs to know about a model besides its forward pass. */
export interface ModelShape {
  readonly hiddenSize: number
  readonly layers: number
  readonly vocabulary: number
  /** Longest sequence the model supports, in tokens. */
  readonly maxPositions: number
  /** Size of the KV cache: 2 * kvHeads * headDim values per token and layer. */
  readonly kvHeads: number
  readonly headDim: number
  /** Whether tokens see later ones, as in some embedding models: then a sequence is computed in one step. */
  readonly bidirectional?: boolean
  /** Token ids that end a generation, from config.json. */
  readonly eosTokenIds: readonly number[]
}

/** Names of the modules that a device_map places, in forward order. */
export interface ModuleNames {
  readonly embedding: string
  /** Layer i is `${layers}.${i}`. */
  readonly layers: string
  readonly norm: string
  readonly head: string
}

/** A model: its forward pass in parts, so that stages can be split between any two layers. */
export interface Model {
  readonly shape: ModelShape
  readonly names: ModuleNames
  /**
   * False for a base model, as embedding models are released: untied, with no stored head. Its output is the hidden
   * states after the final norm.
   */
  readonly hasHead: boolean
  /** Whether it is a mixture of experts. */
  readonly hasExperts?: boolean
  /** Whether layers have recurrent states, which cannot be taken back to an earlier position. */
  readonly hasStates?: boolean
  /** One layer of each kind: layers of a kind have tensors of the same names. */
  readonly kindsOfLayers: readonly number[]
  /** Token ids -> [tokens, hidden]. */
  embed(g: Graph): Value
  /** Looks up a layer's weights, if that takes long; afterwards decoderLayer() does not. */
  readLayer?(source: WeightSource, index: number): CooperativeTask<void>
  /**
   * [tokens, hidden] -> [tokens, hidden]. Behind what mixes tokens in the layer `isLast`, only the rows are needed whose
   * logits are wanted: one that gathers them there spares the others its MLP, and returns [logit rows, hidden].
   */
  decoderLayer(g: Graph, x: Value, index: number, isLast: boolean): Value
  /** The name of a layer's experts, if it has any: a module that may be on another device than the layer. */
  expertsOf?(index: number): string | undefined
  /** What their device computes if it is another one: {@link decoderLayer} sends the inputs and receives the sum. */
  branchOfExperts?(g: Graph, index: number, isLast: boolean): void
  finalNorm(g: Graph, x: Value): Value
  /** Normed hidden states -> [logit rows, vocabulary]. */
  head(g: Graph, x: Value): Value
  /** Rotary base for a sequence if it depends on the length (dynamic NTK), else 0. */
  ropeBase(promptLength: number, length: number): number
}

/** What a caller may choose about a model. */
export interface ModelOptions {
  /** Whether ranks have whole experts, instead of a share of the channels of all. */
  readonly expertParallel?: boolean | undefined
}

/** An architecture: creates the model for the configs of its `modelTypes`. */
export interface Architecture {
  readonly modelTypes: readonly string[]
  readonly names: ModuleNames
  create(config: ConfigReader, source: WeightSource, options: ModelOptions): Model
}

/**
 * Where the head of a model comes from. The tensors decide: a stored head is used whatever tie_word_embeddings says,
 * and an untied checkpoint without one has no head. Classifiers and reward models have none, either.
 */
export function headOf(config: ConfigReader, source: WeightSource): 'tied' | 'own' | 'none' {
  const tied = config.flag('tie_word_embeddings', false) && !isClassifier(config)
  if (source.layout === undefined) return tied ? 'tied' : 'own'
  return source.layout.head ? 'own' : tied ? 'tied' : 'none'
}

/** Whether the model was released with a scoring or classification head instead of a language-model head. */
function isClassifier({ raw: { architectures } }: ConfigReader): boolean {
  const name: unknown = Array.isArray(architectures) ? architectures[0] : undefined
  return typeof name === 'string' && /For(\w*Classification|\w*RewardModel|QuestionAnswering)$/.test(name)
}

/** eos_token_id of config.json: a number, a list, or nothing. Invalid ids are reported by generation-config.ts. */
export function eosTokenIds(config: ConfigReader): number[] {
  return [config.raw.eos_token_id].flat().filter((id) => Number.isInteger(id) && (id as number) >= 0) as number[]
}
