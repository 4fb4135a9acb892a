/** A model of random weights as a GGUF file: linears Q4_0 or Q8_0, embedding and head in 16 bits, norms and biases F32. */
import { LINEAR_FORMATS } from '../lib/linear-formats.mjs'
import { biasBits, matrixBits } from '../lib/random-checkpoint.mjs'
import { modelParts, NORM_EPSILON, ROPE_THETA } from '../lib/random-model.mjs'
import { bfloatsToNumbers, halfToNumber } from '../lib/random-numbers.mjs'
import { END_OF_TEXT, vocabulary } from '../lib/random-vocabulary.mjs'
import { checkShape, headDimOf } from '../lib/shapes.mjs'
import { GGUF_LINEARS } from './gguf-blocks.mjs'
import { tensorBytes, writeGguf } from './gguf-writer.mjs'

const ARCHITECTURES = { qwen2: 'qwen2', qwen3: 'qwen3', qwen3_moe: 'qwen3moe', qwen3_5_text: 'qwen35' }
const FILE_TYPES = { Q4_0: 2, Q8_0: 7 }

const expertsMetadata = ({ experts, chosenExperts, intermediate }) => [
  ['expert_count', 'u32', experts],
  ['expert_used_count', 'u32', chosenExperts],
  ['expert_feed_forward_length', 'u32', intermediate],
]

function deltaNetMetadata(shape) {
  const { keyHeads, valueHeads, headDim, kernel, interval } = shape.deltaNet
  const rotated = headDimOf(shape) / 4
  return [
    ['ssm.conv_kernel', 'u32', kernel],
    ['ssm.inner_size', 'u32', valueHeads * headDim],
    ['ssm.state_size', 'u32', headDim],
    ['ssm.time_step_rank', 'u32', valueHeads],
    ['ssm.group_count', 'u32', keyHeads],
    ['full_attention_interval', 'u32', interval],
    ['rope.dimension_count', 'u32', rotated],
    ['rope.dimension_sections', '[i32]', [rotated / 2, 0, 0, 0]],
  ]
}

/** Metadata entries of the file, as the writer takes them. */
export function ggufMetadata(shape) {
  const architecture = ARCHITECTURES[shape.architecture]
  const tokens = vocabulary(shape.vocab)
  const normal = 1
  const control = 3
  const ofModel = [
    ['block_count', 'u32', shape.layers],
    ['context_length', 'u32', shape.maxPositions],
    ['embedding_length', 'u32', shape.hidden],
    ['feed_forward_length', 'u32', shape.intermediate],
    ['attention.head_count', 'u32', shape.heads],
    ['attention.head_count_kv', 'u32', shape.kvHeads],
    ['attention.key_length', 'u32', headDimOf(shape)],
    ['attention.value_length', 'u32', headDimOf(shape)],
    ['attention.layer_norm_rms_epsilon', 'f32', NORM_EPSILON],
    ['rope.freq_base', 'f32', ROPE_THETA],
    ...(shape.experts === undefined ? [] : expertsMetadata(shape)),
    ...(shape.deltaNet === undefined ? [] : deltaNetMetadata(shape)),
  ]
  return [
    ['general.architecture', 'string', architecture],
    ['general.name', 'string', `random ${architecture}`],
    ['general.file_type', 'u32', FILE_TYPES[GGUF_LINEARS[shape.format].type]],
    ['general.quantization_version', 'u32', 2],
    ...ofModel.map(([key, ...entry]) => [`${architecture}.${key}`, ...entry]),
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'qwen2'],
    ['tokenizer.ggml.tokens', '[string]', tokens],
    ['tokenizer.ggml.token_type', '[i32]', tokens.map((_, id) => (id < 256 ? normal : control))],
    ['tokenizer.ggml.merges', '[string]', ['a b']],
    ['tokenizer.ggml.eos_token_id', 'u32', END_OF_TEXT],
    ['tokenizer.ggml.add_bos_token', 'bool', false],
  ]
}

/** One linear, or all experts of a layer in one tensor. */
function linearData({ names, inputs, outputs }, data) {
  if (names.length === 1) return data(names[0], inputs, outputs)
  const first = data(names[0], inputs, outputs)
  const all = new Uint16Array(first.length * names.length)
  names.forEach((name, expert) => {
    all.set(expert === 0 ? first : data(name, inputs, outputs), expert * first.length)
  })
  return all
}

/** The tensor of a part, as the writer takes it. */
function partTensor(part, linears, halfType) {
  const { kind, names, gguf, inputs, outputs, readShare } = part
  const tensor = { name: gguf, readShare }
  if (kind === 'linear') {
    const extents = names.length === 1 ? [inputs, outputs] : [inputs, outputs, names.length]
    return { ...tensor, type: linears.type, extents, data: () => linearData(part, linears.data) }
  }
  if (kind === 'matrix') {
    const type = part.ggufType ?? halfType
    const bits = () => matrixBits(part, halfType)
    const numbers = () => (halfType === 'F16' ? Float32Array.from(bits(), halfToNumber) : bfloatsToNumbers(bits()))
    return { ...tensor, type, extents: [inputs, outputs], data: type === 'F32' ? numbers : bits }
  }
  const data =
    kind === 'bias'
      ? () => Float32Array.from(biasBits(part), halfToNumber)
      : () => new Float32Array(outputs).fill(part.ggufValue)
  return { ...tensor, type: 'F32', extents: [outputs], data }
}

/** The tensors of the file, as the writer takes them. */
export const ggufTensors = (shape) =>
  modelParts(shape).map((part) => partTensor(part, GGUF_LINEARS[shape.format], LINEAR_FORMATS[shape.format].halfType))

/** Writes the model of `shape` to `path`; returns the file's bytes. */
export function writeModelGguf(path, shape) {
  checkShape(shape)
  return writeGguf(path, ggufMetadata(shape), ggufTensors(shape))
}

/** Bytes of weights that a decoded token has to read: all but the embedding and the experts that are not chosen. */
export const ggufBytesPerToken = (shape) =>
  ggufTensors(shape).reduce((sum, tensor) => sum + tensorBytes(tensor) * tensor.readShare, 0)

/**
 * Whether both files compute the same. llama.cpp's converter stores value heads of Gated DeltaNet in another order, which
 * random weights have no need of.
 */
export const computesTheSame = (shape) => GGUF_LINEARS[shape.format].sameNumbers && shape.deltaNet === undefined
