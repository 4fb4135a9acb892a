/** Checkpoints with as many tensors as large mixtures of experts, in sparse files. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { createModel } from '../../src/models/registry'
import { modulesOf, traceStage } from '../../src/models/stages'
import { ELEMENT_BYTES, type ExpertsSpec, type TensorRef, type WeightSpec } from '../../src/native/weights'
import { configWeights } from '../../src/placement/plan-model'

/** GPTQ experts; the numbers of layers and experts are those of Qwen3-30B-A3B unless given. */
export function manyExperts(sizes: object = {}) {
  return {
    model_type: 'qwen3_moe',
    torch_dtype: 'float16',
    hidden_size: 128,
    intermediate_size: 128,
    num_hidden_layers: 48,
    num_attention_heads: 8,
    num_key_value_heads: 8,
    head_dim: 16,
    num_experts: 128,
    num_experts_per_tok: 8,
    moe_intermediate_size: 128,
    norm_topk_prob: true,
    vocab_size: 256,
    max_position_embeddings: 128,
    quantization_config: { quant_method: 'gptq', bits: 4, group_size: 128, sym: true, desc_act: false },
    ...sizes,
  }
}

/** The directory of a checkpoint of zeros, which is removed after the tests of the file. */
export function sparseCheckpoint(config: ReturnType<typeof manyExperts>): string {
  const directory = mkdtempSync(join(tmpdir(), 'billfish-test-'))
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  const header: Record<string, object> = {}
  let end = 0
  for (const { name, dtype, shape } of tensorsOf(config)) {
    const begin = end
    end += shape.reduce((product, dimension) => product * dimension, ELEMENT_BYTES[dtype])
    header[name] = { dtype, shape, data_offsets: [begin, end] }
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = openSync(join(directory, 'model.safetensors'), 'w')
  writeSync(file, Buffer.concat([length, text]))
  ftruncateSync(file, 8 + text.length + end)
  closeSync(file)
  return directory
}

function tensorsOf(config: ReturnType<typeof manyExperts>): TensorRef[] {
  const source = configWeights(config)
  const model = createModel(config, source)
  const { weights } = traceStage(model, source, { device: 'cpu', modules: modulesOf(model) })
  const linears = weights.flatMap((weight): readonly Exclude<WeightSpec, ExpertsSpec>[] =>
    weight.kind === 'experts' ? weight.experts : [weight],
  )
  return linears.flatMap((weight) =>
    weight.kind === 'quantized'
      ? [
          weight.codes,
          weight.scales,
          ...(weight.zeros ? [weight.zeros] : []),
          ...(weight.groupIndex ? [weight.groupIndex] : []),
        ]
      : [weight.weight],
  )
}
