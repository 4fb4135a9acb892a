/**
 * A Qwen2 model of a given shape with random weights, as a list of tensors that are made on request. Both checkpoint
 * writers (GPTQ safetensors, GGUF) use it and write the same numbers: 4-bit codes with zero point 8, one fp16 scale for 128
 * inputs, fp16 embedding and head. Runs of both can then be compared token by token.
 *
 * A tensor's name is the seed of its bits, so that a name gives the same bits on every machine and to both writers.
 */

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

/** FNV-1a, 32 bits: turns a tensor's name into the seed of its stream. */
function hashName(name) {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) {
    hash ^= name.charCodeAt(i)
    hash = Math.imul(hash, 0x01000193)
  }
  return hash >>> 0
}

/**
 * `count` random 32-bit words of the stream called `name` (xorshift32; weights need no better generator).
 * @param {string} name @param {number} count
 * @returns {Uint32Array}
 */
export function randomWords(name, count) {
  const words = new Uint32Array(count)
  let state = hashName(name) || 1
  for (let i = 0; i < count; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return words
}

/**
 * `count` random fp16 values as their bits: magnitude in [2^exponent, 2^(exponent+1)), the sign random if `signed`.
 *
 *     15   14..10             9..0
 *     s    15 + exponent      random
 * @param {string} name @param {number} count @param {number} exponent @param {boolean} signed
 * @returns {Uint16Array}
 */
export function randomHalves(name, count, exponent, signed) {
  const words = randomWords(name, Math.ceil(count / 2))
  const keep = signed ? 0x83ff83ff : 0x03ff03ff
  const fill = ((15 + exponent) << 10) * 0x10001
  for (let i = 0; i < words.length; i++) words[i] = (words[i] & keep) | fill
  return new Uint16Array(words.buffer, 0, count)
}

/** The value of a normal fp16 number given by its bits. */
export function halfToNumber(bits) {
  const magnitude = (1 + (bits & 0x3ff) / 1024) * 2 ** (((bits >> 10) & 31) - 15)
  return bits & 0x8000 ? -magnitude : magnitude
}
