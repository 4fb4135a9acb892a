import type { Architecture } from './architecture'
import type { ConfigReader } from './config-reader'
import { readExperts } from './experts'
import { FAMILY_NAMES, headDimOf, LlamaFamilyModel, slidingWindow } from './llama-family'

/**
 * Qwen1.5-MoE and Qwen2-57B-A14B: Qwen2 with experts, whose weights are not normalized, and a shared one with a gate of its
 * own.
 */
export const qwen2Moe: Architecture = {
  modelTypes: ['qwen2_moe'],
  names: FAMILY_NAMES,
  create: (config, source, options) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: config.flag('qkv_bias', true) ? 'qkv' : 'none',
      mlpBias: false,
      headNorm: false,
      headDim: headDimOf(config),
      ropeBase: 10000,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      window: qwen2MoeWindow(config),
      experts: readExperts(config, options, { normalize: false, hasSharedExpert: true }),
    }),
}

/** transformers' rule: with use_sliding_window, even layers before max_window_layers have the window. */
function qwen2MoeWindow(config: ConfigReader): (layer: number) => number {
  const window = slidingWindow(config, config.flag('use_sliding_window', false), 0)
  if (config.raw.layer_types != null) return window
  const end = config.index('max_window_layers', 28)
  return (layer) => (layer % 2 === 0 && layer < end ? window(layer) : 0)
}
