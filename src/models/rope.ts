/**
 * Rotary position embeddings: inverse frequencies of the variants in use, computed as in transformers'
 * `modeling_rope_utils.py` (in fp32 wherever it does).
 */

import { shown } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import type { RopeSpec } from '../native/addon'
import { type ConfigReader, SMALLEST_NORMAL } from './config-reader'

export interface Rope extends RopeSpec {
  /**
   * The base for a sequence that replaces the configured one (dynamic NTK), or 0.
   * @param promptLength tokens in its prompt
   * @param length tokens after the next step
   */
  baseFor(promptLength: number, length: number): number
}

/**
 * Valid ranges. Outside of them positions are lost: all pairs rotate alike, or none completes a rotation within a
 * sequence. Released models have bases from 10^4 to about 10^10 and factors from 1 to a few hundred.
 */
export const ROPE_LIMITS = {
  base: [2, 1e15],
  factor: [1 / 1024, 1_048_576],
  /** Rotations over the trained length (llama3 low_freq_factor, YaRN beta_fast, ...). */
  rotations: [1 / 1024, 1_048_576],
  /** Scale of cos and sin. */
  attentionFactor: [1 / 1024, 1024],
} as const

const fp32 = Math.fround

/** 1 / base^(2i / dim) for i = 0 .. dim/2 - 1, in fp32. */
function inverseFrequencies(base: number, dim: number): Float32Array {
  return Float32Array.from({ length: dim / 2 }, (_, i) => 1 / fp32(base ** fp32((2 * i) / dim)))
}

export function plainRope(base: number, dim: number): Rope {
  return { inverseFrequency: inverseFrequencies(base, dim), scale: 1, baseFor: () => 0 }
}

/**
 * The rotary embedding of a config: `rope_theta` with `rope_scaling` (transformers 4), or both in `rope_parameters`
 * (transformers 5). If both exist, `rope_scaling` wins, as in transformers. `partial_rotary_factor` leaves the last
 * columns of a head unrotated.
 *
 * @throws BillfishError INVALID_CHECKPOINT for values whose rotation fp32 cannot represent; UNSUPPORTED_MODEL
 */
export function ropeFromConfig(config: ConfigReader, headDim: number, defaultBase: number, defaultShare = 1): Rope {
  const parameters = config.section('rope_parameters')
  const scaling = config.section('rope_scaling') ?? parameters
  rejectRopePerLayer(config, scaling)
  const share = (parameters ?? config).positive(
    'partial_rotary_factor',
    config.positive('partial_rotary_factor', defaultShare),
  )
  const dim = Math.floor(headDim * share)
  if (share > 1 || dim % 2 !== 0 || dim === 0) {
    throw config.wrong('partial_rotary_factor', `a share of the head of ${headDim} columns that is even`)
  }
  const owner = [scaling, parameters, config].find((section) => section?.raw.rope_theta != null) ?? config
  const base = owner.within(ROPE_LIMITS.base, 'rope_theta', defaultBase)
  checkFrequencies(inverseFrequencies(base, dim), () =>
    owner.wrong('rope_theta', 'a base whose powers are normal fp32 numbers'),
  )
  if (scaling === undefined) return plainRope(base, dim)
  return checkRope(scaledRope(scaling, base, dim, config), dim, () =>
    scaling.unusable('its rotary embedding exceeds the range of fp32'),
  )
}

/** Returns the rope if all its numbers, for sequences of any length, are normal fp32 numbers. */
export function checkRope(rope: Rope, dim: number, error: () => BillfishError): Rope {
  checkFrequencies(rope.inverseFrequency, error)
  if (!isNormal(rope.scale)) throw error()
  const longest = rope.baseFor(LONGEST_SEQUENCE, LONGEST_SEQUENCE)
  if (longest !== 0) checkFrequencies(inverseFrequencies(longest, dim), error)
  return rope
}

/** Upper limit of maxModelLength. */
const LONGEST_SEQUENCE = 1 << 24

/** Finite, positive, and large enough for full fp32 precision. */
function isNormal(value: number): boolean {
  return Number.isFinite(fp32(value)) && fp32(value) >= SMALLEST_NORMAL
}

/** Native code multiplies positions by frequencies and treats non-finite results as an internal error. */
function checkFrequencies(frequencies: Float32Array, error: () => BillfishError): void {
  if (!frequencies.every((frequency) => isNormal(frequency) && isNormal(frequency * LONGEST_SEQUENCE))) throw error()
}

/** transformers 5 may have parameters per layer type: `rope_parameters: { full_attention: { ... } }`. */
function rejectRopePerLayer(config: ConfigReader, scaling: ConfigReader | undefined): void {
  const nested = Object.entries(scaling?.raw ?? {}).find(([key, value]) => /_attention$/.test(key) && value !== null)
  if (nested === undefined) return
  throw config.unsupported(
    config.raw.rope_scaling == null ? 'rope_parameters' : 'rope_scaling',
    'a rotary embedding of its own for each type of layer',
  )
}

function scaledRope(scaling: ConfigReader, base: number, dim: number, config: ConfigReader): Rope {
  const { rope_type, type: olderType, factor } = scaling.raw
  if (rope_type == null && olderType == null && factor != null && factor !== 1) {
    throw scaling.wrong(
      'rope_type',
      `set, because factor ${shown(factor)} has no meaning without it: linear, dynamic, llama3 or yarn`,
    )
  }
  const type = rope_type ?? olderType ?? 'default'
  const maxPositions = config.count('max_position_embeddings', 2048)
  // Some configs have it outside the section; transformers prefers that one.
  const trainedLength = config.count(
    'original_max_position_embeddings',
    scaling.count('original_max_position_embeddings', maxPositions),
  )
  switch (type) {
    case 'default':
    case 'mrope': // plain RoPE for text, see text-model-config.ts
      return plainRope(base, dim)
    case 'linear': {
      const factor = scaling.within(ROPE_LIMITS.factor, 'factor')
      return { ...plainRope(base, dim), inverseFrequency: inverseFrequencies(base, dim).map((f) => f / factor) }
    }
    case 'dynamic': {
      const factor = scaling.within(ROPE_LIMITS.factor, 'factor')
      const trained = scaling.count('original_max_position_embeddings', maxPositions)
      // The base grows once the sequence exceeds the trained length.
      const baseFor = (promptLength: number, length: number) => {
        const reached = Math.max(promptLength, length)
        return reached <= trained ? 0 : base * ((factor * reached) / trained - (factor - 1)) ** (dim / (dim - 2))
      }
      return { ...plainRope(base, dim), baseFor }
    }
    case 'llama3':
      return { ...plainRope(base, dim), inverseFrequency: llama3Frequencies(base, dim, scaling, trainedLength) }
    case 'yarn':
      return yarnRope(base, dim, scaling, maxPositions, trainedLength)
    default:
      throw new BillfishError(
        'UNSUPPORTED_MODEL',
        `config.json: rope scaling of type ${shown(type)} is not supported; use default, linear, dynamic, llama3 or yarn.`,
      )
  }
}

/** Llama 3: low frequencies are divided by `factor`, high ones kept, those between blended. */
function llama3Frequencies(base: number, dim: number, scaling: ConfigReader, trained: number): Float32Array {
  const factor = scaling.within(ROPE_LIMITS.factor, 'factor')
  const low = scaling.within(ROPE_LIMITS.rotations, 'low_freq_factor')
  const high = scaling.within(ROPE_LIMITS.rotations, 'high_freq_factor')
  if (high <= low) throw scaling.wrong('high_freq_factor', `greater than low_freq_factor (${low})`)
  return inverseFrequencies(base, dim).map((frequency) => {
    const rotations = (trained * frequency) / (2 * Math.PI) // of the pair over the trained length
    if (rotations < low) return frequency / factor
    if (rotations > high) return frequency
    const smooth = (rotations - low) / (high - low)
    return (1 - smooth) * (frequency / factor) + smooth * frequency
  })
}

/**
 * YaRN (arXiv 2309.00071): interpolates slow pairs, keeps fast ones, and scales cos and sin by the attention factor.
 */
function yarnRope(base: number, dim: number, scaling: ConfigReader, maxPositions: number, trained: number): Rope {
  const factor = scaling.within(ROPE_LIMITS.factor, 'factor', maxPositions / trained)
  const magnitude = (scale: number, by = 1) => (scale <= 1 ? 1 : 0.1 * by * Math.log(scale) + 1)
  const mscale = scaling.raw.mscale
  const mscaleAll = scaling.raw.mscale_all_dim
  const defaultAttention =
    typeof mscale === 'number' && mscale && typeof mscaleAll === 'number' && mscaleAll
      ? magnitude(factor, mscale) / magnitude(factor, mscaleAll)
      : magnitude(factor)
  const [least, most] = ROPE_LIMITS.attentionFactor
  if (!(defaultAttention >= least && defaultAttention <= most)) {
    throw scaling.wrong('mscale', `such that cos and sin are scaled by ${least} to ${most}`)
  }
  const scale = scaling.within(ROPE_LIMITS.attentionFactor, 'attention_factor', defaultAttention)

  // The pair that completes `rotations` rotations over the trained length.
  const pairOf = (rotations: number) => (dim * Math.log(trained / (rotations * 2 * Math.PI))) / (2 * Math.log(base))
  const truncate = scaling.flag('truncate', true)
  const fast = pairOf(scaling.within(ROPE_LIMITS.rotations, 'beta_fast', 32))
  const slow = pairOf(scaling.within(ROPE_LIMITS.rotations, 'beta_slow', 1))
  const first = Math.max(truncate ? Math.floor(fast) : fast, 0)
  const last = Math.min(truncate ? Math.ceil(slow) : slow, dim - 1)
  const span = last === first ? 0.001 : last - first

  const inverseFrequency = inverseFrequencies(base, dim).map((frequency, i) => {
    const interpolated = Math.min(Math.max((i - first) / span, 0), 1)
    return (frequency / factor) * interpolated + frequency * (1 - interpolated)
  })
  return { inverseFrequency, scale, baseFor: () => 0 }
}

/**
 * Qwen v1 dynamic NTK: the base is set by the prompt length and kept while decoding (modeling_qwen.py, get_ntk_alpha
 * and RotaryEmbedding).
 */
export function qwenDynamicRope(base: number, dim: number, trainedLength: number): Rope {
  const baseFor = (promptLength: number) => {
    const alpha = Math.max(2 ** Math.ceil(Math.log2(promptLength / trainedLength) + 1) - 1, 1)
    return alpha === 1 ? 0 : base * alpha ** (dim / (dim - 2))
  }
  return { ...plainRope(base, dim), baseFor }
}
