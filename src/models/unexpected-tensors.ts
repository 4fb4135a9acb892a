/**
 * Decoder-layer tensors that the architecture does not read. Most indicate that the weights belong to another model
 * than config.json claims: query and key norms under model_type llama, or adapters that were never merged. Ignoring
 * them would silently compute something else.
 */
import { quoted } from '../checkpoint/invalid'
import { BillfishError } from '../errors'
import type { WeightSpec } from '../native/weights'
import type { StoredLayout } from './graph'

/**
 * Tensors that are safe to ignore: tables derived from the config, masks, counters, and the scales with which other
 * engines quantize activations or the KV cache.
 */
const HARMLESS =
  /(^|\.)(rotary_emb\..*|inv_freq|(self_)?attn\.(bias|masked_bias)|position_ids|num_batches_tracked|((input|output|act|[qkv]|kv|prob)_)(scale|zero_point))$/

/** Tensors of a linear. Formats store some of them whether or not they are needed, and layers may differ in format. */
const OF_LINEAR = /^(weight|bias|qweight|qzeros|scales|g_idx|perm|weight_(packed|scale|shape|zero_point|g_idx))$/

/**
 * @param read weights that the first layer reads
 * @throws BillfishError UNSUPPORTED_MODEL naming the tensors and the model_type
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
    `${layout.where} stores ${named.join(', ')}${more}, which model_type ${modelType} does not use: the weights are from ` +
      'another architecture, or are unmerged adapters. Correct model_type in config.json, or merge or remove them.',
  )
}
