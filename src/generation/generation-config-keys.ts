/**
 * Every known key of generation_config.json: those of GenerationConfig in transformers 5.24 and older versions, and of
 * Qwen v1. docs/config-keys.md shows this table; test/unit/docs.test.ts compares the two.
 */

/**
 * How a key is handled. `used`: as in transformers. `irrelevant`: does not affect generation here. `ignored`: would
 * affect it; setting it causes a process warning.
 */
export type Treatment = 'used' | 'irrelevant' | 'ignored'

export interface GenerationConfigKey {
  readonly treatment: Treatment
  /** What it does, why it is irrelevant, or what to do instead. */
  readonly note: string
  /** Values without effect, besides null; they cause no warning. */
  readonly neutral?: readonly unknown[]
}

const used = (note: string): GenerationConfigKey => ({ treatment: 'used', note })
const irrelevant = (note: string): GenerationConfigKey => ({ treatment: 'irrelevant', note })
const ignored = (note: string, ...neutral: unknown[]): GenerationConfigKey => ({
  treatment: 'ignored',
  note,
  neutral,
})

const outputs = irrelevant('what else transformers returns; `forward()` gives logits and hidden states')
const caching = irrelevant("how transformers keeps its KV cache; `loadModel`'s options decide here")
const speculation = irrelevant('speculative decoding: faster with a second model, but the same answers')
const beamDetail = irrelevant('a detail of beam search, of which `num_beams` speaks')

export const generationConfigKeys: Readonly<Record<string, GenerationConfigKey>> = {
  max_new_tokens: used('default of `maxNewTokens`'),
  max_length: used('default of `maxNewTokens`, minus the prompt, without `max_new_tokens`'),
  min_new_tokens: used('default of `minNewTokens`, as far as `maxNewTokens` allows'),
  min_length: used('default of `minNewTokens`, minus the prompt, without `min_new_tokens`'),
  stop_strings: used('default of `stop`; the string that ends an answer is not part of its text'),
  eos_token_id: used("end tokens, in addition to the tokenizer's; config.json's if this file has none"),
  chat_format: used('Qwen v1: `chatml` makes the ends of a turn end tokens'),
  do_sample: used('greedy unless true'),
  temperature: used('default of `temperature` if `do_sample` is true'),
  top_k: used('default of `topK`; off if missing (transformers: 50), 0 or -1'),
  top_p: used('default of `topP`'),
  min_p: used('default of `minP`'),
  repetition_penalty: used('default of `repetitionPenalty`'),
  no_repeat_ngram_size: used('tokens that would repeat so many tokens of prompt and answer are banned'),
  encoder_no_repeat_ngram_size: used('the same for the prompt alone'),
  bad_words_ids: used('the last token of each list is banned after the others; a single end token is not'),
  suppress_tokens: used('banned'),
  begin_suppress_tokens: used('banned as the first token of an answer'),
  sequence_bias: used('added, after penalties, to the logit of the last token of each list if the others precede it'),
  forced_bos_token_id: used('the first token of an answer to a prompt of one token, as in transformers'),
  forced_eos_token_id: used('the last token of an answer that reaches `maxNewTokens`'),

  bos_token_id: irrelevant('prompts bring their own beginning: the tokenizer or the chat template adds it'),
  pad_token_id: irrelevant('sequences of a batch are not padded'),
  decoder_start_token_id: irrelevant('only encoder-decoder models have one'),
  renormalize_logits: irrelevant('logits are normalized when it matters'),
  remove_invalid_values: irrelevant('logits that are not finite are an error (`NON_FINITE`)'),
  output_attentions: outputs,
  output_hidden_states: outputs,
  output_scores: outputs,
  output_logits: outputs,
  return_dict_in_generate: outputs,
  use_cache: caching,
  cache_implementation: caching,
  cache_config: caching,
  max_cache_len: caching,
  prefill_chunk_size: caching,
  continuous_batching_config: caching,
  low_memory: caching,
  compile_config: irrelevant('there is nothing to compile'),
  disable_compile: irrelevant('there is nothing to compile'),
  use_mtp: speculation,
  is_assistant: speculation,
  num_assistant_tokens: speculation,
  num_assistant_tokens_schedule: speculation,
  assistant_confidence_threshold: speculation,
  assistant_early_exit: speculation,
  assistant_lookbehind: speculation,
  target_lookbehind: speculation,
  prompt_lookup_num_tokens: speculation,
  max_matching_ngram_size: speculation,
  speculation_type: speculation,
  early_stopping: beamDetail,
  length_penalty: beamDetail,
  max_window_size: irrelevant("Qwen v1: how much of a conversation the model's own chat() keeps"),
  transformers_version: irrelevant('who wrote the file'),
  _from_model_config: irrelevant('who wrote the file'),
  _commit_hash: irrelevant('who wrote the file'),
  trust_remote_code: irrelevant("no code of a checkpoint's is run"),

  num_beams: ignored('answers are sampled or greedy', 1),
  num_beam_groups: ignored('answers are sampled or greedy', 1),
  diversity_penalty: ignored('answers are sampled or greedy', 0),
  constraints: ignored('answers are sampled or greedy'),
  force_words_ids: ignored('answers are sampled or greedy'),
  penalty_alpha: ignored('there is no contrastive search', 0),
  dola_layers: ignored('layers are not contrasted'),
  num_return_sequences: ignored('call `generate()` as often as you want answers; they share steps', 1),
  max_time: ignored('pass `signal: AbortSignal.timeout(milliseconds)`'),
  typical_p: ignored('use `topP` or `minP`', 1),
  epsilon_cutoff: ignored('use `minP`', 0),
  eta_cutoff: ignored('use `minP`', 0),
  top_h: ignored('use `topP` or `minP`'),
  encoder_repetition_penalty: ignored('use `repetitionPenalty`', 1),
  exponential_decay_length_penalty: ignored('use `maxNewTokens`, or `logitBias` for the end tokens'),
  guidance_scale: ignored('there is no classifier-free guidance', 1),
  token_healing: ignored('end the prompt at the end of a word', false),
  watermarking_config: ignored('answers carry no watermark'),
  assistant_ensemble_weight: ignored('there is no second model to mix with'),
  forced_decoder_ids: ignored('begin the answer in the prompt'),
  stop_words_ids: ignored('Qwen v1; pass the texts as `stop`, or the tokens as `stopTokenIds`'),
}
