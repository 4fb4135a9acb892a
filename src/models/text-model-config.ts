/**
 * Extracts the text model of a config.json. Vision-language releases nest one. For text it computes the same as the
 * whole model: images only replace the embeddings of their own tokens (and, in Qwen3-VL, are added to them after some
 * layers), and M-RoPE, whose three positions are equal for text, reduces to plain rotary embedding for any
 * `mrope_section`.
 */
import { shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { modelConfigKeys } from './config-keys'

/** A config that an architecture can read. */
export interface TextModelConfig {
  readonly config: RawConfig
  /** Where it was found, for error messages. */
  readonly where: string
  /** model_type of the vision-language model that contains it. */
  readonly wrapperType: string | undefined
}

interface TextType {
  readonly modelType: string
  /** Defaults of the transformers class for missing keys. */
  readonly defaults: RawConfig
}

const QWEN2_VL: TextType = {
  modelType: 'qwen2',
  defaults: { rms_norm_eps: 1e-5, rope_theta: 1e6, max_position_embeddings: 32_768, max_window_layers: 80 },
}
/** Qwen-VL models by model_type, without the `_text` suffix of their text models. */
const QWEN_VL: Readonly<Record<string, TextType>> = {
  qwen2_vl: QWEN2_VL,
  qwen2_5_vl: QWEN2_VL,
  qwen3_vl: { modelType: 'qwen3', defaults: { max_position_embeddings: 128_000 } },
  qwen3_vl_moe: { modelType: 'qwen3_vl_moe_text', defaults: { max_position_embeddings: 128_000 } },
  qwen3_5: { modelType: 'qwen3_5_text', defaults: {} },
  qwen3_5_moe: { modelType: 'qwen3_5_moe_text', defaults: {} },
}

/**
 * Wrappers around any text model, described by `text_config`, which lists only what differs from the class defaults.
 */
const WRAPPERS: readonly string[] = [
  'llava',
  'llava_next',
  'llava_onevision',
  'vipllava',
  'mistral3',
  'internvl',
  'idefics3',
  'smolvlm',
]
const COMMON = { hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32 }
const WRAPPED: Readonly<Record<string, TextType>> = {
  llama: { modelType: 'llama', defaults: { ...COMMON, intermediate_size: 11_008, vocab_size: 32_000 } },
  mistral: {
    modelType: 'mistral',
    defaults: {
      ...COMMON,
      intermediate_size: 14_336,
      num_key_value_heads: 8,
      vocab_size: 32_000,
      max_position_embeddings: 131_072,
      sliding_window: 4096,
    },
  },
  qwen2: {
    modelType: 'qwen2',
    defaults: { ...COMMON, intermediate_size: 22_016, vocab_size: 151_936, max_position_embeddings: 32_768 },
  },
  qwen3: {
    modelType: 'qwen3',
    defaults: { ...COMMON, intermediate_size: 22_016, vocab_size: 151_936, max_position_embeddings: 32_768 },
  },
}

/** Top-level keys that also apply to the text model unless it overrides them. */
const INHERITED = new Set([
  'architectures',
  'dtype',
  'torch_dtype',
  'eos_token_id',
  'is_causal',
  'quantization_config',
  'compression_config',
  ...Object.keys(modelConfigKeys).filter((key) => modelConfigKeys[key]?.treatment === 'refused'),
])

/**
 * The config of the text model; `config` itself if it is a text model or its model_type is unknown.
 * @throws BillfishError INVALID_CHECKPOINT
 */
export function textModelConfig(config: RawConfig): TextModelConfig {
  const type = typeof config.model_type === 'string' ? config.model_type : ''
  const qwen = own(QWEN_VL, type.replace(/_text$/, ''))
  const nested = config.text_config ?? undefined
  if (!(qwen || WRAPPERS.includes(type)) || (nested === undefined && !qwen)) {
    return { config, where: 'config.json', wrapperType: undefined }
  }
  const where = nested === undefined ? 'config.json' : 'config.json: text_config'
  if (nested !== undefined && !isObject(nested)) throw invalid(`${where} is ${shown(nested)}, but must be an object`)
  const text = nested ?? config
  const textType = qwen ?? own(WRAPPED, String(text.model_type ?? (type === 'mistral3' ? 'mistral' : 'llama')))
  if (textType === undefined) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `${where}: model_type is ${shown(text.model_type)}; as the text model of ${type} billfish supports ${Object.keys(WRAPPED).join(', ')}.`,
    )
  }
  const inherited = Object.entries(config).filter(([key, value]) => INHERITED.has(key) && value !== null)
  const part: RawConfig = {
    ...textType.defaults,
    ...Object.fromEntries(inherited),
    ...Object.fromEntries(Object.entries(text).filter(([key, value]) => !(INHERITED.has(key) && value === null))),
    // Either may set it; which one transformers uses has changed over time.
    tie_word_embeddings: config.tie_word_embeddings === true || text.tie_word_embeddings === true,
    model_type: textType.modelType,
  }
  if (/^qwen3_(vl|5)/.test(type)) requireRopeBase(part, where, type.startsWith('qwen3_vl') ? 5_000_000 : 10_000_000)
  return { config: part, where, wrapperType: type.endsWith('_text') ? undefined : type }
}

/** Its default differs between versions of transformers. */
function requireRopeBase(
  { model_type, rope_theta, rope_scaling, rope_parameters }: RawConfig,
  where: string,
  usual: number,
): void {
  const sections = [rope_scaling, rope_parameters].filter(isObject)
  if ([rope_theta, ...sections.map((section) => section.rope_theta)].some((base) => base != null)) return
  throw invalid(`${where}: rope_theta is missing; releases of ${String(model_type)} have ${usual}`)
}

function own<Value>(record: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}

function invalid(message: string): BillfishError {
  return new BillfishError('INVALID_CHECKPOINT', `${message}.`)
}
