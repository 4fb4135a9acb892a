/**
 * The text model of a config.json. Vision-language releases have one within; of text alone it computes what the whole
 * model does: images only replace the embeddings of their own tokens (and, in Qwen3-VL, are added at these tokens behind
 * some layers), and M-RoPE, whose three positions are equal for text, is the plain rotary embedding, in whatever way
 * `mrope_section` deals the pairs of columns out to the three.
 */
import { shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../errors'
import { modelConfigKeys } from './config-keys'

/** A config that one of the architectures reads. */
export interface TextModelConfig {
  readonly config: RawConfig
  /** Where it stands, for messages. */
  readonly where: string
  /** The model_type of the vision-language model that it is a part of. */
  readonly wrapperType: string | undefined
}

interface TextType {
  readonly modelType: string
  /** What transformers' class takes for keys that a config does not have. */
  readonly defaults: RawConfig
}

const QWEN2_VL: TextType = {
  modelType: 'qwen2',
  defaults: { rms_norm_eps: 1e-5, rope_theta: 1e6, max_position_embeddings: 32_768, max_window_layers: 80 },
}
/** Qwen's, by the names of the whole and, with `_text`, of the text model alone. */
const QWEN_VL: Readonly<Record<string, TextType>> = {
  qwen2_vl: QWEN2_VL,
  qwen2_5_vl: QWEN2_VL,
  qwen3_vl: { modelType: 'qwen3', defaults: { max_position_embeddings: 128_000 } },
}

/** Models around any text model, which `text_config` describes. It has only what differs from its class's defaults. */
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

/** Keys of the whole that hold for its text model, too, where that does not say otherwise. */
const INHERITED = new Set([
  'architectures',
  'dtype',
  'torch_dtype',
  'eos_token_id',
  'quantization_config',
  'compression_config',
  ...Object.keys(modelConfigKeys).filter((key) => modelConfigKeys[key]?.treatment === 'refused'),
])

/**
 * The text model's own config: `config` itself where that describes nothing else, and where its model_type is not known.
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
      `${where}: model_type is ${shown(text.model_type)}; of ${type}'s text models billfish knows ${Object.keys(WRAPPED).join(', ')}.`,
    )
  }
  const inherited = Object.entries(config).filter(([key, value]) => INHERITED.has(key) && value !== null)
  const part: RawConfig = {
    ...textType.defaults,
    ...Object.fromEntries(inherited),
    ...Object.fromEntries(Object.entries(text).filter(([key, value]) => !(INHERITED.has(key) && value === null))),
    // Either may say it: which one counts in transformers has changed over time.
    tie_word_embeddings: config.tie_word_embeddings === true || text.tie_word_embeddings === true,
    model_type: textType.modelType,
  }
  if (type.startsWith('qwen3_vl')) requireRopeBase(part, where)
  return { config: part, where, wrapperType: type.endsWith('_text') ? undefined : type }
}

/** Versions of transformers have had different defaults for it. */
function requireRopeBase({ rope_theta, rope_scaling, rope_parameters }: RawConfig, where: string): void {
  const sections = [rope_scaling, rope_parameters].filter(isObject)
  if ([rope_theta, ...sections.map((section) => section.rope_theta)].some((base) => base != null)) return
  throw invalid(`${where}: rope_theta is missing; releases of Qwen3-VL have 5000000`)
}

function own<Value>(record: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}

function invalid(message: string): BillfishError {
  return new BillfishError('INVALID_CHECKPOINT', `${message}.`)
}
