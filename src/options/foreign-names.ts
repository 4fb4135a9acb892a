/** What people call options elsewhere: in Hugging Face's libraries, vLLM, SGLang, llama.cpp and other JavaScript packages. */
import { spelling } from './closest'

/** The name here, or, where there is nothing like it, what to do instead. */
export type ForeignName = { readonly name: string } | { readonly instead: string }

/** By our name: the others. Case, `_` and `-` do not matter. */
const RENAMED: Readonly<Record<string, string>> = {
  // Placement and sizes.
  deviceMap: 'device gpu hf_device_map',
  devices: 'gpus gpu_ids device_ids visible_devices',
  maxMemory: 'gpu_split tensor_split gpu_memory memory_limit',
  offloadDirectory: 'offload_folder offload_dir offload_path',
  tensorParallelSize: 'tp tp_size tensor_parallel num_shard',
  expertParallel: 'ep enable_expert_parallel ep_size',
  maxModelLength:
    'max_model_len n_ctx ctx_size num_ctx context context_size context_length max_seq_len max_seq_length ' +
    'max_sequence_length model_max_length max_position_embeddings',
  maxSequences:
    'max_num_seqs n_parallel parallel sequences max_running_requests max_concurrent_requests max_batch_size',
  maxBatchTokens: 'max_num_batched_tokens n_batch batch_size chunk_size chunked_prefill_size max_batch_prefill_tokens',
  maxCacheTokens: 'cache_size kv_cache_size max_total_tokens max_batch_total_tokens num_gpu_blocks_override',
  prefixCache: 'enable_prefix_caching prefix_caching cache_prompt enable_radix_cache',
  speculation: 'speculative_config',
  tokens: 'num_speculative_tokens prompt_lookup_num_tokens',
  minMatch: 'prompt_lookup_min',
  maxMatch: 'prompt_lookup_max max_matching_ngram_size',
  dtype: 'torch_dtype data_type precision',
  onProgress: 'progress progress_callback on_load_progress',
  signal: 'abort_signal load_signal cancel_signal stop_on_abort_signal',
  // Generation.
  maxNewTokens: 'max_tokens max_completion_tokens max_output_tokens n_predict num_predict max_gen_len',
  minNewTokens: 'min_tokens',
  temperature: 'temp',
  repetitionPenalty: 'repeat_penalty',
  frequencyPenalty: 'freq_penalty',
  logitBias: 'token_bias sequence_bias',
  stop: 'stop_sequences stop_strings stop_words custom_stop_triggers antiprompt reverse_prompt',
  stopTokenIds: 'stop_tokens eos_token_id eos_token_ids',
  logprobs: 'top_logprobs n_probs output_scores output_logits return_logits',
  chatTemplate: 'chat_template_kwargs add_generation_prompt tools apply_chat_template',
  hiddenStates: 'output_hidden_states return_hidden_states',
  // Padding.
  parallelSizes: 'tp_sizes ranks',
  to: 'padded_size target_size intermediate_size',
  verify: 'check validate',
  // inferDeviceMap().
  noSplit: 'no_split_module_classes no_split',
}

/** What to do instead -> the names. */
const MISSING: readonly (readonly [instead: string, names: string])[] = [
  [
    'each device takes as many layers as it has room for: name the devices with `devices` or `maxMemory`, or use layerSplit()',
    'n_gpu_layers gpu_layers ngl num_gpu num_gpu_layers split_mode main_gpu',
  ],
  [
    "give the experts a device in the map: deviceMap: { '': 'cuda:0', 'model.layers.*.mlp.experts': 'cpu' }",
    'n_cpu_moe cpu_moe override_tensor tensor_buft_overrides',
  ],
  [
    "give each device's budget in bytes instead, maxMemory: { 'cuda:0': '20GiB' }",
    'gpu_memory_utilization mem_fraction_static gpu_memory_fraction',
  ],
  [
    'layers are cut into stages over the devices that `deviceMap` or `devices` names',
    'pipeline_parallel_size pp_size pp pipeline_parallel',
  ],
  ["name 'cpu' among the devices for what GPUs have no room for", 'cpu_offload_gb swap_space cpu_offload'],
  ['weights go straight to their devices, in pieces', 'low_cpu_mem_usage offload_state_dict offload_buffers'],
  [
    'how a checkpoint is quantized is told by its files',
    'quantization quantization_config load_in_8bit load_in_4bit load_format quantize',
  ],
  ['the KV cache has the type that follows from dtype', 'kv_cache_dtype cache_type_k cache_type_v type_k type_v'],
  ["no code of a checkpoint's is ever run", 'trust_remote_code'],
  ['a model of the Hub is named with its revision, OWNER/NAME@REVISION', 'revision code_revision tokenizer_revision'],
  ['HF_TOKEN has the token, or an option of downloadModel()', 'hf_token use_auth_token access_token'],
  ['HF_HUB_CACHE names the cache, or an option of downloadModel()', 'download_dir'],
  ['HF_HUB_OFFLINE=1 looks into the cache only', 'local_files_only'],
  ['downloadModel() gives the directory of a model on the Hub', 'force_download subfolder model_id repo_id'],
  [
    'billfish has its own kernels',
    'attn_implementation use_flash_attention_2 flash_attn flash_attention enforce_eager',
  ],
  ['files are always mapped', 'use_mmap use_mlock mmap mlock use_safetensors'],
  ['keys and values are always kept', 'use_cache'],
  ['prefixCache: false switches the prefix cache off', 'disable_radix_cache no_prefix_cache'],
  ['temperature 0 takes the likeliest token, and a temperature above 0 samples', 'do_sample sample sampling greedy'],
  ['maxNewTokens counts the tokens of the answer alone', 'max_length min_length'],
  ['there is one answer, sampled or greedy', 'num_beams beam_search use_beam_search penalty_alpha early_stopping'],
  ['call generate() once for each answer: they share their steps', 'num_return_sequences n best_of'],
  ['no padding is needed: sequences of any lengths share a step', 'pad_token_id padding attention_mask'],
  [
    'iterate over what generate() returns: for await (const { text } of model.generate(...))',
    'stream streamer on_token on_text_chunk callback streaming',
  ],
  ['give `signal: AbortSignal.timeout(milliseconds)`', 'timeout timeout_ms max_time'],
  [
    'give the form of the answer: `structuredOutput: { json: schema }`, or { regex }, { choice } or { grammar }',
    'response_format grammar json_schema guided_json guided_regex guided_choice guided_grammar structured_outputs',
  ],
  ['special tokens are left out of the text, and kept in tokenIds', 'skip_special_tokens'],
  [
    "it is a variable of the chat template: `chatTemplate: { variables }` of generate(), or the tokenizer's `chatTemplateKwargs`",
    'enable_thinking reasoning_effort variables documents',
  ],
  [
    'the functions that a model may call go to its template: `chatTemplate: { tools }` of generate()',
    'functions tool_choice',
  ],
  [
    'temperature, topK, topP, minP and the penalties are what there is',
    'mirostat mirostat_tau mirostat_eta typical_p tfs_z top_a xtc_probability dry_multiplier guidance_scale ' +
      'no_repeat_ngram_size length_penalty epsilon_cutoff eta_cutoff',
  ],
  ['logitBias adds to the logits of single tokens; -100 forbids one', 'bad_words_ids suppress_tokens logits_processor'],
  ['leave the loop over the chunks, or call cancel(), to end an answer', 'stopping_criteria'],
  [
    "no second model drafts tokens; `speculation: { method: 'ngram' }` of loadModel() finds drafts in the prompt",
    'assistant_model draft_model speculative_model',
  ],
  ['the prompt is not repeated, and stop strings are no part of the answer', 'echo suffix include_stop_str_in_output'],
  ['a system message is the first of the messages, { role: "system", content }', 'system system_prompt'],
  ['token ids come as an array of numbers', 'return_tensors return_dict return_attention_mask'],
  ['nothing is cut off: slice() the ids', 'truncation truncate'],
  ['what is to be run comes as the first argument', 'prompt messages input inputs input_ids model model_path path'],
  ['the output must not exist yet', 'force overwrite'],
]

const foreign = new Map<string, ForeignName>()
for (const [name, others] of Object.entries(RENAMED)) {
  for (const other of others.split(' ')) foreign.set(spelling(other), { name })
}
for (const [instead, others] of MISSING)
  for (const other of others.split(' ')) foreign.set(spelling(other), { instead })

export function foreignName(name: string): ForeignName | undefined {
  return foreign.get(spelling(name))
}
