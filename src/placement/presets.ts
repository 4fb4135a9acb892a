/**
 * Well-known releases, for planning without their files: name -> everything of config.json that determines shapes, and the
 * quantization config of quantized releases. The numbers are those of the releases. releases/ has them by family.
 *
 * Some quantized releases were published twice: their MLPs could not be split at group boundaries, so they were padded,
 * requantized and uploaded under the same name. The original uploads, which are still widespread, have their channel count
 * as a suffix here.
 */
import type { RawConfig } from '../checkpoint/types'
import { hybridReleases } from './releases/hybrids'
import { llamaReleases } from './releases/llama'
import { AWQ, FP8, gptq, quantized } from './releases/quantizations'
import { qwen2Releases } from './releases/qwen2'
import { qwen3Releases } from './releases/qwen3'

export const presets: Readonly<Record<string, RawConfig>> = {
  ...qwen2Releases,
  ...qwen3Releases,
  ...hybridReleases,
  ...llamaReleases,
}

/** A release as planned, and what it is called. */
export interface NamedPreset {
  readonly name: string
  readonly config: RawConfig
}

/**
 * Finds a preset by its name. Case, `-Instruct`, `-Chat`, `-Base` and `-GPTQ` are optional: `qwen2-72b-int4` is
 * `Qwen2-72B-Instruct-GPTQ-Int4`. An unquantized release can be requested as `-fp8` (e4m3 in blocks of 128 x 128),
 * `-int4`, `-int8` (GPTQ, groups of 128) or `-awq`, whether or not it was published.
 * @returns undefined if no preset matches
 */
export function findPreset(name: string): NamedPreset | undefined {
  const wanted = shortName(name)
  for (const [own, config] of Object.entries(presets)) {
    if (own === name || shortName(own) === wanted) return { name: own, config }
  }
  const [, base = '', kind = ''] = /^(.*)-(int4|int8|awq|fp8)$/.exec(wanted) ?? []
  const plain = Object.entries(presets).find(([own, config]) => shortName(own) === base && !config.quantization_config)
  if (!plain) return undefined
  const [own, config] = plain
  const [suffix, quantize] = FORMATS[kind as keyof typeof FORMATS]
  return { name: `${own}-${suffix}`, config: quantize(config) }
}

const FORMATS = {
  int4: ['GPTQ-Int4', (config: RawConfig) => quantized(config, gptq(4))],
  int8: ['GPTQ-Int8', (config: RawConfig) => quantized(config, gptq(8))],
  awq: ['AWQ', (config: RawConfig) => quantized(config, AWQ)],
  fp8: ['FP8', (config: RawConfig) => ({ ...config, quantization_config: FP8 })],
} as const

function shortName(name: string): string {
  return name.toLowerCase().replace(/-(instruct|chat|base|gptq)(?=-|$)/g, '')
}

/** Short names of all presets, for error messages. */
export function shortPresetNames(): string[] {
  return Object.keys(presets).map(shortName)
}
