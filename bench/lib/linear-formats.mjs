/**
 * How checkpoints store quantized linears of random weights, whose outputs are about as large as their inputs. Each format
 * has the 16-bit type of the other weights, its entry in config.json and the tensors of a linear. Tensors that a decoded
 * token need not read are `skipped`.
 */
import { randomHalves, randomWords } from './random-numbers.mjs'
import { GROUP_SIZE } from './shapes.mjs'

const STORED_ZEROS = 0x77777777 // GPTQ v1 stores the zero point, 8, minus one

/**
 * 4-bit codes of a linear in GPTQ order: word [k / 8, n] holds inputs k..k+7 of output n, lowest bits first. Code 0, the
 * value -8 that has no +8 opposite it, becomes 8, the value 0: weights of a non-zero mean would push all activations
 * in one direction, and every prompt would end in the same token.
 */
export function gptqCodes(name, inputs, outputs) {
  const words = randomWords(`${name}.codes`, (inputs / 8) * outputs)
  for (let i = 0; i < words.length; i++) {
    const word = words[i]
    const nonZero = word | (word >>> 1) | (word >>> 2) | (word >>> 3)
    words[i] = word | ((~nonZero & 0x11111111) << 3)
  }
  return words
}

/** fp16 scales [inputs / 128, outputs], around 0.006. */
export const gptqScales = (name, inputs, outputs) =>
  randomHalves(`${name}.scales`, (inputs / GROUP_SIZE) * outputs, -8, false)

/** GPTQ int4: groups of 128, symmetric, natural order. */
function gptqTensors(name, inputs, outputs) {
  const groups = inputs / GROUP_SIZE
  return [
    {
      name: `${name}.qweight`,
      dtype: 'I32',
      shape: [inputs / 8, outputs],
      data: () => gptqCodes(name, inputs, outputs),
    },
    {
      name: `${name}.qzeros`,
      dtype: 'I32',
      shape: [groups, outputs / 8],
      data: () => new Uint32Array((groups * outputs) / 8).fill(STORED_ZEROS),
      skipped: true,
    },
    {
      name: `${name}.scales`,
      dtype: 'F16',
      shape: [groups, outputs],
      data: () => gptqScales(name, inputs, outputs),
    },
    {
      name: `${name}.g_idx`,
      dtype: 'I32',
      shape: [inputs],
      data: () => Int32Array.from({ length: inputs }, (_, input) => Math.floor(input / GROUP_SIZE)),
      skipped: true,
    },
  ]
}

/** Random bytes with some bits cleared and some set, four a word. */
function maskedBytes(name, count, keep, set) {
  const words = randomWords(name, Math.ceil(count / 4))
  const all = (bits) => bits * 0x01010101
  for (let i = 0; i < words.length; i++) words[i] = (words[i] & all(keep)) | all(set)
  return new Uint8Array(words.buffer, 0, count)
}

const FP8_RMS = 68 // of E4M3 with even exponents, which leaves out NaN

/** E4M3 with an fp32 scale for every 128 x 128 block, as DeepSeek and Qwen publish it. */
function fp8Tensors(name, inputs, outputs) {
  const blocks = [Math.ceil(outputs / GROUP_SIZE), Math.ceil(inputs / GROUP_SIZE)]
  const scale = 1 / (FP8_RMS * Math.sqrt(inputs))
  return [
    {
      name: `${name}.weight`,
      dtype: 'F8_E4M3',
      shape: [outputs, inputs],
      data: () => maskedBytes(`${name}.codes`, inputs * outputs, 0xf7, 0),
    },
    {
      name: `${name}.weight_scale_inv`,
      dtype: 'F32',
      shape: blocks,
      data: () => new Float32Array(blocks[0] * blocks[1]).fill(scale),
    },
  ]
}

const NVFP4_RMS = 4.1 // of E2M1 codes times scales in [1, 2)

/** E2M1 with an E4M3 scale for 16 inputs and an fp32 divisor for the whole, as compressed-tensors writes it. */
function nvfp4Tensors(name, inputs, outputs) {
  return [
    {
      name: `${name}.weight_packed`,
      dtype: 'U8',
      shape: [outputs, inputs / 2],
      data: () => maskedBytes(`${name}.codes`, (inputs / 2) * outputs, 0xff, 0),
    },
    {
      name: `${name}.weight_scale`,
      dtype: 'F8_E4M3',
      shape: [outputs, inputs / 16],
      data: () => maskedBytes(`${name}.scales`, (inputs / 16) * outputs, 0x07, 0x38),
    },
    {
      name: `${name}.weight_global_scale`,
      dtype: 'F32',
      shape: [1],
      data: () => Float32Array.of(NVFP4_RMS * Math.sqrt(inputs)),
    },
  ]
}

const nvfp4Weights = { num_bits: 4, type: 'float', symmetric: true, group_size: 16, strategy: 'tensor_group' }

export const LINEAR_FORMATS = {
  int4: {
    name: 'gptq-int4-g128',
    halfType: 'F16',
    tensors: gptqTensors,
    config: {
      bits: 4,
      group_size: GROUP_SIZE,
      desc_act: false,
      static_groups: false,
      sym: true,
      true_sequential: true,
      quant_method: 'gptq',
      checkpoint_format: 'gptq',
    },
  },
  fp8: {
    name: 'fp8-block',
    halfType: 'BF16',
    tensors: fp8Tensors,
    config: {
      quant_method: 'fp8',
      fmt: 'e4m3',
      activation_scheme: 'dynamic',
      weight_block_size: [GROUP_SIZE, GROUP_SIZE],
      modules_to_not_convert: ['lm_head'],
    },
  },
  nvfp4: {
    name: 'nvfp4',
    halfType: 'BF16',
    tensors: nvfp4Tensors,
    config: {
      quant_method: 'compressed-tensors',
      format: 'nvfp4-pack-quantized',
      quantization_status: 'compressed',
      config_groups: { group_0: { targets: ['Linear'], weights: nvfp4Weights, format: 'nvfp4-pack-quantized' } },
      ignore: ['lm_head'],
    },
  },
}
