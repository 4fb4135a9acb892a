import { type EmbeddingModelV3, type LanguageModelV3, NoSuchModelError } from '@ai-sdk/provider'
import type { Model } from '../../model'
import { type Models, readModels } from '../../named-models'
import { BillfishEmbeddingModel } from './embedding-model'
import { BillfishLanguageModel } from './language-model'

/** A provider of the AI SDK (ProviderV3). The first model is taken where no name is given. */
export interface BillfishProvider {
  readonly specificationVersion: 'v3'
  /** {@link languageModel}, as is the custom of providers. */
  (modelId?: string): LanguageModelV3
  /**
   * For `generateText`, `streamText` and the like.
   * @throws NoSuchModelError
   */
  languageModel(modelId?: string): LanguageModelV3
  /**
   * For `embed` and `embedMany`.
   * @throws NoSuchModelError
   */
  embeddingModel(modelId?: string): EmbeddingModelV3
  /** @throws NoSuchModelError always: there are none */
  imageModel(modelId: string): never
}

/**
 * Makes loaded models available to the AI SDK.
 * @example
 * ```js
 * import { streamText } from 'ai'
 * import { loadModel } from 'billfish'
 * import { createBillfish } from 'billfish/ai-sdk'
 *
 * const billfish = createBillfish({ qwen: await loadModel('./Qwen2.5-7B-Instruct-GPTQ-Int4') })
 * const { textStream } = streamText({ model: billfish('qwen'), prompt: 'Hello' })
 * for await (const text of textStream) process.stdout.write(text)
 * ```
 * @throws BillfishError INVALID_OPTION
 */
export function createBillfish(models: Models): BillfishProvider {
  const byName = readModels(models)
  const [first = ''] = byName.keys()
  const find = (modelId: string, modelType: NoSuchModelError['modelType']): Model => {
    const model = byName.get(modelId)
    if (model !== undefined) return model
    const known = [...byName.keys()].map((name) => `'${name}'`).join(', ')
    throw new NoSuchModelError({ modelId, modelType, message: `There is no model '${modelId}', but ${known}.` })
  }
  const languageModel = (modelId = first) => new BillfishLanguageModel(modelId, find(modelId, 'languageModel'))
  const members = {
    specificationVersion: 'v3' as const,
    languageModel,
    embeddingModel: (modelId = first) => new BillfishEmbeddingModel(modelId, find(modelId, 'embeddingModel')),
    imageModel(modelId: string): never {
      throw new NoSuchModelError({ modelId, modelType: 'imageModel' })
    },
  }
  return Object.assign((modelId?: string) => languageModel(modelId), members)
}
