/** One layer's tensors as a checkpoint, for tests of what a format's reader makes of them. */
import type { Checkpoint } from '../../src/checkpoint/types'
import { openCheckpoint } from '../../src/open-checkpoint'
import { directoryOf } from './directories'
import { safetensors, type TensorContents, words } from './tensors'

/** A checkpoint whose one layer `m` has these tensors, in the order given; null leaves one out. */
export function layer(config: object | undefined, tensors: Record<string, TensorContents | null>): Promise<Checkpoint> {
  const stored = Object.entries(tensors).flatMap(([name, tensor]) => (tensor === null ? [] : [[`m.${name}`, tensor]]))
  const files = { 'config.json': config === undefined ? {} : { quantization_config: config } }
  return openCheckpoint(directoryOf({ ...files, 'model.safetensors': safetensors(Object.fromEntries(stored)) }))
}

export const I32 = (...shape: number[]): TensorContents => ({ dtype: 'I32', shape })
export const F16 = (...shape: number[]): TensorContents => ({ dtype: 'F16', shape })
export const I8 = (...shape: number[]): TensorContents => ({ dtype: 'I8', shape })

// 64 outputs, 256 inputs, groups of 64 unless said otherwise.
export const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 64, desc_act: false, sym: true }
export const sevens = (...shape: number[]) => words(shape, () => 0x77777777)
export const naturalOrder = (groupSize: number) => words([256], (i) => Math.floor(i / groupSize))
export const gptqTensors = { qweight: I32(32, 64), qzeros: sevens(4, 8), scales: F16(4, 64), g_idx: naturalOrder(64) }
export const AWQ = { quant_method: 'awq', bits: 4, group_size: 64, zero_point: true, version: 'gemm' }
export const awqTensors = { qweight: I32(256, 8), qzeros: I32(4, 8), scales: F16(4, 64) }

/** A config of compressed-tensors with 4-bit weights, changed by each group's fields. */
export const compressed = (...groups: object[]) => ({
  quant_method: 'compressed-tensors',
  config_groups: Object.fromEntries(
    groups.map((weights, i) => [
      `group_${i}`,
      { targets: ['Linear'], weights: { num_bits: 4, symmetric: true, ...weights } },
    ]),
  ),
})
