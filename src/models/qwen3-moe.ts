import type { Architecture, Model, ModelOptions } from './architecture'
import type { ConfigReader } from './config-reader'
import { readExperts } from './experts'
import type { WeightSource } from './graph'
import { FAMILY_NAMES, headDimOf, LlamaFamilyModel, slidingWindow } from './llama-family'

/** Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder: Qwen3 with experts. */
export const qwen3Moe: Architecture = {
  modelTypes: ['qwen3_moe'],
  names: FAMILY_NAMES,
  create: (config, source, options) => create(config, source, options, false),
}

/**
 * The language model of Qwen3-VL-30B-A3B and Qwen3-VL-235B-A22B: its experts' weights are normalized whatever
 * norm_topk_prob says.
 */
export const qwen3VlMoe: Architecture = {
  modelTypes: ['qwen3_vl_moe_text'],
  names: FAMILY_NAMES,
  create: (config, source, options) => create(config, source, options, 'always'),
}

function create(
  config: ConfigReader,
  source: WeightSource,
  options: ModelOptions,
  normalize: boolean | 'always',
): Model {
  return new LlamaFamilyModel(config, source, {
    attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
    mlpBias: false,
    headNorm: true,
    headDim: headDimOf(config),
    ropeBase: 10000,
    normEps: config.epsilon('rms_norm_eps', 1e-6),
    // If there is a window, all layers have it: transformers does not read max_window_layers here.
    window: slidingWindow(config, config.flag('use_sliding_window', false), 0),
    experts: readExperts(config, options, { normalize, hasSharedExpert: false }),
  })
}
