import type { EmbeddingModelV3, EmbeddingModelV3CallOptions, EmbeddingModelV3Result } from '@ai-sdk/provider'
import type { EmbedOptions } from '../../embedding/embed'
import type { Model } from '../../model'

/** What `providerOptions.billfish` may hold of `embed` and `embedMany`: the options of billfish's `embed()`. */
export type BillfishEmbeddingOptions = Omit<EmbedOptions, 'signal'>

export class BillfishEmbeddingModel implements EmbeddingModelV3 {
  readonly specificationVersion = 'v3'
  readonly provider = 'billfish'
  readonly maxEmbeddingsPerCall = undefined // they are computed together
  readonly supportsParallelCalls = true
  readonly #model: Model

  constructor(
    readonly modelId: string,
    model: Model,
  ) {
    this.#model = model
  }

  async doEmbed({
    values,
    abortSignal,
    providerOptions,
  }: EmbeddingModelV3CallOptions): Promise<EmbeddingModelV3Result> {
    const own: BillfishEmbeddingOptions = providerOptions?.billfish ?? {}
    const { embeddings, usage } = await this.#model.embed(values, { ...own, signal: abortSignal })
    return {
      embeddings: embeddings.map((vector) => Array.from(vector)),
      usage: { tokens: usage.totalTokens },
      warnings: [],
    }
  }
}
