import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../errors'
import type { Architecture, Model } from './architecture'
import { ConfigReader } from './config-reader'
import type { WeightSource } from './graph'
import { llama } from './llama'
import { mistral } from './mistral'
import { qwen } from './qwen'
import { qwen2 } from './qwen2'
import { qwen3 } from './qwen3'

const architectures: readonly Architecture[] = [qwen, qwen2, qwen3, llama, mistral]

/** The model_types that {@link createModel} knows. */
export const modelTypes: readonly string[] = architectures.flatMap((architecture) => architecture.modelTypes)

/**
 * The model that a config.json describes.
 * @throws BillfishError UNSUPPORTED_MODEL naming the model_type and those that are known; INVALID_CHECKPOINT for a
 *   config that lacks a key or contradicts itself
 */
export function createModel(config: RawConfig, source: WeightSource): Model {
  const type = config.model_type
  const architecture = architectures.find(({ modelTypes }) => modelTypes.includes(type as string))
  if (!architecture) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `config.json: model_type is ${JSON.stringify(type) ?? 'missing'}; billfish knows ${modelTypes.join(', ')}.`,
    )
  }
  return architecture.create(new ConfigReader(config), source)
}
