/**
 * Tensors of a decoder layer that the architecture does not read. Most say that the weights are another model's than
 * config.json claims: norms of queries and keys under model_type llama, or adapters that were never merged. To leave them
 * out would compute something else without a word.
 */
import { quoted } from '../checkpoint/invalid'
import { BillfishError } from '../errors'
import type { WeightSpec } from '../native/weights'
import type { StoredLayout } from './graph'

/**
 * What changes nothing when it is left out: tables that are computed from the config, masks, counters, and the scales by
 * which other engines quantize activations or the KV cache.
 */
const HARMLESS =
  /(^|\.)(rotary_emb\..*|inv_freq|(self_)?attn\.(bias|masked_bias)|position_ids|num_batches_tracked|((input|output|act|[qkv]|kv|prob)_)(scale|zero_point))$/

/** Parts of a linear: its formats store some of them whether or not they are needed, and layers may differ in format. */
const OF_LINEAR = /^(weight|bias|qweight|qzeros|scales|g_idx|perm|weight_(packed|scale|shape|zero_point|g_idx))$/

/**
 * @param read what the first layer reads
 * @throws BillfishError UNSUPPORTED_MODEL naming the tensors and the config's model_type
 */
export function rejectUnexpectedTensors(layout: StoredLayout, read: readonly WeightSpec[], modelType: string): void {
  const vectors = new Set(read.flatMap(({ kind, name }) => (kind === 'vector' ? [name] : [])))
  const linears = new Set(read.flatMap(({ kind, name }) => (kind === 'vector' ? [] : [name])))
  const isRead = (suffix: string) => {
    const name = `${layout.layersName}.0.${suffix}`
    const dot = name.lastIndexOf('.')
    return vectors.has(name) || (linears.has(name.slice(0, dot)) && OF_LINEAR.test(name.slice(dot + 1)))
  }
  const unread = [...layout.layerTensors].filter(([suffix]) => !HARMLESS.test(suffix) && !isRead(suffix))
  if (unread.length === 0) return
  const named = unread.slice(0, 3).map(([, name]) => quoted(name))
  const more = unread.length > named.length ? ` and ${unread.length - named.length} more kinds` : ''
  throw new BillfishError(
    'UNSUPPORTED_MODEL',
    `${layout.where} stores ${named.join(', ')}${more}, which a model of model_type ${modelType} does not read: the weights are of ` +
      'another architecture, or adapters that are not merged. Correct model_type in config.json, or merge or remove them.',
  )
}
