/** Resolves a module name to where and how its weights are stored. */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import { FLOAT_TYPES, type TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig } from '../checkpoint/types'
import type { LinearSpec, TensorRef } from '../native/weights'
import { awqLinear } from './awq'
import { awqGemvLinear } from './awq-gemv'
import { compressedTensorsLinear } from './compressed-tensors'
import { fp4Layout, fp4Linear } from './fp4'
import { fp8Linear } from './fp8'
import { gptqLinear } from './gptq'
import type { LinearRequest } from './groups'
import { configForMethod, isFp8, isGemv, isUnpacked, storedMethod } from './stored-method'
import { unsupportedConfig } from './unsupported'

function findBias(table: TensorTable, module: string, out: number, required: boolean): TensorRef | undefined {
  const name = `${module}.bias`
  const bias = required ? table.require(name, FLOAT_TYPES) : table.find(name, FLOAT_TYPES)
  if (bias !== undefined) table.checkShape(bias, [out], `a linear layer with ${out} outputs`)
  return bias
}

/**
 * Resolves the linear layer `module`; quantized iff its packed tensor exists, whatever the config lists.
 *
 * @param module must have passed unsupportedModule()
 * @throws BillfishError INVALID_CHECKPOINT naming file, tensor and numbers; UNSUPPORTED_MODEL naming the format
 */
export function resolveLinear(
  table: TensorTable,
  config: QuantizationConfig,
  module: string,
  out: number,
  inFeatures: number,
  biasRequired: boolean,
): LinearSpec {
  if (config.method === 'unsupported') throw unsupportedConfig(config)
  const request: LinearRequest = { name: module, out, in: inFeatures, bias: findBias(table, module, out, biasRequired) }
  if (isFp8(table, module)) return fp8Linear(table, config, request)
  const fp4 = fp4Layout(table, module)
  if (fp4 !== undefined) return fp4Linear(table, fp4, request)
  const packed = isUnpacked(table, module)
    ? `${module}.weight`
    : [`${module}.qweight`, `${module}.weight_packed`].find((name) => table.has(name))
  if (packed !== undefined) {
    const method = storedMethod(table, module)
    return readPacked(table, method === undefined ? config : configForMethod(config, method), request, packed)
  }
  if (!table.has(`${module}.weight`)) {
    throw invalidCheckpoint(`${table.missing(`${module}.weight`)}; and no qweight or weight_packed either`)
  }
  const weight = table.require(`${module}.weight`, FLOAT_TYPES)
  table.checkShape(weight, [out, inFeatures], `a linear layer with ${out} outputs and ${inFeatures} inputs`)
  return { kind: 'matrix', name: module, out, in: inFeatures, weight, bias: request.bias }
}

function readPacked(
  table: TensorTable,
  config: QuantizationConfig,
  request: LinearRequest,
  packed: string,
): LinearSpec {
  const isCompressed = !packed.endsWith('.qweight')
  if (config.method === 'compressed-tensors' && isCompressed) return compressedTensorsLinear(table, config, request)
  if (config.method === 'gptq' && !isCompressed) return gptqLinear(table, config, request)
  if (config.method === 'awq' && !isCompressed) {
    return (isGemv(table, request.name) ? awqGemvLinear : awqLinear)(table, config, request)
  }
  const said =
    config.method === 'none' ? 'there is no quantization config' : `the quantization config says ${config.method}`
  throw invalidCheckpoint(
    `Tensor ${quoted(packed)} is quantized, but ${said}, and its tensors match neither GPTQ, AWQ nor ` +
      'compressed-tensors; describe it in quantization_config of config.json, in quantize_config.json or in quant_config.json',
  )
}
