/** The random Qwen2 model as a GGUF file: linears Q4_0, embedding and head F16, norms and biases F32. */
import * as model from '../lib/random-qwen2.mjs'
import { tensorBytes, writeGguf } from './gguf-writer.mjs'

const BLOCK_NAMES = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}

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
  const blocks = inputs / 32
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

/** Byte-level tokens first, fillers up to the vocabulary; ids are all that a benchmark uses, but a loader wants text. */
function vocabulary(size) {
  // The printable characters that byte-level BPE shows bytes as: itself where printable, 256 and up for the others.
  const tokens = []
  let substitute = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    tokens.push(String.fromCodePoint(printable ? byte : substitute++))
  }
  tokens.push('<|endoftext|>')
  for (let id = tokens.length; id < size; id++) tokens.push(`<|filler_${id}|>`)
  return tokens
}

/** Metadata entries of the file, as the writer takes them. */
export function qwen2Metadata(shape) {
  const tokens = vocabulary(shape.vocab)
  const normal = 1
  const control = 3
  return [
    ['general.architecture', 'string', 'qwen2'],
    ['general.name', 'string', 'random qwen2'],
    ['general.file_type', 'u32', 2], // mostly Q4_0
    ['general.quantization_version', 'u32', 2],
    ['qwen2.block_count', 'u32', shape.layers],
    ['qwen2.context_length', 'u32', shape.maxPositions],
    ['qwen2.embedding_length', 'u32', shape.hidden],
    ['qwen2.feed_forward_length', 'u32', shape.intermediate],
    ['qwen2.attention.head_count', 'u32', shape.heads],
    ['qwen2.attention.head_count_kv', 'u32', shape.kvHeads],
    ['qwen2.attention.layer_norm_rms_epsilon', 'f32', model.NORM_EPSILON],
    ['qwen2.rope.freq_base', 'f32', model.ROPE_THETA],
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'qwen2'],
    ['tokenizer.ggml.tokens', '[string]', tokens],
    ['tokenizer.ggml.token_type', '[i32]', tokens.map((_, id) => (id < 256 ? normal : control))],
    ['tokenizer.ggml.merges', '[string]', ['a b']],
    ['tokenizer.ggml.eos_token_id', 'u32', 256],
    ['tokenizer.ggml.add_bos_token', 'bool', false],
  ]
}

/** The tensors of the file, as the writer takes them. */
export function qwen2Tensors(shape) {
  const floats = (name, halves) => ({
    name,
    type: 'F32',
    extents: [halves.length],
    data: () => Float32Array.from(halves, model.halfToNumber),
  })
  const norm = (name) => ({
    name,
    type: 'F32',
    extents: [shape.hidden],
    data: () => new Float32Array(shape.hidden).fill(1),
  })
  const matrix = (name, source) => ({
    name,
    type: 'F16',
    extents: [shape.hidden, shape.vocab],
    data: () => model.vocabularyMatrix(source, shape),
  })
  const tensors = [matrix('token_embd.weight', 'model.embed_tokens.weight')]
  for (let layer = 0; layer < shape.layers; layer++) {
    const block = `blk.${layer}`
    tensors.push(norm(`${block}.attn_norm.weight`), norm(`${block}.ffn_norm.weight`))
    for (const [linear, inputs, outputs, hasBias] of model.layerLinears(shape)) {
      const source = `model.layers.${layer}.${linear}`
      const name = `${block}.${BLOCK_NAMES[linear]}`
      tensors.push({
        name: `${name}.weight`,
        type: 'Q4_0',
        extents: [inputs, outputs],
        data: () => {
          const codes = model.linearCodes(source, inputs, outputs)
          return gptqToQ4(codes, model.linearScales(source, inputs, outputs), inputs, outputs)
        },
      })
      if (hasBias) tensors.push(floats(`${name}.bias`, model.linearBias(source, outputs)))
    }
  }
  tensors.push(norm('output_norm.weight'), matrix('output.weight', 'lm_head.weight'))
  return tensors
}

/** Writes the model of `shape` to `path`; returns the file's bytes. */
export function writeQwen2Gguf(path, shape) {
  model.checkShape(shape)
  return writeGguf(path, qwen2Metadata(shape), qwen2Tensors(shape))
}

/** Bytes of weights that a decoded token has to read: all but the embedding, of which it reads one row. */
export function ggufBytesPerToken(shape) {
  const read = qwen2Tensors(shape).filter(({ name }) => !name.startsWith('token_embd'))
  return read.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
}
