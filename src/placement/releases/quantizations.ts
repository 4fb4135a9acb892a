/** The quantization configs of official releases. */
import type { RawConfig } from '../../checkpoint/types'

/** GPTQ in groups of 128. */
export const gptq = (bits: 4 | 8) => ({ quant_method: 'gptq', bits, group_size: 128, sym: true, desc_act: false })
export const AWQ = { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'gemm' }
/** Routers, gates and the small projections of Gated DeltaNet are left in 16 bits. */
export const FP8 = {
  quant_method: 'fp8',
  fmt: 'e4m3',
  activation_scheme: 'dynamic',
  weight_block_size: [128, 128],
  modules_to_not_convert: ['lm_head', 'mlp.gate', 'mlp.shared_expert_gate', 'in_proj_a', 'in_proj_b', 'in_proj_ba'],
}
/** Of Qwen3.5: MLPs or routed experts alone. */
export const GPTQ_OF_MLPS = {
  ...gptq(4),
  dynamic: { '-:.*attn.*': {}, '-:.*shared_expert.*': {}, '-:.*mtp.*': {}, '-:.*visual.*': {} },
}

export const quantized = (config: RawConfig, quantization: RawConfig) => ({
  ...config,
  torch_dtype: 'float16',
  quantization_config: quantization,
})
