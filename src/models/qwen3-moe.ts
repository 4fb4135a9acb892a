import type { Architecture } from './architecture'
import { readExperts } from './experts'
import { FAMILY_NAMES, headDimOf, LlamaFamilyModel, qwenSlidingWindow } from './llama-family'

/**
 * Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder: Qwen3 with experts.
 */
export const qwen3Moe: Architecture = {
  modelTypes: ['qwen3_moe'],
  names: FAMILY_NAMES,
  create: (config, source, options) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
      mlpBias: false,
      headNorm: true,
      headDim: headDimOf(config),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: qwenSlidingWindow(config),
      experts: readExperts(config, options, { normalize: false, hasSharedExpert: false }),
    }),
}
