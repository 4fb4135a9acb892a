/** Random tensors for benchmarks. A tensor's name is the seed of its bits: a name gives the same bits to every writer. */

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

/** Two 16-bit numbers a word: sign and fraction random where `keep` has ones, the exponent given by `fill`. */
function randomFloats(name, count, keep, fill) {
  const words = randomWords(name, Math.ceil(count / 2))
  const both = (bits) => bits * 0x10001
  for (let i = 0; i < words.length; i++) words[i] = (words[i] & both(keep)) | both(fill)
  return new Uint16Array(words.buffer, 0, count)
}

/**
 * `count` random fp16 values as their bits: magnitude in [2^exponent, 2^(exponent+1)), the sign random if `signed`.
 *
 *     15   14..10             9..0
 *     s    15 + exponent      random
 * @param {string} name @param {number} count @param {number} exponent @param {boolean} signed
 * @returns {Uint16Array}
 */
export const randomHalves = (name, count, exponent, signed) =>
  randomFloats(name, count, signed ? 0x83ff : 0x03ff, (15 + exponent) << 10)

/** The same in bf16, of either sign: 15 sign | 14..7 127 + exponent | 6..0 random. */
export const randomBfloats = (name, count, exponent) => randomFloats(name, count, 0x807f, (127 + exponent) << 7)

/** The value of a normal fp16 number given by its bits. */
export function halfToNumber(bits) {
  const magnitude = (1 + (bits & 0x3ff) / 1024) * 2 ** (((bits >> 10) & 31) - 15)
  return bits & 0x8000 ? -magnitude : magnitude
}

/** The values of bf16 numbers given by their bits. @param {Uint16Array} bits */
export function bfloatsToNumbers(bits) {
  return new Float32Array(Uint32Array.from(bits, (value) => value << 16).buffer)
}
