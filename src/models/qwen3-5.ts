import { type Architecture, type ModelOptions, SIZE_LIMITS } from './architecture'
import type { ConfigReader } from './config-reader'
import { type Experts, readExperts } from './experts'
import { readGatedDeltaNet } from './gated-delta-net'
import type { WeightSource } from './graph'
import { FAMILY_NAMES, LlamaFamilyModel } from './llama-family'

/** Qwen3.5, 3.6 and 3.8, dense: the layers of Qwen3-Next, stored in parts. */
export const qwen35: Architecture = {
  modelTypes: ['qwen3_5_text'],
  names: FAMILY_NAMES,
  create: (config, source) => create(config, source, undefined),
}

/** The same with experts in every layer, whose weights are always normalized, and a shared one. */
export const qwen35Moe: Architecture = {
  modelTypes: ['qwen3_5_moe_text'],
  names: FAMILY_NAMES,
  create: (config, source, options: ModelOptions) =>
    create(
      config,
      source,
      readExperts(config, options, { normalize: 'always', hasSharedExpert: true, everywhere: true }),
    ),
}

function create(config: ConfigReader, source: WeightSource, experts: Experts | undefined): LlamaFamilyModel {
  return new LlamaFamilyModel(config, source, {
    attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
    mlpBias: false,
    headNorm: true,
    headDim: config.count('head_dim', 256, SIZE_LIMITS.headDim),
    ropeBase: 10_000_000,
    rotatedShare: 0.25,
    normEps: config.epsilon('rms_norm_eps', 1e-6),
    normOffset: 1,
    outputGate: config.flag('attn_output_gate', true),
    window: () => 0,
    experts,
    deltaNet: readGatedDeltaNet(config, 'separate'),
  })
}
