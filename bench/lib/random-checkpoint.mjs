/** A model of random weights as a checkpoint directory: linears in the shape's format, 16 bits elsewhere. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LINEAR_FORMATS } from './linear-formats.mjs'
import { modelParts, NORM_EPSILON, ROPE_THETA } from './random-model.mjs'
import { randomBfloats, randomHalves } from './random-numbers.mjs'
import { tensorBytes, writeSafetensors } from './safetensors-writer.mjs'
import { checkShape, headDimOf, isRecurrent } from './shapes.mjs'

const ARCHITECTURES = {
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
  qwen3_moe: 'Qwen3MoeForCausalLM',
  qwen3_5_text: 'Qwen3_5ForCausalLM',
}

const TYPE_NAMES = { F16: 'float16', BF16: 'bfloat16' }
const ONES = { F16: 0x3c00, BF16: 0x3f80 }

const expertsConfig = ({ experts, chosenExperts, intermediate }) => ({
  num_experts: experts,
  num_experts_per_tok: chosenExperts,
  moe_intermediate_size: intermediate,
  norm_topk_prob: true,
  decoder_sparse_step: 1,
  mlp_only_layers: [],
})

function deltaNetConfig(shape) {
  const { keyHeads, valueHeads, headDim, kernel, interval } = shape.deltaNet
  const layerType = (_, layer) => (isRecurrent(shape, layer) ? 'linear_attention' : 'full_attention')
  return {
    linear_num_key_heads: keyHeads,
    linear_num_value_heads: valueHeads,
    linear_key_head_dim: headDim,
    linear_value_head_dim: headDim,
    linear_conv_kernel_dim: kernel,
    full_attention_interval: interval,
    layer_types: Array.from({ length: shape.layers }, layerType),
    attn_output_gate: true,
    rope_parameters: { rope_type: 'default', rope_theta: ROPE_THETA, partial_rotary_factor: 0.25 },
  }
}

/** config.json of the checkpoint, without its quantization. */
export function modelConfig(shape) {
  return {
    architectures: [ARCHITECTURES[shape.architecture]],
    model_type: shape.architecture,
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    head_dim: headDimOf(shape),
    intermediate_size: shape.intermediate,
    vocab_size: shape.vocab,
    max_position_embeddings: shape.maxPositions,
    rms_norm_eps: NORM_EPSILON,
    rope_theta: ROPE_THETA,
    tie_word_embeddings: false,
    torch_dtype: TYPE_NAMES[LINEAR_FORMATS[shape.format].halfType],
    use_sliding_window: false,
    bos_token_id: null,
    eos_token_id: 256,
    ...(shape.experts === undefined ? {} : expertsConfig(shape)),
    ...(shape.deltaNet === undefined ? {} : deltaNetConfig(shape)),
  }
}

/** The 16-bit numbers of a matrix, by which both writers store the same. */
export function matrixBits({ names, inputs, outputs, exponent }, halfType) {
  const count = inputs * outputs
  return halfType === 'F16' ? randomHalves(names[0], count, exponent, true) : randomBfloats(names[0], count, exponent)
}

/** fp16 bias, magnitudes in [1/64, 1/32). @param {import('./random-model.mjs').Part} part */
export const biasBits = ({ names, outputs }) => randomHalves(names[0], outputs, -6, true)

/** The tensors of a part, as the writer takes them. */
function partTensors(part, { tensors, halfType }) {
  const { kind, names, inputs, outputs, extents, value, readShare } = part
  if (kind === 'linear') {
    const ofName = (name) => tensors(name, inputs, outputs)
    return names.flatMap(ofName).map((tensor) => ({ ...tensor, readShare: tensor.skipped ? 0 : readShare }))
  }
  const tensor = { name: names[0], dtype: halfType, readShare }
  if (kind === 'matrix') {
    return [{ ...tensor, shape: extents ?? [outputs, inputs], data: () => matrixBits(part, halfType) }]
  }
  if (kind === 'bias') return [{ ...tensor, dtype: 'F16', shape: [outputs], data: () => biasBits(part) }]
  return [{ ...tensor, shape: [outputs], data: () => new Uint16Array(outputs).fill(value * ONES[halfType]) }]
}

/** The checkpoint's tensors, as the writer takes them. */
export const checkpointTensors = (shape) =>
  modelParts(shape).flatMap((part) => partTensors(part, LINEAR_FORMATS[shape.format]))

/**
 * Bytes of weights that a decoded token has to read: all but the embedding, of which it reads one row, the experts that are
 * not chosen, and what a symmetric checkpoint in natural order need not look at (zero points, g_idx).
 */
export const checkpointBytesPerToken = (shape) =>
  checkpointTensors(shape).reduce((sum, tensor) => sum + tensorBytes(tensor) * tensor.readShare, 0)

/** Cuts the list of tensors into `count` runs of about equal bytes. */
function shards(tensors, count) {
  const total = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  const result = Array.from({ length: count }, () => [])
  let before = 0
  for (const tensor of tensors) {
    result[Math.min(count - 1, Math.floor((before / total) * count))].push(tensor)
    before += tensorBytes(tensor)
  }
  return result.filter((shard) => shard.length > 0)
}

/**
 * Writes the checkpoint of `shape` into `directory`, as one file or cut into `shardCount` shards with their index.
 * @returns {{ bytes: number, files: string[] }} the safetensors files, by name, and their bytes together
 */
export function writeCheckpoint(directory, shape, shardCount = 1) {
  checkShape(shape)
  mkdirSync(directory, { recursive: true })
  const writeJson = (name, value) => writeFileSync(join(directory, name), `${JSON.stringify(value, null, 2)}\n`)
  const tensors = checkpointTensors(shape)
  const parts = shards(tensors, shardCount)
  const number = (index) => String(index).padStart(5, '0')
  const files = parts.map((_, index) =>
    shardCount === 1 ? 'model.safetensors' : `model-${number(index + 1)}-of-${number(parts.length)}.safetensors`,
  )
  let bytes = 0
  parts.forEach((part, index) => {
    bytes += writeSafetensors(join(directory, files[index]), part)
  })
  if (shardCount > 1) {
    const weightMap = Object.fromEntries(parts.flatMap((part, index) => part.map(({ name }) => [name, files[index]])))
    const total = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
    writeJson('model.safetensors.index.json', { metadata: { total_size: total }, weight_map: weightMap })
  }
  writeJson('config.json', { ...modelConfig(shape), quantization_config: LINEAR_FORMATS[shape.format].config })
  return { bytes, files }
}
