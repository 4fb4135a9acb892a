import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

export const modelsDirectory = resolve(__dirname, '..', 'fixtures', 'models')

/** Mixtures of experts, which billfish does not run. */
export const REFUSED_MODELS = ['qwen2-moe-gptq-int4', 'qwen3-moe-bf16']
/** Vision models, of which billfish runs the language model. */
export const VISION_MODELS = ['qwen2-vl-bf16', 'qwen2-5-vl-gptq-int4', 'qwen3-vl-bf16']
/** All others. */
export const denseModels = readdirSync(modelsDirectory).filter(
  (name) => ![...REFUSED_MODELS, ...VISION_MODELS].includes(name),
)

export function modelDirectory(name: string): string {
  return join(modelsDirectory, name)
}

/** The 16-bit type of a fixture's config. */
export function ownType(name: string): 'bf16' | 'fp16' {
  const config = JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
  return (config.torch_dtype ?? config.dtype) === 'bfloat16' ? 'bf16' : 'fp16'
}

export interface Golden {
  readonly prompts: Record<string, number[]>
  readonly greedy: Record<string, number[]>
  readonly measured: Record<
    string,
    Record<string, { logits_max_abs: number; logits_mean_abs: number; last_layer_max_abs: number }>
  >
  /** A tensor of golden.safetensors as fp32. */
  tensor(name: string): Float32Array
}

export function golden(name: string): Golden {
  const directory = modelDirectory(name)
  const json = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8'))
  const file = readFileSync(join(directory, 'golden.safetensors'))
  const headerLength = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength))
  const tensor = (tensorName: string) => {
    const entry = header[tensorName]
    if (entry?.dtype !== 'F32') throw new Error(`${name} has no fp32 golden ${tensorName}`)
    const [begin, end] = entry.data_offsets.map((offset: number) => offset + 8 + headerLength)
    return new Float32Array(file.buffer.slice(file.byteOffset + begin, file.byteOffset + end))
  }
  return { ...json, tensor }
}

export interface Difference {
  readonly max: number
  readonly mean: number
}

/** NaN anywhere gives NaN, which no bound accepts. */
export function difference(actual: Float32Array, expected: Float32Array): Difference {
  if (actual.length !== expected.length)
    throw new Error(`${actual.length} values where ${expected.length} are expected`)
  let max = 0
  let sum = 0
  for (let i = 0; i < actual.length; i++) {
    const distance = Math.abs((actual[i] as number) - (expected[i] as number))
    if (!(distance <= max)) max = distance
    sum += distance
  }
  return { max: Number.isNaN(sum) ? Number.NaN : max, mean: sum / actual.length }
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
