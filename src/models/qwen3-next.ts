import { type Architecture, SIZE_LIMITS } from './architecture'
import { readExperts } from './experts'
import { readGatedDeltaNet } from './gated-delta-net'
import { FAMILY_NAMES, LlamaFamilyModel } from './llama-family'

/**
 * Qwen3-Next and Qwen3-Coder-Next: three layers of Gated DeltaNet for each one of attention, whose output has a gate, and
 * experts with a shared one. Norms store what is added to 1.
 */
export const qwen3Next: Architecture = {
  modelTypes: ['qwen3_next'],
  names: FAMILY_NAMES,
  create: (config, source, options) =>
    new LlamaFamilyModel(config, source, {
      attentionBias: config.flag('attention_bias', false) ? 'qkvo' : 'none',
      mlpBias: false,
      headNorm: true,
      headDim: config.count('head_dim', 256, SIZE_LIMITS.headDim),
      ropeBase: 10_000,
      rotatedShare: 0.25,
      normEps: config.epsilon('rms_norm_eps', 1e-6),
      normOffset: 1,
      outputGate: true,
      window: () => 0,
      experts: readExperts(config, options, { normalize: true, hasSharedExpert: true }),
      deltaNet: readGatedDeltaNet(config, 'by key head'),
    }),
}
