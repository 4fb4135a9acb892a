import type { Architecture } from './architecture'
import { FAMILY_NAMES, headDimOf, LlamaFamilyModel, qwenSlidingWindow } from './llama-family'

/** Qwen1.5, Qwen2 and Qwen2.5: biases on q, k and v; a sliding window only if use_sliding_window is set. */
export const qwen2: Architecture = {
  modelTypes: ['qwen2'],
  names: FAMILY_NAMES,
  create: (config, source) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: 'qkv',
      mlpBias: false,
      headNorm: false,
      headDim: headDimOf(config),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: qwenSlidingWindow(config),
    }),
}
