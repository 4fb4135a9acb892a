import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Model } from '../../src/index'
import { difference, type Golden, golden as readGolden } from './goldens.cjs'

export { difference }

export const modelsDirectory = resolve(__dirname, '..', 'fixtures', 'models')

/** Vision models, of which billfish runs the language model. */
export const VISION_MODELS = ['qwen2-vl-bf16', 'qwen2-5-vl-gptq-int4', 'qwen3-vl-bf16', 'qwen3-vl-moe-bf16']
/** All others. */
export const textModels = readdirSync(modelsDirectory).filter((name) => !VISION_MODELS.includes(name))
/** Those that run on ranks and emulated devices: of vision models, one whose experts are stored input by input. */
export const splitModels = [...textModels, 'qwen3-vl-moe-bf16']
/** One of each kind of layer, and of each kind of weight. */
export const representativeModels = [
  'qwen2-bf16',
  'qwen2-gptq-int4-g128',
  'qwen2-awq-int4-g128',
  'qwen3-moe-gptq-int4',
  'qwen3-fp8-block',
  'qwen3-ct-nvfp4',
  'qwen3-5-text-bf16',
]
/** Mixtures of experts among them. */
export const moeModels = splitModels.filter((name) => /-moe-|-next-/.test(name))
/** Those with recurrent states. */
export const hybridModels = textModels.filter((name) => /^qwen3-(next|5)-/.test(name))
const denseModels = textModels.filter((name) => !moeModels.includes(name))
/** Whose files billfish pad pads. */
export const paddedModels = denseModels

export function modelDirectory(name: string): string {
  return join(modelsDirectory, name)
}

/**
 * The 16-bit type that a fixture is run in on GPUs: that of its config. Mixtures of experts and hybrids always run in
 * fp16: bf16's rounding alone moves a token to another expert here and there, or adds up in a state, and no bound holds then.
 */
export function typeOnGpus(name: string): 'bf16' | 'fp16' {
  if (moeModels.includes(name) || hybridModels.includes(name)) return 'fp16'
  const config = JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
  return (config.torch_dtype ?? config.dtype) === 'bfloat16' ? 'bf16' : 'fp16'
}

export function golden(name: string): Golden {
  return readGolden(modelDirectory(name))
}

/** 24 tokens after a prompt, as {@link Golden.greedy} has them. */
export async function greedyTokens(model: Model, prompt: number[] | undefined): Promise<readonly number[]> {
  if (!prompt) throw new Error('there is no such prompt')
  return (await model.generate(prompt, { maxNewTokens: 24, temperature: 0, ignoreEos: true }).result()).tokenIds
}

/** The modules of a fixture: embedding, layers, final norm, head. */
export function modulesOfFixture(name: string, expected: Golden): string[] {
  const qwen1 = name.startsWith('qwen1')
  const layers = Array.from(
    { length: layerCount(expected) },
    (_, i) => `${qwen1 ? 'transformer.h' : 'model.layers'}.${i}`,
  )
  return qwen1
    ? ['transformer.wte', ...layers, 'transformer.ln_f', 'lm_head']
    : ['model.embed_tokens', ...layers, 'model.norm', 'lm_head']
}

/** The number of decoder layers of a fixture, from its golden hidden states. */
export function layerCount(expected: Golden): number {
  let layers = 0
  for (;;) {
    try {
      expected.tensor(`p33.layer.${layers}`)
    } catch {
      return layers
    }
    layers++
  }
}

/**
 * Cuts [embedding, layers..., norm, head] at the given layers: cuts [1, 2] put layer 0 on the first device, layer 1 on
 * the second, and the others on the third.
 */
export function cut(
  modules: readonly string[],
  cuts: readonly number[],
  devices: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    modules.map((module, i) => [module, devices[cuts.filter((layer) => i > layer).length] as string] as const),
  )
}

/** As first released: 29568 channels, which are 231 groups of 128. */
export const QWEN2_72B = {
  model_type: 'qwen2',
  hidden_size: 8192,
  num_hidden_layers: 80,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  intermediate_size: 29568,
  vocab_size: 152064,
  max_position_embeddings: 32768,
}
