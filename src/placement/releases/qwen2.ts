/** Qwen, Qwen1.5, Qwen2 and Qwen2.5, dense and with experts, and what was made of them. */
import type { RawConfig } from '../../checkpoint/types'
import { AWQ, gptq, quantized } from './quantizations'

const QWEN_72B = {
  model_type: 'qwen',
  hidden_size: 8192,
  num_hidden_layers: 80,
  num_attention_heads: 64,
  kv_channels: 128,
  intermediate_size: 49152,
  vocab_size: 152064,
  seq_length: 8192,
  use_dynamic_ntk: false,
  use_logn_attn: false,
  torch_dtype: 'float16',
}

const QWEN_15_OF_72B = {
  model_type: 'qwen2',
  hidden_size: 8192,
  num_hidden_layers: 80,
  num_attention_heads: 64,
  num_key_value_heads: 64,
  intermediate_size: 24576,
  vocab_size: 152064,
  max_position_embeddings: 32768,
  torch_dtype: 'float16',
}

const QWEN_2_OF_72B = { ...QWEN_15_OF_72B, num_key_value_heads: 8, intermediate_size: 29568, torch_dtype: 'bfloat16' }

const QWEN_15_OF_14B = {
  model_type: 'qwen2',
  hidden_size: 5120,
  num_hidden_layers: 40,
  num_attention_heads: 40,
  num_key_value_heads: 40,
  intermediate_size: 13696,
  vocab_size: 152064,
  max_position_embeddings: 32768,
  torch_dtype: 'bfloat16',
}

const QWEN_2_OF_7B = {
  model_type: 'qwen2',
  hidden_size: 3584,
  num_hidden_layers: 28,
  num_attention_heads: 28,
  num_key_value_heads: 4,
  intermediate_size: 18944,
  vocab_size: 152064,
  max_position_embeddings: 32768,
  torch_dtype: 'bfloat16',
}

const QWEN_25_OF_14B = {
  model_type: 'qwen2',
  hidden_size: 5120,
  num_hidden_layers: 48,
  num_attention_heads: 40,
  num_key_value_heads: 8,
  intermediate_size: 13824,
  vocab_size: 152064,
  max_position_embeddings: 32768,
  torch_dtype: 'bfloat16',
}

const QWEN_25_OF_32B = { ...QWEN_25_OF_14B, num_hidden_layers: 64, intermediate_size: 27648 }

/** The small ones have a smaller vocabulary, and the embedding as their head. */
const QWEN_25_SMALL = {
  model_type: 'qwen2',
  num_key_value_heads: 2,
  vocab_size: 151936,
  tie_word_embeddings: true,
  max_position_embeddings: 32768,
  torch_dtype: 'bfloat16',
}

const QWEN_25_OF_05B = {
  ...QWEN_25_SMALL,
  hidden_size: 896,
  num_hidden_layers: 24,
  num_attention_heads: 14,
  intermediate_size: 4864,
}

const QWEN_25_OF_15B = {
  ...QWEN_25_SMALL,
  hidden_size: 1536,
  num_hidden_layers: 28,
  num_attention_heads: 12,
  intermediate_size: 8960,
}

const QWEN_25_OF_3B = {
  ...QWEN_25_SMALL,
  hidden_size: 2048,
  num_hidden_layers: 36,
  num_attention_heads: 16,
  intermediate_size: 11008,
}

/** The quantized releases of 72B are padded: 29568 channels in groups of 128 divide by no number of GPUs. */
const PADDED_72B = { ...QWEN_2_OF_72B, intermediate_size: 29696 }

export const qwen2Releases: Readonly<Record<string, RawConfig>> = {
  'Qwen-72B-Chat': { ...QWEN_72B, torch_dtype: 'bfloat16' },
  'Qwen-72B-Chat-Int8': quantized(QWEN_72B, gptq(8)),
  'Qwen-72B-Chat-Int4': quantized(QWEN_72B, gptq(4)),
  'Qwen1.5-72B-Chat': { ...QWEN_15_OF_72B, torch_dtype: 'bfloat16' },
  'Qwen1.5-72B-Chat-GPTQ-Int4': quantized(QWEN_15_OF_72B, gptq(4)),
  'Qwen1.5-14B-Chat': QWEN_15_OF_14B,
  'Qwen1.5-14B-Chat-GPTQ-Int4': quantized({ ...QWEN_15_OF_14B, intermediate_size: 14336 }, gptq(4)),
  'Qwen1.5-14B-Chat-GPTQ-Int4-13696': quantized(QWEN_15_OF_14B, gptq(4)),
  'Qwen2-72B-Instruct': QWEN_2_OF_72B,
  'Qwen2-72B-Instruct-GPTQ-Int8': quantized(PADDED_72B, gptq(8)),
  'Qwen2-72B-Instruct-GPTQ-Int4': quantized(PADDED_72B, gptq(4)),
  'Qwen2-72B-Instruct-AWQ': quantized(PADDED_72B, AWQ),
  'Qwen2-72B-Instruct-AWQ-29568': quantized(QWEN_2_OF_72B, AWQ),
  // Its layers are those of Qwen2-72B; the vision tower is not included.
  'Qwen2-VL-72B-Instruct-AWQ-29568-language-model': quantized(QWEN_2_OF_72B, AWQ),
  'Qwen2-7B-Instruct': QWEN_2_OF_7B,
  'Qwen2.5-72B-Instruct': QWEN_2_OF_72B,
  'Qwen2.5-72B-Instruct-GPTQ-Int8': quantized(PADDED_72B, gptq(8)),
  'Qwen2.5-72B-Instruct-GPTQ-Int4': quantized(PADDED_72B, gptq(4)),
  'Qwen2.5-72B-Instruct-AWQ': quantized(PADDED_72B, AWQ),
  'Qwen2.5-32B-Instruct': QWEN_25_OF_32B,
  'Qwen2.5-14B-Instruct': QWEN_25_OF_14B,
  'Qwen2.5-7B-Instruct': QWEN_2_OF_7B,
  'Qwen2.5-3B-Instruct': QWEN_25_OF_3B,
  'Qwen2.5-1.5B-Instruct': QWEN_25_OF_15B,
  'Qwen2.5-0.5B-Instruct': QWEN_25_OF_05B,
  'Qwen2.5-Coder-32B-Instruct': QWEN_25_OF_32B,
  'Qwen2.5-Coder-14B-Instruct': QWEN_25_OF_14B,
  'Qwen2.5-Coder-7B-Instruct': QWEN_2_OF_7B,
  'QwQ-32B': { ...QWEN_25_OF_32B, max_position_embeddings: 40960 },
  'DeepSeek-R1-Distill-Qwen-32B': { ...QWEN_25_OF_32B, max_position_embeddings: 131072 },
  'DeepSeek-R1-Distill-Qwen-14B': { ...QWEN_25_OF_14B, max_position_embeddings: 131072 },
  'DeepSeek-R1-Distill-Qwen-7B': { ...QWEN_2_OF_7B, max_position_embeddings: 131072 },
  'DeepSeek-R1-Distill-Qwen-1.5B': {
    ...QWEN_25_OF_15B,
    tie_word_embeddings: false,
    max_position_embeddings: 131072,
  },
  'Qwen1.5-MoE-A2.7B-Chat': {
    model_type: 'qwen2_moe',
    hidden_size: 2048,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    num_key_value_heads: 16,
    intermediate_size: 5632,
    num_experts: 60,
    num_experts_per_tok: 4,
    moe_intermediate_size: 1408,
    shared_expert_intermediate_size: 5632,
    vocab_size: 151936,
    max_position_embeddings: 8192,
    torch_dtype: 'bfloat16',
  },
  'Qwen2-57B-A14B-Instruct': {
    model_type: 'qwen2_moe',
    hidden_size: 3584,
    num_hidden_layers: 28,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    intermediate_size: 18944,
    num_experts: 64,
    num_experts_per_tok: 8,
    moe_intermediate_size: 2560,
    shared_expert_intermediate_size: 20480,
    vocab_size: 151936,
    max_position_embeddings: 32768,
    torch_dtype: 'bfloat16',
  },
}
