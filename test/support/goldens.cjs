/** Golden outputs of fixtures. CommonJS, since GPU bundles run it without vitest. */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')

/**
 * @typedef {object} Golden
 * @property {Record<string, number[]>} prompts token ids
 * @property {Record<string, number[]>} greedy their greedy continuations
 * @property {Record<string, Record<string, { logits_max_abs: number, logits_mean_abs: number, last_layer_max_abs: number }>>} measured
 *   how far the reference is off in each 16-bit type, by prompt
 * @property {(name: string) => Float32Array} tensor a tensor of golden.safetensors as fp32
 */

/**
 * @param {string} directory of the fixture
 * @returns {Golden}
 */
function golden(directory) {
  const json = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8'))
  const file = readFileSync(join(directory, 'golden.safetensors'))
  const headerLength = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength))
  const tensor = (/** @type {string} */ name) => {
    const entry = header[name]
    if (entry?.dtype !== 'F32') throw new Error(`${directory} has no fp32 golden ${name}`)
    const [begin, end] = entry.data_offsets.map((/** @type {number} */ offset) => offset + 8 + headerLength)
    return new Float32Array(file.buffer.slice(file.byteOffset + begin, file.byteOffset + end))
  }
  return { ...json, tensor }
}

/**
 * The largest and the mean absolute difference. NaN anywhere gives NaN, which no bound accepts.
 * @param {Float32Array} actual
 * @param {Float32Array} expected of the same length
 */
function difference(actual, expected) {
  if (actual.length !== expected.length)
    throw new Error(`${actual.length} values where ${expected.length} are expected`)
  let max = 0
  let sum = 0
  for (let i = 0; i < actual.length; i++) {
    const distance = Math.abs(actual[i] - expected[i])
    if (!(distance <= max)) max = distance
    sum += distance
  }
  return { max: Number.isNaN(sum) ? Number.NaN : max, mean: sum / actual.length }
}

module.exports = { difference, golden }
