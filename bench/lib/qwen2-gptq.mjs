/** The random Qwen2 model as a GPTQ checkpoint directory: int4, group 128, symmetric, natural order, fp16 elsewhere. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as model from './random-qwen2.mjs'
import { tensorBytes, writeSafetensors } from './safetensors-writer.mjs'

const STORED_ZEROS = 0x77777777 // GPTQ v1 stores the zero point, 8, minus one
const FP16_ONE = 0x3c00

/** config.json of the checkpoint. */
export function qwen2Config(shape) {
  return {
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    intermediate_size: shape.intermediate,
    vocab_size: shape.vocab,
    max_position_embeddings: shape.maxPositions,
    rms_norm_eps: model.NORM_EPSILON,
    rope_theta: model.ROPE_THETA,
    tie_word_embeddings: false,
    torch_dtype: 'float16',
    use_sliding_window: false,
    bos_token_id: null,
    eos_token_id: 256,
  }
}

/** quantize_config.json of the checkpoint. */
export const quantizeConfig = {
  bits: 4,
  group_size: model.GROUP_SIZE,
  desc_act: false,
  static_groups: false,
  sym: true,
  true_sequential: true,
  quant_method: 'gptq',
  checkpoint_format: 'gptq',
}

/** The checkpoint's tensors, as the writer takes them. */
export function qwen2GptqTensors(shape) {
  const norm = (name) => ({
    name,
    dtype: 'F16',
    shape: [shape.hidden],
    data: () => new Uint16Array(shape.hidden).fill(FP16_ONE),
  })
  const matrix = (name) => ({
    name,
    dtype: 'F16',
    shape: [shape.vocab, shape.hidden],
    data: () => model.vocabularyMatrix(name, shape),
  })
  const linear = (name, inputs, outputs, hasBias) => {
    const groups = inputs / model.GROUP_SIZE
    const tensors = [
      {
        part: 'qweight',
        dtype: 'I32',
        shape: [inputs / 8, outputs],
        data: () => model.linearCodes(name, inputs, outputs),
      },
      {
        part: 'qzeros',
        dtype: 'I32',
        shape: [groups, outputs / 8],
        data: () => new Uint32Array((groups * outputs) / 8).fill(STORED_ZEROS),
      },
      { part: 'scales', dtype: 'F16', shape: [groups, outputs], data: () => model.linearScales(name, inputs, outputs) },
      {
        part: 'g_idx',
        dtype: 'I32',
        shape: [inputs],
        data: () => Int32Array.from({ length: inputs }, (_, input) => Math.floor(input / model.GROUP_SIZE)),
      },
    ]
    if (hasBias) {
      tensors.push({ part: 'bias', dtype: 'F16', shape: [outputs], data: () => model.linearBias(name, outputs) })
    }
    return tensors.map(({ part, ...tensor }) => ({ name: `${name}.${part}`, ...tensor }))
  }

  const tensors = [matrix('model.embed_tokens.weight')]
  for (let layer = 0; layer < shape.layers; layer++) {
    const prefix = `model.layers.${layer}`
    tensors.push(norm(`${prefix}.input_layernorm.weight`), norm(`${prefix}.post_attention_layernorm.weight`))
    for (const [name, ...rest] of model.layerLinears(shape)) tensors.push(...linear(`${prefix}.${name}`, ...rest))
  }
  tensors.push(norm('model.norm.weight'), matrix('lm_head.weight'))
  return tensors
}

/**
 * Bytes of weights that a decoded token has to read: all but the embedding, of which it reads one row, and what a
 * symmetric checkpoint in natural order need not look at (zero points, g_idx).
 */
export function gptqBytesPerToken(shape) {
  const skipped = /embed_tokens|qzeros$|g_idx$/
  const read = qwen2GptqTensors(shape).filter(({ name }) => !skipped.test(name))
  return read.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
}

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
export function writeQwen2Gptq(directory, shape, shardCount = 1) {
  model.checkShape(shape)
  mkdirSync(directory, { recursive: true })
  const writeJson = (name, value) => writeFileSync(join(directory, name), `${JSON.stringify(value, null, 2)}\n`)
  const tensors = qwen2GptqTensors(shape)
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
  writeJson('quantize_config.json', quantizeConfig)
  writeJson('config.json', { ...qwen2Config(shape), quantization_config: quantizeConfig })
  return { bytes, files }
}
