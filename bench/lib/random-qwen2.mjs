/**
 * A Qwen2 model of a given shape with random weights, as a list of tensors that are made when they are asked for. Both
 * checkpoint writers (GPTQ safetensors, GGUF) draw from here and so hold the very same numbers: 4-bit codes with zero
 * point 8 and one fp16 scale for 128 inputs, fp16 embedding and head. The runs measured can then be compared token by
 * token too.
 */
import { randomHalves, randomWords } from './random.mjs'

/**
 * @typedef {object} Shape
 * @property {number} hidden @property {number} layers @property {number} heads @property {number} kvHeads
 * @property {number} intermediate @property {number} vocab @property {number} maxPositions
 */

/** The shape of the CPU benchmark: about 0.85 G parameters. @type {Shape} */
export const DEFAULT_SHAPE = {
  hidden: 2048,
  layers: 16,
  heads: 16,
  kvHeads: 4,
  intermediate: 5632,
  vocab: 32000,
  maxPositions: 4096,
}

export const GROUP_SIZE = 128
export const ROPE_THETA = 1_000_000
export const NORM_EPSILON = 1e-6

/** The quantized linears of one decoder layer, as [name in the checkpoint, inputs, outputs, has a bias]. */
export function layerLinears(shape) {
  const kv = (shape.hidden / shape.heads) * shape.kvHeads
  return [
    ['self_attn.q_proj', shape.hidden, shape.hidden, true],
    ['self_attn.k_proj', shape.hidden, kv, true],
    ['self_attn.v_proj', shape.hidden, kv, true],
    ['self_attn.o_proj', shape.hidden, shape.hidden, false],
    ['mlp.gate_proj', shape.hidden, shape.intermediate, false],
    ['mlp.up_proj', shape.hidden, shape.intermediate, false],
    ['mlp.down_proj', shape.intermediate, shape.hidden, false],
  ]
}

/** Refuses a shape that GPTQ groups, Q4_0 blocks or the heads do not divide. */
export function checkShape(shape) {
  for (const [name, value] of Object.entries(shape)) {
    if (!Number.isInteger(value) || value <= 0)
      throw new Error(`shape.${name} must be a positive integer, not ${value}`)
  }
  for (const name of ['hidden', 'intermediate']) {
    if (shape[name] % GROUP_SIZE !== 0) {
      throw new Error(`shape.${name} = ${shape[name]} must be a multiple of the group size ${GROUP_SIZE}`)
    }
  }
  if (shape.vocab < 257) throw new Error(`shape.vocab = ${shape.vocab} must hold 256 bytes and an end of text`)
  if (shape.hidden % shape.heads !== 0 || shape.heads % shape.kvHeads !== 0) {
    throw new Error(`heads (${shape.heads}) must divide hidden (${shape.hidden}), and kvHeads (${shape.kvHeads}) heads`)
  }
}

/**
 * 4-bit codes of a linear in GPTQ order: word [k / 8, n] holds inputs k..k+7 of output n, lowest bits first. Code 0, the
 * value -8 that has no +8 opposite it, becomes 8, the value 0: weights of a non-zero mean would push all activations
 * in one direction, and every prompt would end in the same token.
 */
export function linearCodes(name, inputs, outputs) {
  const words = randomWords(`${name}.codes`, (inputs / 8) * outputs)
  for (let i = 0; i < words.length; i++) {
    const word = words[i]
    const nonZero = word | (word >>> 1) | (word >>> 2) | (word >>> 3)
    words[i] = word | ((~nonZero & 0x11111111) << 3)
  }
  return words
}

/** fp16 scales [inputs / 128, outputs], around 0.006: outputs of a linear are then about as large as its inputs. */
export const linearScales = (name, inputs, outputs) =>
  randomHalves(`${name}.scales`, (inputs / GROUP_SIZE) * outputs, -8, false)

/** fp16 bias [outputs], magnitudes in [1/64, 1/32). */
export const linearBias = (name, outputs) => randomHalves(`${name}.bias`, outputs, -6, true)

/** fp16 matrix [vocab, hidden] of the embedding or the head, magnitudes in [1/64, 1/32). */
export const vocabularyMatrix = (name, shape) => randomHalves(name, shape.vocab * shape.hidden, -6, true)
