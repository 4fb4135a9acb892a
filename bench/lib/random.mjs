/**
 * Deterministic random bits, named by a string: the same name gives the same bits on every machine, so that two writers
 * of the same model (safetensors and GGUF) agree without sharing memory.
 */

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
