/**
 * Every known key of config.json: those of Qwen2Config, Qwen3Config, LlamaConfig, MistralConfig and PreTrainedConfig in
 * transformers 5.24, of QWenConfig (Qwen v1), and keys by which related architectures change the computation.
 * docs/config-keys.md shows this table; test/unit/docs.test.ts compares the two.
 */
import type { RawConfig } from '../checkpoint/types'
import type { ConfigReader } from './config-reader'

/**
 * How a key is handled. `used`: as in transformers. `irrelevant`: does not affect the computation here. `refused`:
 * would affect it; models that set it to an effective value are rejected.
 */
export type Treatment = 'used' | 'irrelevant' | 'refused'

export interface ConfigKey {
  readonly treatment: Treatment
  /** What it does, why it is irrelevant, or what unsupported feature it requests. */
  readonly note: string
  /** For a refused key: whether a non-null value has no effect. */
  readonly isNeutral?: (value: unknown, config: ConfigReader) => boolean
}

const used = (note: string): ConfigKey => ({ treatment: 'used', note })
const irrelevant = (note: string): ConfigKey => ({ treatment: 'irrelevant', note })
const refused = (note: string, isNeutral: ConfigKey['isNeutral'] = () => false): ConfigKey => ({
  treatment: 'refused',
  note,
  isNeutral,
})

const isOneOf =
  (...values: unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value)
const isEmpty = (value: unknown): boolean =>
  value === false || value === 0 || (typeof value === 'object' && value !== null && Object.keys(value).length === 0)

const training = irrelevant('training only')
const outputs = irrelevant('what else transformers returns; `forward()` has its own option')
const labels = irrelevant('names and number of the classes of a classifier')
const kernels = irrelevant('which kernels transformers or the released code takes')
const multipliers = (model: string) => refused(`a factor of ${model}'s`, isOneOf(1))
const isMoe = ({ raw: { model_type } }: ConfigReader) =>
  ['qwen2_moe', 'qwen3_moe', 'qwen3_vl_moe_text', 'qwen3_next', 'qwen3_5_moe_text'].includes(String(model_type))
const isHybrid = ({ raw: { model_type } }: ConfigReader) =>
  ['qwen3_next', 'qwen3_5_text', 'qwen3_5_moe_text'].includes(String(model_type))
const ofHybrids = (note: string) => used(`Qwen3-Next, Qwen3.5: ${note}`)
const experts = (isNeutral: (value: unknown) => boolean) =>
  refused(
    'a mixture of experts, which only Qwen2-MoE, Qwen3-MoE, Qwen3-Next and Qwen3.5-MoE may have',
    (value, config) => isMoe(config) || isNeutral(value),
  )
const otherAttention = refused('another kind of attention', isEmpty)
const otherBias = (neutral: boolean) => refused('biases other than those of the architecture', isOneOf(neutral))

export const modelConfigKeys: Readonly<Record<string, ConfigKey>> = {
  model_type: used(
    'the architecture: `qwen`, `qwen2`, `qwen3`, `qwen2_moe`, `qwen3_moe`, `qwen3_next`, `qwen3_5_text`, `qwen3_5_moe_text`, `llama` or `mistral`, or a vision-language model around one of them',
  ),
  text_config: used(
    'of vision-language models: the language model, whose keys these are; `torch_dtype`, ' +
      '`eos_token_id`, `tie_word_embeddings` and `quantization_config` may stand at the top',
  ),
  vision_config: irrelevant('images are not read'),
  architectures: used(
    'a `...ForCausalLM` or a base model; classifiers and reward models give hidden states, without their own head',
  ),
  hidden_size: used('compared with the embedding'),
  num_hidden_layers: used('compared with the layers that are stored'),
  intermediate_size: used('compared with the tensors; of Qwen v1 twice the width'),
  num_attention_heads: used('compared with the tensors'),
  num_key_value_heads: used('default: `num_attention_heads`'),
  head_dim: used('default: `hidden_size` / `num_attention_heads`, for Qwen3 128'),
  vocab_size: used('compared with the embedding'),
  max_position_embeddings: used('the longest sequence; what some kinds of rope scaling begin at'),
  hidden_act: used('`silu`; anything else is refused'),
  rms_norm_eps: used('from 2^-126 to 1'),
  attention_bias: used("biases of q, k, v and the output (Llama, Qwen3); the others' architectures decide"),
  mlp_bias: used('biases of the MLP (Llama)'),
  tie_word_embeddings: used('the embedding is the head if none is stored; a stored head is always used'),
  rope_theta: used('base of the rotary embedding, from 2 to 10^15; one within the scaling takes precedence'),
  rope_scaling: used(
    '`default`, `linear`, `dynamic`, `llama3` or `yarn`, and `mrope`, which is `default` for text; factors from 1/1024 to 2^20; takes precedence over `rope_parameters`',
  ),
  rope_parameters: used('the same with `rope_theta`, as transformers 5 writes it; a set per layer type is refused'),
  partial_rotary_factor: used('the share of a head that is rotated'),
  original_max_position_embeddings: used('for `llama3` and `yarn`; takes precedence over the one within the scaling'),
  sliding_window: used(
    'for Mistral in all layers, for Qwen2 and Qwen3 with `use_sliding_window`; none if null, 0 or -1',
  ),
  use_sliding_window: used('Qwen2 and Qwen3'),
  max_window_layers: used(
    'if there are no `layer_types`, the first layer with the window (Qwen2, Qwen3), or the first that never has it (Qwen2-MoE)',
  ),
  layer_types: used('which layers have the window, or (Qwen3-Next, Qwen3.5) linear attention; other types are refused'),
  torch_dtype: used('the type in which GPUs compute, unless `dtype` is an option'),
  dtype: used('the same, as transformers 5 writes it'),
  eos_token_id: used('end tokens, if generation_config.json has none'),
  quantization_config: used('see [the formats](formats.md); tensors that contradict it decide'),
  compression_config: used('the same, as older compressed-tensors wrote it'),

  num_experts_per_tok: used('of mixtures of experts: experts that a token goes to'),
  moe_intermediate_size: used("the width of their experts' MLPs"),
  shared_expert_intermediate_size: used(
    'the width of the expert that every token goes to (Qwen2-MoE, Qwen3-Next, Qwen3.5-MoE)',
  ),
  norm_topk_prob: used(
    "whether the weights of a token's experts are divided by their sum; if missing only of Qwen3-Next; always of Qwen3.5's and Qwen3-VL's",
  ),
  decoder_sparse_step: used('every so many layers one has experts; default 1; all layers of Qwen3.5-MoE have them'),
  mlp_only_layers: used('layers without experts; numbers beyond the last layer have no effect, as in transformers'),
  output_router_logits: outputs,
  router_aux_loss_coef: training,

  seq_length: used('Qwen v1: the trained length'),
  kv_channels: used('Qwen v1: the width of a head'),
  layer_norm_epsilon: used('Qwen v1: from 2^-126 to 1'),
  rotary_emb_base: used('Qwen v1: base of the rotary embedding, from 2 to 10^15'),
  rotary_pct: used('Qwen v1: the share of a head that is rotated'),
  use_dynamic_ntk: used('Qwen v1: the base grows with the prompt'),
  use_logn_attn: used('Qwen v1: queries beyond the trained length are scaled'),
  no_bias: refused('Qwen v1: biases of more than q, k and v', isOneOf(true)),
  scale_attn_weights: refused('Qwen v1: attention without its scale', isOneOf(true)),
  use_cache_quantization: irrelevant('Qwen v1: an 8-bit KV cache of the released code'),
  use_cache_kernel: kernels,
  use_flash_attn: kernels,
  softmax_in_fp32: kernels,
  onnx_safe: kernels,
  bf16: kernels,
  fp16: kernels,
  fp32: kernels,
  attn_dropout_prob: training,
  emb_dropout_prob: training,

  bos_token_id: irrelevant('the tokenizer or the chat template adds it'),
  pad_token_id: irrelevant('sequences of a batch are not padded'),
  initializer_range: training,
  attention_dropout: training,
  hidden_dropout: training,
  pretraining_tp: irrelevant('how Llama 2 was trained; the products are the same'),
  use_cache: irrelevant('there is always a KV cache'),
  transformers_version: irrelevant('who wrote the file'),
  _name_or_path: irrelevant('who wrote the file'),
  _commit_hash: irrelevant('who wrote the file'),
  auto_map: irrelevant("no code from a checkpoint is run; loading reports a model class named here, except Qwen v1's"),
  tokenizer_class: irrelevant("the tokenizer's own files decide"),
  return_dict: outputs,
  output_hidden_states: outputs,
  output_attentions: outputs,
  torchscript: outputs,
  attn_implementation: kernels,
  _attn_implementation: kernels,
  _attn_implementation_autoset: kernels,
  experts_implementation: kernels,
  chunk_size_feed_forward: irrelevant('cuts a product in time, not in what it gives'),
  id2label: labels,
  label2id: labels,
  num_labels: labels,
  problem_type: labels,
  classifier_dropout: labels,
  is_decoder: irrelevant('of encoder-decoder models'),

  is_causal: used('false: tokens see later ones, as in some embedding models (not of Qwen v1); default true'),
  use_bidirectional_attention: refused('attention to later tokens', isOneOf(false)),
  bidirectional: refused('attention to later tokens', isOneOf(false)),
  is_encoder_decoder: refused('an encoder', isOneOf(false)),
  add_cross_attention: refused('an encoder', isOneOf(false)),
  per_layer_config: refused('layers that differ from each other', isEmpty),
  block_configs: refused('layers that differ from each other', isEmpty),
  pruned_heads: refused('layers with fewer heads', isEmpty),
  final_logit_softcapping: refused('capped logits (Gemma 2)'),
  attn_logit_softcapping: refused('capped attention (Gemma 2)'),
  query_pre_attn_scalar: refused(
    "a scale of attention other than by the head's width (Gemma 2)",
    (value, config) => value === config.raw.head_dim,
  ),
  attention_multiplier: refused('a scale of attention (Granite)'),
  embedding_multiplier: multipliers('Granite'),
  residual_multiplier: multipliers('Granite'),
  logits_scaling: multipliers('Granite'),
  logit_scale: multipliers('Cohere'),
  scale_emb: multipliers('MiniCPM'),
  scale_depth: refused("a factor of MiniCPM's"),
  dim_model_base: refused("a factor of MiniCPM's", (value, config) => value === config.raw.hidden_size),
  clip_qkv: refused('clipped projections (OLMo, DBRX)'),
  use_qk_norm: refused('norms of queries and keys other than those of Qwen3', isOneOf(false)),
  qk_layernorm: refused('norms of queries and keys other than those of Qwen3', isOneOf(false)),
  no_rope_layers: refused(
    'layers without rotary embedding (SmolLM 3, Llama 4)',
    (value) => Array.isArray(value) && value.every((one) => one === 1),
  ),
  alibi: refused('positions by biases of attention', isOneOf(false)),
  position_embedding_type: refused('positions other than rotary ones', isOneOf('rotary', 'rope', 'absolute')),
  attention_chunk_size: refused('attention in chunks (Llama 4)'),
  attn_temperature_tuning: refused('scaled queries (Llama 4)', isOneOf(false, 0)),
  attention_sinks: otherAttention,
  parallel_attn: refused('attention and MLP side by side (Falcon)', isOneOf(false)),
  use_parallel_residual: refused('attention and MLP side by side (GPT-NeoX)', isOneOf(false)),
  kv_lora_rank: otherAttention,
  q_lora_rank: otherAttention,
  linear_num_key_heads: refused(
    'layers of linear attention, which only Qwen3-Next and Qwen3.5 may have',
    (value, config) => isHybrid(config) || isEmpty(value),
  ),
  linear_num_value_heads: ofHybrids('heads with a recurrent state each; those of keys must divide them'),
  linear_key_head_dim: ofHybrids('rows of a state'),
  linear_value_head_dim: ofHybrids('columns of a state'),
  linear_conv_kernel_dim: ofHybrids('tokens that the convolution sees; default 4'),
  full_attention_interval: ofHybrids(
    'every so many layers one has attention, if there are no `layer_types`; default 4',
  ),
  attn_output_gate: ofHybrids('whether attention has a gate; default true'),
  output_gate_type: refused('another gate than silu of the recurrent layers', isOneOf('swish', 'silu')),
  mamba_ssm_dtype: irrelevant('recurrent states are always fp32'),
  mtp_num_hidden_layers: irrelevant('layers that predict further tokens are not loaded'),
  mtp_use_dedicated_embeddings: irrelevant('layers that predict further tokens are not loaded'),
  num_experts: experts(isOneOf(0, 1)),
  num_local_experts: experts(isOneOf(0, 1)),
  n_routed_experts: refused('a mixture of experts', isEmpty),
  use_bias: otherBias(false),
  qkv_bias: refused(
    'biases other than those of the architecture',
    (value, config) => config.raw.model_type === 'qwen2_moe' || value === (config.raw.model_type === 'qwen2'),
  ),
  attention_out_bias: otherBias(false),
  lm_head_bias: otherBias(false),
}

/** @throws BillfishError UNSUPPORTED_MODEL for a key that asks for what is not computed */
export function checkConfigKeys(config: ConfigReader): void {
  for (const [key, value] of Object.entries(config.raw)) {
    const known = Object.hasOwn(modelConfigKeys, key) ? modelConfigKeys[key] : undefined
    if (known?.treatment !== 'refused') continue
    if (value !== null && !known.isNeutral?.(value, config)) throw config.unsupported(key, known.note)
  }
}

/**
 * Unknown keys (and Qwen v1 keys in other models) with values that may have an effect. transformers ignores them as
 * well, but the author may have expected otherwise. Keys about images belong to the components that are not loaded.
 */
export function unknownKeys(config: RawConfig): string[] {
  const isKnown = (key: string) => {
    const known = Object.hasOwn(modelConfigKeys, key) ? modelConfigKeys[key] : undefined
    return known !== undefined && (config.model_type === 'qwen' || !known.note.startsWith('Qwen v1:'))
  }
  const entries = Object.entries(config).filter(([key, value]) => value !== null && !isEmpty(value) && !isKnown(key))
  return entries.map(([key]) => key).filter((key) => !/^_|^(vision|image|video|audio)_/.test(key))
}
