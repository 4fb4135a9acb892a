/** Linears as llama.cpp's quantized blocks of 32 inputs. */
import { gptqCodes, gptqScales } from '../lib/linear-formats.mjs'
import { randomWords } from '../lib/random-numbers.mjs'

const BLOCK = 32

/**
 * Re-orders GPTQ codes and scales into Q4_0 rows. The two hold the same numbers, (code - 8) * scale; a group of 128
 * becomes four blocks with the same scale.
 *
 *     GPTQ word [k/8, n]     76543210            one output's inputs k+7 .. k, a nibble each
 *     Q4_0 block, 18 bytes   scale fp16 | byte j = input j (low nibble), input j + 16 (high nibble), j = 0..15
 * @param {Uint32Array} codes [inputs / 8, outputs]
 * @param {Uint16Array} scales [inputs / 128, outputs]
 */
export function gptqToQ4(codes, scales, inputs, outputs) {
  const blocks = inputs / BLOCK
  const blockHalves = 9
  const result = new Uint16Array(outputs * blocks * blockHalves)
  // Two bytes of a block: nibbles `shift`.. of the word of the lower inputs and of the one 16 inputs on.
  //     lower  ..3210   ->  .3.2.1.0      upper  ..3210  ->  3.2.1.0.
  const pair = (lower, upper, shift) => {
    const low = lower >>> shift
    const high = upper >>> shift
    return (low & 15) | ((high & 15) << 4) | ((low & 0xf0) << 4) | ((high & 0xf0) << 8)
  }
  for (let block = 0; block < blocks; block++) {
    const firstWord = block * 4 * outputs
    const firstScale = (block >> 2) * outputs
    for (let output = 0; output < outputs; output++) {
      let at = (output * blocks + block) * blockHalves
      result[at++] = scales[firstScale + output]
      for (let half = 0; half < 2; half++) {
        const lower = codes[firstWord + half * outputs + output]
        const upper = codes[firstWord + (half + 2) * outputs + output]
        for (let shift = 0; shift < 32; shift += 8) result[at++] = pair(lower, upper, shift)
      }
    }
  }
  return result
}

/** The same numbers as GPTQ's. */
const q4 = (name, inputs, outputs) =>
  gptqToQ4(gptqCodes(name, inputs, outputs), gptqScales(name, inputs, outputs), inputs, outputs)

/**
 * Random blocks of other numbers than the checkpoint's: formats that have no equal in GGUF are compared by speed alone.
 * Each begins with an fp16 scale in [scale, 2 scale), a power of two.
 */
function randomBlocks(name, blocks, blockHalves, exponent) {
  const words = randomWords(`${name}.blocks`, (blocks * blockHalves) / 2)
  const halves = new Uint16Array(words.buffer)
  for (let at = 0; at < halves.length; at += blockHalves) halves[at] = (halves[at] & 0x3ff) | ((15 + exponent) << 10)
  return halves
}

/** How a linear of each format of the checkpoints is stored: the tensor type, and its data from a name. */
export const GGUF_LINEARS = {
  int4: { type: 'Q4_0', sameNumbers: true, data: q4 },
  nvfp4: {
    type: 'Q4_0',
    sameNumbers: false,
    data: (name, inputs, outputs) => randomBlocks(name, (inputs / BLOCK) * outputs, 9, -9),
  },
  fp8: {
    type: 'Q8_0',
    sameNumbers: false,
    data: (name, inputs, outputs) => randomBlocks(name, (inputs / BLOCK) * outputs, 17, -13),
  },
}
