import { type Architecture, SIZE_LIMITS } from './architecture'
import { FAMILY_NAMES, LlamaFamilyModel, qwenSlidingWindow } from './llama-family'

/** Qwen3: no biases, but a norm on every query and key head; head_dim is independent of hidden_size. */
export const qwen3: Architecture = {
  modelTypes: ['qwen3'],
  names: FAMILY_NAMES,
  create: (config, source) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
      mlpBias: false,
      headNorm: true,
      headDim: config.count('head_dim', 128, SIZE_LIMITS.headDim),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: qwenSlidingWindow(config),
    }),
}
