import type { RawConfig } from '../checkpoint/types'
import { presets } from './presets'

export interface NamedPreset {
  readonly name: string
  readonly config: RawConfig
}

/**
 * Finds a preset by its full or shortName name. Case, `-Instruct`, `-Chat` and `-GPTQ` are optional: `qwen2-72b-int4` is
 * `Qwen2-72B-Instruct-GPTQ-Int4`. An unquantized release can be requested as `-int4`, `-int8` (GPTQ, groups of 128) or
 * `-awq`.
 * @returns undefined if no preset matches
 */
export function findPreset(name: string): NamedPreset | undefined {
  const wanted = shortName(name)
  for (const [own, config] of Object.entries(presets)) {
    if (own === name || shortName(own) === wanted) return { name: own, config }
  }
  const [, base = '', kind = ''] = /^(.*)-(int4|int8|awq)$/.exec(wanted) ?? []
  const plain = Object.entries(presets).find(([own, config]) => shortName(own) === base && !config.quantization_config)
  if (!plain) return undefined
  const [own, config] = plain
  const quantization_config = QUANTIZATIONS[kind as keyof typeof QUANTIZATIONS]
  return { name: `${own}-${kind}`, config: { ...config, torch_dtype: 'float16', quantization_config } }
}

const GROUPS = { group_size: 128 }
const QUANTIZATIONS = {
  int4: { quant_method: 'gptq', bits: 4, ...GROUPS, sym: true, desc_act: false },
  int8: { quant_method: 'gptq', bits: 8, ...GROUPS, sym: true, desc_act: false },
  awq: { quant_method: 'awq', bits: 4, ...GROUPS, zero_point: true, version: 'gemm' },
} as const

function shortName(name: string): string {
  return name.toLowerCase().replace(/-(instruct|chat|gptq)(?=-|$)/g, '')
}

/** Short names of all presets, for error messages. */
export function shortPresetNames(): string[] {
  return Object.keys(presets).map(shortName)
}
