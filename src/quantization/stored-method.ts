/** Which method quantized a linear, by its tensors alone; for configs that say another one, or none. */

import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import { forEachInSlices } from '../event-loop'
import type { TensorRef } from '../native/weights'

export type StoredMethod = 'gptq' | 'awq' | 'compressed-tensors'

export const METHOD_NAMES: Readonly<Record<StoredMethod, string>> = {
  gptq: 'GPTQ',
  awq: 'AWQ',
  'compressed-tensors': 'compressed-tensors',
}

/**
 * The method whose names and layout the tensors of `module` have: GPTQ packs the codes of an output's inputs into a word
 * and has one column an output, AWQ packs those of outputs, and compressed-tensors has names of its own. Undefined where
 * they have neither; what is wrong with them, readers say.
 */
export function storedMethod(table: TensorTable, module: string): StoredMethod | undefined {
  const matrix = (name: string, types: readonly string[]): TensorRef | undefined => {
    const tensor = table.tensors.get(`${module}.${name}`)
    return tensor && types.includes(tensor.dtype) && tensor.shape.length === 2 ? tensor : undefined
  }
  if (matrix('weight_packed', ['I32']) && matrix('weight_scale', FLOAT_TYPES)) return 'compressed-tensors'
  const columns = matrix('qweight', ['I32'])?.shape[1]
  const outputs = matrix('scales', FLOAT_TYPES)?.shape[1]
  if (columns === undefined || outputs === undefined || outputs === 0) return undefined
  if (columns === outputs) return 'gptq'
  return columns * 8 === outputs || columns * 4 === outputs ? 'awq' : undefined
}

/** Every method that linears are stored by, with the packed tensor of one that is. */
export async function storedMethods(table: TensorTable): Promise<ReadonlyMap<StoredMethod, TensorRef>> {
  const found = new Map<StoredMethod, TensorRef>()
  await forEachInSlices(table.tensors.values(), (tensor) => {
    const module = /^(.*)\.(?:qweight|weight_packed)$/s.exec(tensor.name)?.[1]
    const method = module === undefined ? undefined : storedMethod(table, module)
    if (method !== undefined && !found.has(method)) found.set(method, tensor)
  })
  return found
}

/** The config by which linears stored by `method` are read: what `config` says of them, as far as it does. */
export function configForMethod(config: QuantizationConfig, method: StoredMethod): QuantizationConfig {
  if (config.method === method || config.method === 'unsupported') return config
  if (method === 'compressed-tensors') return { method, groups: [], ignore: [] }
  const { groupSize, rules } = saidOfGroups(config)
  if (method === 'awq') return { method, bits: 4, groupSize, zeroPoint: undefined, rules }
  return {
    method,
    bits: undefined,
    groupSize,
    symmetric: config.method !== 'awq' || config.zeroPoint !== true,
    actOrder: undefined,
    zeroOffset: undefined,
    groupIndex: true,
    head: false,
    rules,
  }
}

function saidOfGroups(config: QuantizationConfig) {
  switch (config.method) {
    case 'gptq':
    case 'awq':
      return config
    case 'compressed-tensors': {
      const sizes = new Set(config.groups.map(({ groupSize }) => groupSize))
      return { groupSize: sizes.size === 1 ? [...sizes][0] : undefined, rules: [] }
    }
    case 'none':
    case 'unsupported':
      return { groupSize: undefined, rules: [] }
  }
}
