import type { Architecture } from './architecture'
import { FAMILY_NAMES, headDimOf, LlamaFamilyModel } from './llama-family'

/** Llama 2, Llama 3 and models of the same shape. */
export const llama: Architecture = {
  modelTypes: ['llama'],
  names: FAMILY_NAMES,
  create: (config, source) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
      mlpBias: config.flag('mlp_bias', false),
      headNorm: false,
      headDim: headDimOf(config),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: () => 0,
    }),
}
