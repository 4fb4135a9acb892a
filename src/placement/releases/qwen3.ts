/** Qwen3, dense and with experts, and what was made of it. */
import type { RawConfig } from '../../checkpoint/types'

const QWEN_3_OF_32B = {
  model_type: 'qwen3',
  hidden_size: 5120,
  num_hidden_layers: 64,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 25600,
  vocab_size: 151936,
  max_position_embeddings: 40960,
  torch_dtype: 'bfloat16',
}

const QWEN_3_OF_14B = {
  ...QWEN_3_OF_32B,
  num_hidden_layers: 40,
  num_attention_heads: 40,
  intermediate_size: 17408,
}

const QWEN_3_OF_8B = {
  ...QWEN_3_OF_32B,
  hidden_size: 4096,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  intermediate_size: 12288,
}

/** The small ones have the embedding as their head. */
const QWEN_3_OF_4B = {
  ...QWEN_3_OF_32B,
  hidden_size: 2560,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  intermediate_size: 9728,
  tie_word_embeddings: true,
}

const QWEN_3_OF_17B = {
  ...QWEN_3_OF_4B,
  hidden_size: 2048,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  intermediate_size: 6144,
}

const QWEN_3_OF_06B = { ...QWEN_3_OF_17B, hidden_size: 1024, intermediate_size: 3072 }

const QWEN_3_MOE = {
  model_type: 'qwen3_moe',
  num_key_value_heads: 4,
  head_dim: 128,
  num_experts: 128,
  num_experts_per_tok: 8,
  norm_topk_prob: true,
  vocab_size: 151936,
  max_position_embeddings: 40960,
  torch_dtype: 'bfloat16',
}

const QWEN_3_OF_30B_A3B = {
  ...QWEN_3_MOE,
  hidden_size: 2048,
  num_hidden_layers: 48,
  num_attention_heads: 32,
  intermediate_size: 6144,
  moe_intermediate_size: 768,
}

const QWEN_3_OF_235B_A22B = {
  ...QWEN_3_MOE,
  hidden_size: 4096,
  num_hidden_layers: 94,
  num_attention_heads: 64,
  intermediate_size: 12288,
  moe_intermediate_size: 1536,
}

const QWEN_3_CODER_OF_480B_A35B = {
  ...QWEN_3_MOE,
  hidden_size: 6144,
  num_hidden_layers: 62,
  num_attention_heads: 96,
  num_key_value_heads: 8,
  intermediate_size: 8192,
  num_experts: 160,
  moe_intermediate_size: 2560,
  max_position_embeddings: 262144,
}

/** Releases from July 2025 on: the same sizes, for longer texts. */
const inLong = (config: RawConfig) => ({ ...config, max_position_embeddings: 262144 })

export const qwen3Releases: Readonly<Record<string, RawConfig>> = {
  'Qwen3-32B': QWEN_3_OF_32B,
  'Qwen3-14B': QWEN_3_OF_14B,
  'Qwen3-8B': QWEN_3_OF_8B,
  'Qwen3-4B': QWEN_3_OF_4B,
  'Qwen3-4B-Instruct-2507': inLong(QWEN_3_OF_4B),
  'Qwen3-4B-Thinking-2507': inLong(QWEN_3_OF_4B),
  'Qwen3-1.7B': QWEN_3_OF_17B,
  'Qwen3-0.6B': QWEN_3_OF_06B,
  'DeepSeek-R1-0528-Qwen3-8B': { ...QWEN_3_OF_8B, max_position_embeddings: 131072 },
  'Qwen3-30B-A3B': QWEN_3_OF_30B_A3B,
  'Qwen3-30B-A3B-Instruct-2507': inLong(QWEN_3_OF_30B_A3B),
  'Qwen3-30B-A3B-Thinking-2507': inLong(QWEN_3_OF_30B_A3B),
  'Qwen3-235B-A22B': QWEN_3_OF_235B_A22B,
  'Qwen3-235B-A22B-Instruct-2507': inLong(QWEN_3_OF_235B_A22B),
  'Qwen3-235B-A22B-Thinking-2507': inLong(QWEN_3_OF_235B_A22B),
  'Qwen3-Coder-30B-A3B-Instruct': inLong(QWEN_3_OF_30B_A3B),
  'Qwen3-Coder-480B-A35B-Instruct': QWEN_3_CODER_OF_480B_A35B,
}
