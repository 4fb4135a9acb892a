import type { Architecture } from './architecture'
import { FAMILY_NAMES, headDimOf, LlamaFamilyModel, slidingWindow } from './llama-family'

/** Mistral: Llama with a sliding window in every layer (null in later releases). */
export const mistral: Architecture = {
  modelTypes: ['mistral'],
  names: FAMILY_NAMES,
  create: (config, source) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: 'none',
      mlpBias: false,
      headNorm: false,
      headDim: headDimOf(config),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: slidingWindow(config, true, 0),
    }),
}
