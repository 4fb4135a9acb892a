/** Llama 3, and what was made of it. */
import type { RawConfig } from '../../checkpoint/types'

const LLAMA_3_OF_70B = {
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
}

const LLAMA_3_OF_8B = {
  ...LLAMA_3_OF_70B,
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  intermediate_size: 14336,
}

export const llamaReleases: Readonly<Record<string, RawConfig>> = {
  'Llama-3-8B': LLAMA_3_OF_8B,
  'Llama-3-70B': LLAMA_3_OF_70B,
  'DeepSeek-R1-Distill-Llama-8B': { ...LLAMA_3_OF_8B, max_position_embeddings: 131072 },
  'DeepSeek-R1-Distill-Llama-70B': { ...LLAMA_3_OF_70B, max_position_embeddings: 131072 },
}
