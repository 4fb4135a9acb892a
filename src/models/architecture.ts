import type { ConfigReader } from './config-reader'
import type { Graph, Value, WeightSource } from './graph'

/**
 * What a config may say at most: far more than any model has, and little enough that nothing made from it, such as the
 * names of all modules, takes noticeable time or memory.
 */
export const SIZE_LIMITS = {
  /** The deepest in use have some 130; an automatic split takes time that grows with the square. */
  layers: 1000,
  heads: 65_536,
  /** 4096 rotary frequencies, the most that a program may have. */
  headDim: 8192,
  /** Of hidden states and of an MLP. */
  width: 1 << 24,
  vocabulary: 1 << 26,
} as const

/** What the engine has to know of a model apart from its forward pass. */
export interface ModelShape {
  readonly hiddenSize: number
  readonly layers: number
  readonly vocabulary: number
  /** The longest sequence that the model was made for. */
  readonly maxPositions: number
  /** Heads and their width, for the size of the KV cache a token: 2 * kvHeads * headDim values a layer. */
  readonly kvHeads: number
  readonly headDim: number
  /** Ids that end a generation, from config.json. */
  readonly eosTokenIds: readonly number[]
}

/** The modules that a device_map names, in the order of the forward pass. */
export interface ModuleNames {
  readonly embedding: string
  /** Layer i is `${layers}.${i}`. */
  readonly layers: string
  readonly norm: string
  readonly head: string
}

/** One architecture: its forward pass in three parts, so that layers can be split over devices anywhere between them. */
export interface Model {
  readonly shape: ModelShape
  readonly names: ModuleNames
  /**
   * False for a base model, as embedding models are released: an untied checkpoint that stores no head. Its output is the
   * normed hidden states.
   */
  readonly hasHead: boolean
  /** [tokens, hidden] from token ids. */
  embed(g: Graph): Value
  decoderLayer(g: Graph, x: Value, index: number): Value
  finalNorm(g: Graph, x: Value): Value
  /** [logit rows, vocabulary] from the normed hidden states. */
  head(g: Graph, x: Value): Value
  /** Base of the rotary embedding for a sequence, where it depends on the length; 0 otherwise. */
  ropeBase(promptLength: number, length: number): number
}

/** Makes a model of one of `modelTypes` from its config.json. */
export interface Architecture {
  readonly modelTypes: readonly string[]
  readonly names: ModuleNames
  create(config: ConfigReader, source: WeightSource): Model
}

/**
 * Where a model's head comes from. The tensors decide: a stored head counts whatever tie_word_embeddings says, and a
 * checkpoint that is not tied and stores none has no head. Neither has a classifier or a reward model.
 */
export function headOf(config: ConfigReader, source: WeightSource): 'tied' | 'own' | 'none' {
  const tied = config.flag('tie_word_embeddings', false) && !isClassifier(config)
  if (source.layout === undefined) return tied ? 'tied' : 'own'
  return source.layout.head ? 'own' : tied ? 'tied' : 'none'
}

/** Whether the released model has, in place of a head over the vocabulary, one that scores or classifies. */
function isClassifier({ raw: { architectures } }: ConfigReader): boolean {
  const name: unknown = Array.isArray(architectures) ? architectures[0] : undefined
  return typeof name === 'string' && /For(\w*Classification|\w*RewardModel|QuestionAnswering)$/.test(name)
}

/** eos_token_id as config.json has it: a number, a list, or nothing. What is no token id, generation-config.ts tells of. */
export function eosTokenIds(config: ConfigReader): number[] {
  return [config.raw.eos_token_id].flat().filter((id) => Number.isInteger(id) && (id as number) >= 0) as number[]
}
