/** Reads a checkpoint's quantisation config: which of three files has it, and what its many spellings mean. */
import { invalidCheckpoint, quoted, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { QuantizationConfig } from '../checkpoint/types'
import { readAwqConfig } from './awq'
import { readCompressedTensorsConfig } from './compressed-tensors'
import { ConfigFields } from './fields'
import { readGptqConfig } from './gptq'

export interface QuantizationSource {
  /** For messages: a path, with the key in it where it is a part of config.json. */
  readonly where: string
  /** The file's name. */
  readonly name: string
  /** The parsed JSON; undefined or null where there is none. */
  readonly value: unknown
}

/**
 * The method's name. Files older than `quant_method` are told apart by what only AutoAWQ writes: its own file name, and
 * the fields `zero_point` and `version`.
 */
function methodOf(fields: ConfigFields, fileName: string): string {
  const stated = fields.string('quant_method', 'method')
  if (stated !== undefined) return stated.toLowerCase()
  const byAwq =
    fileName === 'quant_config.json' || fields.get('zero_point') !== undefined || fields.get('version') !== undefined
  return byAwq ? 'awq' : 'gptq'
}

/**
 * @param sources - in order of priority; the first one that has a value is taken whole
 * @throws BillfishError INVALID_CHECKPOINT for fields of a wrong type and for methods that billfish does not read
 */
export function readQuantizationConfig(sources: readonly QuantizationSource[]): QuantizationConfig {
  const source = sources.find(({ value }) => value !== undefined && value !== null)
  if (source === undefined) return { method: 'none' }
  if (!isObject(source.value)) throw invalidCheckpoint(`${source.where} is ${shown(source.value)}, not an object`)
  const fields = new ConfigFields(source.where, source.value)
  const method = methodOf(fields, source.name)
  switch (method) {
    case 'gptq':
      return readGptqConfig(fields)
    case 'awq':
      return readAwqConfig(fields)
    case 'compressed-tensors':
    case 'compressed_tensors':
      return readCompressedTensorsConfig(fields)
    default:
      throw invalidCheckpoint(
        `${source.where}: the quantisation method ${quoted(method)} is not supported; billfish reads gptq, awq and ` +
          'compressed-tensors checkpoints, and unquantised ones in float16, bfloat16 or float32',
      )
  }
}
