/** Tensors of decoder layers that the config's architecture has no use for. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel, planModel } from '../../../src'
import { directoryOf } from '../../support/directories'
import { withConfig } from '../../support/fixture-copies'
import { modelDirectory } from '../../support/fixtures'
import { readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

/** The fixture with more tensors, which hold zeros. */
function withMore(name: string, more: Readonly<Record<string, number>>): string {
  const tensors: Record<string, StoredTensor> = {}
  for (const file of readdirSync(modelDirectory(name))) {
    if (!file.endsWith('.safetensors') || file === 'golden.safetensors') continue
    for (const [key, tensor] of readSafetensors(join(modelDirectory(name), file))) tensors[key] = tensor
  }
  for (const [key, length] of Object.entries(more)) {
    tensors[key] = { dtype: 'F16', shape: [length], data: Buffer.alloc(2 * length) }
  }
  const config = JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
  return directoryOf({ 'config.json': config, 'model.safetensors': safetensors(tensors) })
}

const refusal = (tensor: string, modelType: string) =>
  expect.objectContaining({
    code: 'UNSUPPORTED_MODEL',
    message: expect.stringMatching(
      new RegExp(`stores .*"${tensor}".*which model_type ${modelType} does not use: .*Correct model_type`),
    ),
  })

test.each(['llama', 'mistral'])(
  'norms of queries and keys are not left out under model_type %s',
  async (model_type) => {
    const directory = withConfig('qwen3-bf16', (config) => ({ ...config, model_type }))
    for (const open of [loadModel, planModel]) {
      await expect(open(directory, { deviceMap: 'cpu' })).rejects.toThrow(
        refusal('model.layers.0.self_attn.q_norm.weight', model_type),
      )
    }
  },
)

test.each([
  'model.layers.2.self_attn.q_norm.weight', // of one layer alone
  'model.layers.0.post_feedforward_layernorm.weight',
  'model.layers.0.input_layernorm.bias',
  'model.layers.1.self_attn.sinks',
  'model.layers.0.self_attn.q_proj.lora_A.weight',
  'model.layers.0.mlp.act_fn.scales',
  'model.layers.0.mlp.gate_up_proj.weight',
])('%s is not left out', async (name) => {
  await expect(loadModel(withMore('qwen2-bf16', { [name]: 4 }), { deviceMap: 'cpu' })).rejects.toThrow(
    refusal(name, 'qwen2'),
  )
})

test('tables, masks and scales of other engines change nothing', async () => {
  const layer = 'model.layers.0.self_attn'
  const names = [
    `${layer}.rotary_emb.inv_freq`,
    `${layer}.rotary_emb.cos_cached`,
    `${layer}.masked_bias`,
    `${layer}.bias`,
    `${layer}.k_scale`,
    `${layer}.k_proj.output_scale`,
    `${layer}.q_proj.input_scale`,
  ]
  const more = Object.fromEntries(names.map((name) => [name, 1]))
  for (const name of ['qwen2-bf16', 'qwen2-gptq-int4-g128', 'qwen2-ct-w4a16']) {
    await using model = await loadModel(withMore(name, more), { deviceMap: 'cpu', maxModelLength: 32 })
    await using own = await loadModel(modelDirectory(name), { deviceMap: 'cpu', maxModelLength: 32 })
    expect((await model.forward([1, 2, 3])).logits).toEqual((await own.forward([1, 2, 3])).logits)
  }
})
