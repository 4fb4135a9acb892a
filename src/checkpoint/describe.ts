import { basename } from 'node:path'
import type { Checkpoint, ModelOptAlgorithm, QuantizationConfig, ScaleBlock } from './types'

/** Summary of a stored tensor. */
export interface TensorSummary {
  readonly name: string
  /** As in the safetensors header. */
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
  /** File name without the directory. */
  readonly file: string
}

/** All tensors of the checkpoint, including dtypes billfish does not compute with, in file order. */
export function listTensors(checkpoint: Checkpoint): TensorSummary[] {
  return [...checkpoint.tensors.values(), ...checkpoint.unsupportedTensors.values()]
    .sort((a, b) => a.file - b.file || a.offset - b.offset)
    .map(({ name, dtype, shape, bytes, file }) => ({
      name,
      dtype,
      shape,
      bytes,
      file: basename(checkpoint.files[file] ?? ''),
    }))
}

function describeGroup(groupSize: number | undefined): string {
  if (groupSize === undefined) return 'group size unspecified'
  return groupSize === -1 ? 'channelwise' : `group ${groupSize}`
}

const ONE_SCALE = 'one scale a tensor'

/** What shares a scale of FP8 weights. */
function describeBlock(block: ScaleBlock | undefined): string {
  if (block === undefined || block.rows === Number.POSITIVE_INFINITY) return ONE_SCALE
  return block.rows === 1 ? describeGroup(block.groupSize) : `blocks of ${block.rows} x ${block.groupSize}`
}

/** Joins the kinds; `fallback` if there are none. */
function joinKinds(kinds: ReadonlySet<string>, fallback: string): string {
  return kinds.size === 0 ? fallback : [...kinds].sort().reverse().join(' and ')
}

/** Symmetric or asymmetric, judged by the stored zero points if there are any. */
function describeSymmetry(checkpoint: Checkpoint, stated: boolean): string {
  const kinds = new Set<string>()
  for (const code of checkpoint.storedZeros) kinds.add(code === undefined || code === 0 ? 'asymmetric' : 'symmetric')
  return joinKinds(kinds, stated ? 'symmetric' : 'asymmetric')
}

function describeQuantization(checkpoint: Checkpoint): string {
  const { quantization: config } = checkpoint
  switch (config.method) {
    case 'none':
    case 'unsupported':
      return ''
    case 'gptq': {
      const bits = config.bits === undefined ? '' : ` int${config.bits}`
      const parts = [`GPTQ${config.zeroOffset === 0 ? ' v2' : ''}${bits}`, describeGroup(config.groupSize)]
      parts.push(describeSymmetry(checkpoint, config.symmetric))
      if (checkpoint.hasActOrder) parts.push('act-order')
      if (config.rules.length > 0) parts.push('with per-module overrides')
      return parts.join(', ')
    }
    case 'awq':
      return `AWQ ${config.layout.toUpperCase()} int${config.bits}, ${describeGroup(config.groupSize)}, ${describeSymmetry(checkpoint, config.zeroPoint === false)}`
    case 'fp8':
      return `FP8 e4m3, ${describeBlock(config.block)}`
    case 'compressed-tensors': {
      const groups = config.groups.map(describeScheme)
      const layouts = new Set(config.groups.map(layoutOf))
      const kind = layouts.size > 0 ? [...layouts].join(' and ') : 'pack-quantized'
      return `compressed-tensors ${kind} ${[...new Set(groups)].join('; ')}`.trimEnd()
    }
    case 'modelopt': {
      const { algorithm, layers } = config
      const algorithms = algorithm === 'MIXED_PRECISION' ? [...new Set(layers.values())].sort().reverse() : [algorithm]
      return `ModelOpt ${algorithms.map((name) => MODELOPT[name]).join('; ')}`.trimEnd()
    }
  }
}

type CompressedGroup = Extract<QuantizationConfig, { method: 'compressed-tensors' }>['groups'][number]

function describeScheme({ bits, groupSize, oneScale, symmetric, actOrder, floats, fp4 }: CompressedGroup): string {
  if (floats) return `FP8 e4m3, ${describeBlock(floats)}`
  if (fp4) return `${fp4}, ${describeGroup(groupSize)}`
  const groups = oneScale ? ONE_SCALE : describeGroup(groupSize)
  const parts = [`int${bits}`, groups, symmetric ? 'symmetric' : 'asymmetric']
  return [...parts, ...(actOrder ? ['act-order'] : [])].join(', ')
}

function layoutOf({ packed, floats, fp4 }: CompressedGroup): string {
  if (fp4) return `${fp4.toLowerCase()}-pack-quantized`
  return packed ? 'pack-quantized' : floats ? 'float-quantized' : 'int-quantized'
}

const MODELOPT: Readonly<Record<ModelOptAlgorithm, string>> = {
  NVFP4: `NVFP4, ${describeGroup(16)}`,
  FP8: `FP8 e4m3, ${describeBlock(undefined)}`,
}

/** Floating-point dtypes of the tensors, most bytes first: `BF16` or `F16, F32`. */
function floatTypes(checkpoint: Checkpoint): string {
  const bytes = new Map<string, number>()
  for (const tensor of checkpoint.tensors.values()) {
    if (/^B?F\d+$/.test(tensor.dtype)) bytes.set(tensor.dtype, (bytes.get(tensor.dtype) ?? 0) + tensor.bytes)
  }
  return [...bytes]
    .sort((a, b) => b[1] - a[1])
    .map(([type]) => type)
    .join(', ')
}

/**
 * Storage format in one line: `GPTQ int4, group 128, symmetric; rest F16`, or `BF16`, or the name of a format that
 * billfish cannot run. Judged by which packed tensors exist, not only by the config.
 */
export function describeFormat(checkpoint: Checkpoint): string {
  if (checkpoint.unsupportedFormat !== undefined) return checkpoint.unsupportedFormat
  const quantized = [...checkpoint.tensors].some(
    ([name, { dtype }]) =>
      /\.(qweight|weight_packed)$/.test(name) || (/^(I8|U8|F8_E4M3)$/.test(dtype) && name.endsWith('.weight')),
  )
  const floats = floatTypes(checkpoint)
  return quantized ? `${describeQuantization(checkpoint)}; rest ${floats}` : floats
}
