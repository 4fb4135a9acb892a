/**
 * The shapes of models that benchmarks make. The new ones have a release's layer sizes, few of its layers and a vocabulary
 * cut to about the same share, so that the head weighs as much beside the layers as in the whole model.
 */

/**
 * @typedef {object} Shape
 * @property {'qwen2' | 'qwen3' | 'qwen3_moe' | 'qwen3_5_text'} architecture model_type of the checkpoint
 * @property {'int4' | 'fp8' | 'nvfp4'} format of the linears
 * @property {number} hidden @property {number} layers @property {number} heads @property {number} kvHeads
 * @property {number} [headDim] hidden / heads unless given
 * @property {number} intermediate of the MLP, or of one expert
 * @property {number} vocab @property {number} maxPositions
 * @property {number} [experts] @property {number} [chosenExperts] of them per token
 * @property {{ keyHeads: number, valueHeads: number, headDim: number, kernel: number, interval: number }} [deltaNet]
 *   Gated DeltaNet in all layers but every `interval`-th
 */

/** The shape of most benchmarks: about 0.85 G parameters. @type {Shape} */
export const DEFAULT_SHAPE = {
  architecture: 'qwen2',
  format: 'int4',
  hidden: 2048,
  layers: 16,
  heads: 16,
  kvHeads: 4,
  intermediate: 5632,
  vocab: 32000,
  maxPositions: 4096,
}

const QWEN3_8B = {
  architecture: 'qwen3',
  hidden: 4096,
  layers: 3,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  intermediate: 12288,
  vocab: 12800,
  maxPositions: 4096,
}

/** The shapes of the CPU benchmark by the names of its option. @type {Record<string, Shape>} */
export const SHAPES = {
  dense: DEFAULT_SHAPE,
  // Qwen3-30B-A3B, 4 of 48 layers
  moe: {
    architecture: 'qwen3_moe',
    format: 'int4',
    hidden: 2048,
    layers: 4,
    heads: 32,
    kvHeads: 4,
    headDim: 128,
    intermediate: 768,
    experts: 128,
    chosenExperts: 8,
    vocab: 12800,
    maxPositions: 4096,
  },
  fp8: { ...QWEN3_8B, format: 'fp8' },
  nvfp4: { ...QWEN3_8B, format: 'nvfp4' },
  // Qwen3.5-4B, 4 of 32 layers
  hybrid: {
    architecture: 'qwen3_5_text',
    format: 'int4',
    hidden: 2560,
    layers: 4,
    heads: 16,
    kvHeads: 4,
    headDim: 256,
    intermediate: 9216,
    deltaNet: { keyHeads: 16, valueHeads: 32, headDim: 128, kernel: 4, interval: 4 },
    vocab: 31104,
    maxPositions: 4096,
  },
}

/** Inputs that share a scale in int4 and, squared with as many outputs, in FP8; also what every width must divide by. */
export const GROUP_SIZE = 128

export const headDimOf = (shape) => shape.headDim ?? shape.hidden / shape.heads

/** Whether the layer mixes tokens by Gated DeltaNet instead of attention. */
export const isRecurrent = ({ deltaNet }, layer) => deltaNet !== undefined && (layer + 1) % deltaNet.interval !== 0

/**
 * Bytes of recurrent states that a decoded token reads, in fp32, and then writes: the matrices of value heads, and the rows
 * that the convolution goes on from.
 */
export function stateBytesPerToken(shape) {
  if (shape.deltaNet === undefined) return 0
  const { keyHeads, valueHeads, headDim, kernel } = shape.deltaNet
  const layers = Array.from({ length: shape.layers }, (_, layer) => isRecurrent(shape, layer)).filter(Boolean).length
  return 4 * layers * (valueHeads * headDim ** 2 + (kernel - 1) * (2 * keyHeads + valueHeads) * headDim)
}

/** Refuses a shape that the groups of the formats or the heads do not divide. */
export function checkShape(shape) {
  for (const [name, value] of Object.entries(shape)) {
    if (typeof value === 'number' && !(Number.isInteger(value) && value > 0))
      throw new Error(`shape.${name} must be a positive integer, not ${value}`)
  }
  for (const name of ['hidden', 'intermediate']) {
    if (shape[name] % GROUP_SIZE !== 0) {
      throw new Error(`shape.${name} = ${shape[name]} must be a multiple of the group size ${GROUP_SIZE}`)
    }
  }
  if (shape.vocab < 257) throw new Error(`shape.vocab = ${shape.vocab} must hold 256 bytes and an end of text`)
  if (!Number.isInteger(headDimOf(shape)) || shape.heads % shape.kvHeads !== 0) {
    throw new Error(`heads (${shape.heads}) must divide hidden (${shape.hidden}), and kvHeads (${shape.kvHeads}) heads`)
  }
}
