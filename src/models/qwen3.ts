import { type Architecture, sizeLimits } from './architecture'
import { familyNames, LlamaFamilyModel, qwenSlidingWindow } from './llama-family'

/** Qwen3: no biases, but a norm of every query and key head; head_dim is free of hidden_size. */
export const qwen3: Architecture = {
  modelTypes: ['qwen3'],
  names: familyNames,
  create: (config, source) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
      mlpBias: false,
      headNorm: true,
      headDim: config.count('head_dim', 128, sizeLimits.headDim),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: qwenSlidingWindow(config),
    }),
}
