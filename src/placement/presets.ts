import type { RawConfig } from '../checkpoint/types'

/**
 * config.json of well-known releases, for planning without their files: everything that determines shapes, and the
 * quantization config of quantized releases. The numbers are those of the releases.
 */
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

const gptq = (bits: 4 | 8) => ({ quant_method: 'gptq', bits, group_size: 128, sym: true, desc_act: false })
/** The official int4 releases of Qwen3.5 quantize MLPs or routed experts alone. */
const GPTQ_OF_MLPS = {
  ...gptq(4),
  dynamic: { '-:.*attn.*': {}, '-:.*shared_expert.*': {}, '-:.*mtp.*': {}, '-:.*visual.*': {} },
}
const FP8 = {
  quant_method: 'fp8',
  fmt: 'e4m3',
  activation_scheme: 'dynamic',
  weight_block_size: [128, 128],
}
const AWQ = { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'gemm' }
const quantized = (config: RawConfig, quantization: RawConfig) => ({
  ...config,
  torch_dtype: 'float16',
  quantization_config: quantization,
})

const inFp8 = (config: RawConfig) => ({ ...config, quantization_config: FP8 })

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

const QWEN_3_OF_8B = {
  ...QWEN_3_OF_32B,
  hidden_size: 4096,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  intermediate_size: 12288,
}

const QWEN_3_CODER_OF_30B_A3B = { ...QWEN_3_OF_30B_A3B, max_position_embeddings: 262144 }

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

/**
 * Name -> config.json. Some quantized releases were published twice: their MLPs could not be split at group boundaries,
 * so they were padded, requantized and uploaded under the same name. The original uploads, which are still widespread,
 * have their channel count as a suffix here.
 */
export const presets: Readonly<Record<string, RawConfig>> = {
  'Qwen-72B-Chat': { ...QWEN_72B, torch_dtype: 'bfloat16' },
  'Qwen-72B-Chat-Int8': quantized(QWEN_72B, gptq(8)),
  'Qwen-72B-Chat-Int4': quantized(QWEN_72B, gptq(4)),
  'Qwen1.5-72B-Chat': { ...QWEN_15_OF_72B, torch_dtype: 'bfloat16' },
  'Qwen1.5-72B-Chat-GPTQ-Int4': quantized(QWEN_15_OF_72B, gptq(4)),
  'Qwen1.5-14B-Chat': QWEN_15_OF_14B,
  'Qwen1.5-14B-Chat-GPTQ-Int4': quantized({ ...QWEN_15_OF_14B, intermediate_size: 14336 }, gptq(4)),
  'Qwen1.5-14B-Chat-GPTQ-Int4-13696': quantized(QWEN_15_OF_14B, gptq(4)),
  'Qwen2-72B-Instruct': QWEN_2_OF_72B,
  'Qwen2-72B-Instruct-GPTQ-Int8': quantized({ ...QWEN_2_OF_72B, intermediate_size: 29696 }, gptq(8)),
  'Qwen2-72B-Instruct-GPTQ-Int4': quantized({ ...QWEN_2_OF_72B, intermediate_size: 29696 }, gptq(4)),
  'Qwen2-72B-Instruct-AWQ': quantized({ ...QWEN_2_OF_72B, intermediate_size: 29696 }, AWQ),
  'Qwen2-72B-Instruct-AWQ-29568': quantized(QWEN_2_OF_72B, AWQ),
  // Its layers are those of Qwen2-72B; the vision tower is not included.
  'Qwen2-VL-72B-Instruct-AWQ-29568-language-model': quantized(QWEN_2_OF_72B, AWQ),
  'Qwen2-7B-Instruct': QWEN_2_OF_7B,
  'Qwen2.5-72B-Instruct': QWEN_2_OF_72B,
  'Qwen2.5-32B-Instruct': QWEN_25_OF_32B,
  'Qwen2.5-14B-Instruct': QWEN_25_OF_14B,
  'Qwen2.5-Coder-32B-Instruct': QWEN_25_OF_32B,
  'QwQ-32B': { ...QWEN_25_OF_32B, max_position_embeddings: 40960 },
  'DeepSeek-R1-Distill-Qwen-32B': { ...QWEN_25_OF_32B, max_position_embeddings: 131072 },
  'DeepSeek-R1-Distill-Qwen-14B': { ...QWEN_25_OF_14B, max_position_embeddings: 131072 },
  'DeepSeek-R1-Distill-Qwen-7B': { ...QWEN_2_OF_7B, max_position_embeddings: 131072 },
  'Qwen2.5-7B-Instruct': QWEN_2_OF_7B,
  'Qwen3-32B': QWEN_3_OF_32B,
  'Qwen3-32B-FP8': inFp8(QWEN_3_OF_32B),
  'Qwen3-8B': QWEN_3_OF_8B,
  'Qwen3-8B-FP8': inFp8(QWEN_3_OF_8B),
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
  'Qwen3-30B-A3B': QWEN_3_OF_30B_A3B,
  'Qwen3-30B-A3B-GPTQ-Int4': quantized(QWEN_3_OF_30B_A3B, gptq(4)),
  'Qwen3-30B-A3B-FP8': inFp8(QWEN_3_OF_30B_A3B),
  'Qwen3-235B-A22B': QWEN_3_OF_235B_A22B,
  'Qwen3-235B-A22B-GPTQ-Int4': quantized(QWEN_3_OF_235B_A22B, gptq(4)),
  'Qwen3-235B-A22B-FP8': inFp8(QWEN_3_OF_235B_A22B),
  'Qwen3-Coder-30B-A3B-Instruct': QWEN_3_CODER_OF_30B_A3B,
  'Qwen3-Coder-30B-A3B-Instruct-FP8': inFp8(QWEN_3_CODER_OF_30B_A3B),
  'Qwen3-Coder-480B-A35B-Instruct': QWEN_3_CODER_OF_480B_A35B,
  'Qwen3-Coder-480B-A35B-Instruct-FP8': inFp8(QWEN_3_CODER_OF_480B_A35B),
  'Qwen3-Next-80B-A3B-Instruct': QWEN_NEXT_OF_80B_A3B,
  'Qwen3-Next-80B-A3B-Instruct-FP8': inFp8(QWEN_NEXT_OF_80B_A3B),
  'Qwen3-Coder-Next': QWEN_NEXT_OF_80B_A3B,
  // Of the models from here on the vision towers are not included.
  'Qwen3.5-9B': QWEN_35_OF_9B,
  'Qwen3.5-27B': QWEN_35_OF_27B,
  'Qwen3.5-27B-FP8': inFp8(QWEN_35_OF_27B),
  'Qwen3.5-27B-GPTQ-Int4': { ...QWEN_35_OF_27B, quantization_config: GPTQ_OF_MLPS },
  'Qwen3.6-27B': QWEN_35_OF_27B,
  'Qwen3.6-27B-FP8': inFp8(QWEN_35_OF_27B),
  'Qwen3.5-35B-A3B': QWEN_35_OF_35B_A3B,
  'Qwen3.5-35B-A3B-FP8': inFp8(QWEN_35_OF_35B_A3B),
  'Qwen3.5-35B-A3B-GPTQ-Int4': { ...QWEN_35_OF_35B_A3B, quantization_config: GPTQ_OF_MLPS },
  'Qwen3.6-35B-A3B': QWEN_35_OF_35B_A3B,
  'Qwen3.6-35B-A3B-FP8': inFp8(QWEN_35_OF_35B_A3B),
  'Qwen3.5-397B-A17B': QWEN_35_OF_397B_A17B,
  'Qwen3.5-397B-A17B-FP8': inFp8(QWEN_35_OF_397B_A17B),
  'Qwen3.5-397B-A17B-GPTQ-Int4': { ...QWEN_35_OF_397B_A17B, quantization_config: GPTQ_OF_MLPS },
  'Llama-3-70B': {
    model_type: 'llama',
    hidden_size: 8192,
    num_hidden_layers: 80,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    intermediate_size: 28672,
    vocab_size: 128256,
    max_position_embeddings: 8192,
    rope_theta: 500000,
    torch_dtype: 'bfloat16',
  },
}
