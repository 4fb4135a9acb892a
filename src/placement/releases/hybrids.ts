/** Qwen3-Next, Qwen3.5 and 3.6: hybrids, of which vision towers are not included. */
import type { RawConfig } from '../../checkpoint/types'
import { GPTQ_OF_MLPS } from './quantizations'

/** What the hybrids have in common: every fourth layer has attention, the others a recurrent state. */
const HYBRID = {
  head_dim: 256,
  partial_rotary_factor: 0.25,
  full_attention_interval: 4,
  linear_conv_kernel_dim: 4,
  linear_key_head_dim: 128,
  linear_value_head_dim: 128,
  linear_num_key_heads: 16,
  linear_num_value_heads: 32,
  rope_theta: 10_000_000,
  max_position_embeddings: 262144,
  torch_dtype: 'bfloat16',
}

const QWEN_NEXT_OF_80B_A3B = {
  ...HYBRID,
  model_type: 'qwen3_next',
  hidden_size: 2048,
  num_hidden_layers: 48,
  num_attention_heads: 16,
  num_key_value_heads: 2,
  intermediate_size: 5120,
  num_experts: 512,
  num_experts_per_tok: 10,
  moe_intermediate_size: 512,
  shared_expert_intermediate_size: 512,
  norm_topk_prob: true,
  vocab_size: 151936,
}

const QWEN_35 = { ...HYBRID, model_type: 'qwen3_5_text', vocab_size: 248320 }

const QWEN_35_OF_9B = {
  ...QWEN_35,
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 16,
  num_key_value_heads: 4,
  intermediate_size: 12288,
}

/** The small ones have the embedding as their head. */
const QWEN_35_OF_4B = {
  ...QWEN_35_OF_9B,
  hidden_size: 2560,
  intermediate_size: 9216,
  tie_word_embeddings: true,
}

const QWEN_35_OF_2B = {
  ...QWEN_35,
  hidden_size: 2048,
  num_hidden_layers: 24,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  intermediate_size: 6144,
  linear_num_value_heads: 16,
  tie_word_embeddings: true,
}

const QWEN_35_OF_08B = { ...QWEN_35_OF_2B, hidden_size: 1024, intermediate_size: 3584 }

const QWEN_35_OF_27B = {
  ...QWEN_35,
  hidden_size: 5120,
  num_hidden_layers: 64,
  num_attention_heads: 24,
  num_key_value_heads: 4,
  intermediate_size: 17408,
  linear_num_value_heads: 48,
}

const QWEN_35_MOE = {
  ...QWEN_35,
  model_type: 'qwen3_5_moe_text',
  num_key_value_heads: 2,
}

const QWEN_35_OF_35B_A3B = {
  ...QWEN_35_MOE,
  hidden_size: 2048,
  num_hidden_layers: 40,
  num_attention_heads: 16,
  num_experts: 256,
  num_experts_per_tok: 8,
  moe_intermediate_size: 512,
  shared_expert_intermediate_size: 512,
}

const QWEN_35_OF_122B_A10B = {
  ...QWEN_35_MOE,
  hidden_size: 3072,
  num_hidden_layers: 48,
  num_attention_heads: 32,
  linear_num_value_heads: 64,
  num_experts: 256,
  num_experts_per_tok: 8,
  moe_intermediate_size: 1024,
  shared_expert_intermediate_size: 1024,
}

const QWEN_35_OF_397B_A17B = {
  ...QWEN_35_MOE,
  hidden_size: 4096,
  num_hidden_layers: 60,
  num_attention_heads: 32,
  linear_num_value_heads: 64,
  num_experts: 512,
  num_experts_per_tok: 10,
  moe_intermediate_size: 1024,
  shared_expert_intermediate_size: 1024,
}

const inInt4 = (config: RawConfig) => ({ ...config, quantization_config: GPTQ_OF_MLPS })

export const hybridReleases: Readonly<Record<string, RawConfig>> = {
  'Qwen3-Next-80B-A3B-Instruct': QWEN_NEXT_OF_80B_A3B,
  'Qwen3-Next-80B-A3B-Thinking': QWEN_NEXT_OF_80B_A3B,
  'Qwen3-Coder-Next': QWEN_NEXT_OF_80B_A3B,
  'Qwen3.5-0.8B': QWEN_35_OF_08B,
  'Qwen3.5-2B': QWEN_35_OF_2B,
  'Qwen3.5-4B': QWEN_35_OF_4B,
  'Qwen3.5-9B': QWEN_35_OF_9B,
  'Qwen3.5-27B': QWEN_35_OF_27B,
  'Qwen3.5-27B-GPTQ-Int4': inInt4(QWEN_35_OF_27B),
  'Qwen3.6-27B': QWEN_35_OF_27B,
  'Qwen3.5-35B-A3B': QWEN_35_OF_35B_A3B,
  'Qwen3.5-35B-A3B-GPTQ-Int4': inInt4(QWEN_35_OF_35B_A3B),
  'Qwen3.6-35B-A3B': QWEN_35_OF_35B_A3B,
  'Qwen3.5-122B-A10B': QWEN_35_OF_122B_A10B,
  'Qwen3.5-122B-A10B-GPTQ-Int4': inInt4(QWEN_35_OF_122B_A10B),
  'Qwen3.5-397B-A17B': QWEN_35_OF_397B_A17B,
  'Qwen3.5-397B-A17B-GPTQ-Int4': inInt4(QWEN_35_OF_397B_A17B),
}
