/** Determines the quantization method of a linear from its tensors alone, for configs that are wrong or missing. */

import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import { forEachInSlices } from '../common/event-loop'
import type { TensorRef } from '../native/weights'
import { fp4Layout, fp4Scheme } from './fp4'

export type StoredMethod = 'gptq' | 'awq' | 'compressed-tensors' | 'fp8' | 'nvfp4' | 'mxfp4' | 'modelopt'

export const METHOD_NAMES: Readonly<Record<StoredMethod, string>> = {
  gptq: 'GPTQ',
  awq: 'AWQ',
  'compressed-tensors': 'compressed-tensors',
  fp8: 'FP8',
  nvfp4: 'NVFP4',
  mxfp4: 'MXFP4',
  modelopt: "ModelOpt's NVFP4",
}

/** Whether an AWQ module is in the GEMV layout: rows of codes, zero points and scales are outputs in all three tensors. */
export function isGemv(table: TensorTable, module: string): boolean {
  const [codes, zeros, scales] = ['qweight', 'qzeros', 'scales'].map((name) => table.tensors.get(`${module}.${name}`))
  const [rows = 0, columns = 0] = scales?.shape ?? []
  return rows > 0 && codes?.shape[0] === rows && (!zeros || (zeros.shape[0] === rows && zeros.shape[1] === columns / 8))
}

/** Whether a module is in compressed-tensors' formats of one signed number a byte: a scale is beside its I8 weights. */
export function isUnpacked(table: TensorTable, module: string): boolean {
  if (table.tensors.get(`${module}.weight`)?.dtype !== 'I8') return false // of most modules, soon
  return isIntegerScale(table.tensors.get(`${module}.weight_scale`))
}

/** Of channels or groups, or one for the whole weight: [1] or a scalar. */
function isIntegerScale(scales: TensorRef | undefined): boolean {
  return scales !== undefined && (scales.shape.length === 2 || scales.shape.every((length) => length === 1))
}

/** Whether a module has FP8 weights with their scales. */
export function isFp8(table: TensorTable, module: string): boolean {
  if (table.tensors.get(`${module}.weight`)?.dtype !== 'F8_E4M3') return false
  return ['weight_scale_inv', 'weight_scale'].some((name) => {
    const scales = table.tensors.get(`${module}.${name}`)
    return scales !== undefined && FLOAT_TYPES.includes(scales.dtype)
  })
}

/** The methods that a config of compressed-tensors, or of ModelOpt, may be about besides the one of its name. */
const ALSO: Partial<Record<QuantizationConfig['method'], readonly StoredMethod[]>> = {
  'compressed-tensors': ['fp8', 'nvfp4', 'mxfp4'],
  modelopt: ['fp8'],
}

/** Whether the config is one for linears stored by `method`. */
export function agrees({ method: stated }: QuantizationConfig, method: StoredMethod): boolean {
  return stated === method || ALSO[stated]?.includes(method) === true
}

/**
 * The method whose tensor names and layout `module` has: GPTQ packs along the inputs and has one column per output, AWQ
 * packs along the outputs (or stores a row per output: GEMV), and compressed-tensors has its own names. Undefined if nothing matches; the format readers
 * report what is wrong.
 */
export function storedMethod(table: TensorTable, module: string): StoredMethod | undefined {
  const matrix = (name: string, types: readonly string[]): TensorRef | undefined => {
    const tensor = table.tensors.get(`${module}.${name}`)
    return tensor && types.includes(tensor.dtype) && tensor.shape.length === 2 ? tensor : undefined
  }
  if (isFp8(table, module)) return 'fp8'
  const fp4 = fp4Layout(table, module)
  if (fp4 !== undefined) return fp4.writer === 'modelopt' ? 'modelopt' : fp4.kind === 'NVFP4' ? 'nvfp4' : 'mxfp4'
  const isCompressed = matrix('weight_packed', ['I32']) || isUnpacked(table, module)
  if (isCompressed) {
    const scales = table.tensors.get(`${module}.weight_scale`)
    if (isIntegerScale(scales) && FLOAT_TYPES.includes((scales as TensorRef).dtype)) return 'compressed-tensors'
  }
  const columns = matrix('qweight', ['I32'])?.shape[1]
  const outputs = matrix('scales', FLOAT_TYPES)?.shape[1]
  if (columns === undefined || outputs === undefined || outputs === 0) return undefined
  const gemv = isGemv(table, module)
  if (columns === outputs) return gemv ? undefined : 'gptq' // GPTQ in groups of 8, or GEMV with few inputs
  return gemv || columns * 8 === outputs || columns * 4 === outputs ? 'awq' : undefined
}

const PACKED = /^(.*)\.(?:qweight|weight_packed)$/s
const WEIGHT = /^(.*)\.weight$/s
/** Whether a `weight` of this type is quantized. */
const isUnusual = ({ dtype }: TensorRef) => dtype === 'I8' || dtype === 'U8' || dtype === 'F8_E4M3'

/** Every method found, with one packed tensor as an example. */
export async function storedMethods(table: TensorTable): Promise<ReadonlyMap<StoredMethod, TensorRef>> {
  const found = new Map<StoredMethod, TensorRef>()
  await forEachInSlices(table.tensors.values(), (tensor) => {
    const module = PACKED.exec(tensor.name)?.[1] ?? (isUnusual(tensor) ? WEIGHT.exec(tensor.name)?.[1] : undefined)
    const method = module === undefined ? undefined : storedMethod(table, module)
    if (method !== undefined && !found.has(method)) found.set(method, tensor)
  })
  return found
}

/** The config to read linears stored by `method` with: what `config` says about groups, and nothing else. */
export function configForMethod(config: QuantizationConfig, method: StoredMethod): QuantizationConfig {
  if (agrees(config, method) || config.method === 'unsupported') return config
  if (method === 'fp8') return { method, block: undefined, skipped: [], quantizesActivations: false }
  if (method === 'compressed-tensors') return { method, groups: [], ignore: [] }
  if (method === 'nvfp4' || method === 'mxfp4') {
    const group = fp4Scheme(method === 'nvfp4' ? 'NVFP4' : 'MXFP4', [], false)
    return { method: 'compressed-tensors', groups: [group], ignore: [] }
  }
  if (method === 'modelopt') {
    return { method, algorithm: 'NVFP4', layers: new Map(), excluded: [], quantizesActivations: false }
  }
  const { groupSize, rules } = groupSettings(config)
  if (method === 'awq') return { method, layout: 'gemm', bits: 4, groupSize, zeroPoint: undefined, rules }
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

function groupSettings(config: QuantizationConfig) {
  switch (config.method) {
    case 'gptq':
    case 'awq':
      return config
    case 'compressed-tensors': {
      const sizes = new Set(config.groups.map(({ groupSize }) => groupSize))
      return { groupSize: sizes.size === 1 ? [...sizes][0] : undefined, rules: [] }
    }
    case 'none':
    case 'fp8':
    case 'modelopt':
    case 'unsupported':
      return { groupSize: undefined, rules: [] }
  }
}
