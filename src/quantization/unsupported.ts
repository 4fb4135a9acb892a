/** Formats that billfish recognizes but cannot run. */
import { quoted, unsupportedFormat } from '../checkpoint/invalid'
import type { TensorTable } from '../checkpoint/tensors'
import type { QuantizationConfig, UnsupportedTensor } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { forEachInSlices } from '../common/event-loop'
import { isFp4 } from './fp4'
import { isFp8, isUnpacked } from './stored-method'

/** Error for a config that names an unsupported format. */
export function unsupportedConfig({
  where,
  format,
  tensorHint,
}: Extract<QuantizationConfig, { method: 'unsupported' }>): BillfishError {
  const { code, message } = unsupportedFormat(`${where}: the weights are stored`, format)
  return new BillfishError(code, tensorHint === undefined ? message : `${message} ${tensorHint}`)
}

/** Signature of a format: a tensor-name suffix, and dtypes, that only it has. */
export interface FormatSignature {
  readonly end: string
  readonly types?: readonly string[]
  /** Whether a module with such a tensor is in a format that billfish runs after all. */
  readonly unless?: (table: TensorTable, module: string) => boolean
  readonly format: string
}

const FP8_TYPES = ['F8_E4M3', 'F8_E5M2', 'F8_E4M3FN', 'F8_E4M3FNUZ', 'F8_E5M2FNUZ']

/** The first match wins, so formats that share a tensor come after those with more specific ones. */
const SIGNATURES: readonly FormatSignature[] = [
  { end: '.pre_quant_scale', format: 'ModelOpt AWQ (weights that need scaled activations)' },
  { end: '.weight_scale_2', unless: isFp4, format: 'NVFP4 (ModelOpt)' },
  { end: '.weight_global_scale', unless: isFp4, format: 'NVFP4 (compressed-tensors)' },
  { end: '.weight_scale_inv', unless: isFp8, format: 'FP8 in blocks (weight_scale_inv)' },
  { end: '.quant_state.bitsandbytes__nf4', format: 'bitsandbytes NF4' },
  { end: '.quant_state.bitsandbytes__fp4', format: 'bitsandbytes FP4' },
  { end: '.weight.absmax', format: 'bitsandbytes 4-bit' },
  { end: '.weight.quant_map', format: 'bitsandbytes 4-bit' },
  { end: '.SCB', format: 'bitsandbytes int8 (LLM.int8)' },
  { end: '_blocks', types: ['U8'], format: 'MXFP4' },
  { end: '.weight', types: ['U32'], format: 'MLX' },
  { end: '.W_q', format: 'HQQ' },
  { end: '.weight._data', format: 'Quanto' },
  { end: '.weight_scales', format: 'EETQ int8' },
  { end: '.codebooks', format: 'AQLM' },
  { end: '.Qidxs', format: 'QuIP#' },
  { end: '.centroids.weight', format: 'VPTQ' },
  { end: '.dense_weights', format: 'SpQR' },
  { end: '.q_weight', format: 'EXL2' },
  { end: '.svh', format: 'EXL3' },
  { end: '.tlut', format: 'QTIP' },
  { end: '.s_channel', format: 'QQQ (W4A8)' },
  { end: '.s1_scales', format: 'QServe (W4A8)' },
  { end: '.B', types: ['I32'], format: 'Marlin' },
  { end: '.qweight', types: ['I16'], format: 'AWQ GEMV_FAST, or GPTQ packed into int16' },
  { end: '.qweight', types: ['U8', 'I8', 'I64'], format: 'codes packed into other words than int32' },
  { end: '.weight', types: FP8_TYPES, unless: isFp8, format: 'FP8' },
  { end: '.weight', types: ['F8_E8M0', 'F4'], format: 'MXFP4 or NVFP4' },
  { end: '.weight', types: ['I8'], unless: isUnpacked, format: 'int8 (W8A8)' },
  {
    end: '.weight',
    types: ['U8'],
    unless: isFp4,
    format: 'weights packed into bytes (bitsandbytes, ModelOpt, BitNet or the like)',
  },
]
const SIGNATURES_BY_SUFFIX = new Map<string, FormatSignature[]>()
for (const signature of SIGNATURES) {
  const part = lastPart(signature.end)
  SIGNATURES_BY_SUFFIX.set(part, [...(SIGNATURES_BY_SUFFIX.get(part) ?? []), signature])
}

function lastPart(name: string): string {
  if (name.endsWith('_blocks')) return '_blocks'
  return name.slice(name.lastIndexOf('.') + 1)
}

function signaturesOf({ name, dtype }: UnsupportedTensor, table: TensorTable): readonly FormatSignature[] {
  const signatures = SIGNATURES_BY_SUFFIX.get(lastPart(name)) ?? []
  return signatures.filter(
    ({ end, types, unless }) =>
      name.endsWith(end) &&
      (types === undefined || types.includes(dtype)) &&
      !unless?.(table, name.slice(0, -end.length)),
  )
}

/** Floating-point tensors, and buffers that are not weights. */
function isOrdinary({ name, dtype }: UnsupportedTensor): boolean {
  return /^(F|BF)\d+$/.test(dtype)
    ? dtype !== 'F4'
    : /(?:position_ids|num_batches_tracked|\.(?:masked_)?bias)$/.test(name)
}

/** Result of scanning all tensors. */
export interface StoredFormats {
  /** The most specific evidence of an unsupported format. */
  readonly unsupported: { readonly tensor: UnsupportedTensor; readonly format: string } | undefined
  /** All signatures found, most specific first. */
  readonly signatures: readonly FormatSignature[]
  /** Whether anything but floating-point numbers is stored. */
  readonly quantized: boolean
}

/** Scans the names and dtypes of all tensors. */
export async function storedFormats(table: TensorTable): Promise<StoredFormats> {
  const found = new Map<FormatSignature, UnsupportedTensor>() // the first tensor with each signature
  let quantized = false
  const look = (tensor: UnsupportedTensor) => {
    quantized ||= !isOrdinary(tensor)
    for (const signature of signaturesOf(tensor, table)) if (!found.has(signature)) found.set(signature, tensor)
  }
  await forEachInSlices<UnsupportedTensor>(table.tensors.values(), look)
  await forEachInSlices(table.unsupported.values(), look)
  const signatures = SIGNATURES.filter((signature) => found.has(signature))
  const [clearest] = signatures
  const tensor = clearest && found.get(clearest)
  return { unsupported: tensor && { tensor, format: clearest.format }, signatures, quantized }
}

/**
 * Error for a module stored in an unsupported format; undefined if there is no evidence of one.
 * @param signatures those found by {@link storedFormats}: few or none, instead of 60 look-ups
 */
export function unsupportedModule(
  table: TensorTable,
  module: string,
  signatures: readonly FormatSignature[],
): BillfishError | undefined {
  for (const { end, format, types, unless } of signatures) {
    const name = `${module}${end}`
    const tensor = table.tensors.get(name) ?? table.unsupported.get(name)
    if (tensor === undefined || (types && !types.includes(tensor.dtype))) continue
    if (unless?.(table, module)) continue
    return unsupportedFormat(`${quoted(module)} is stored (tensor ${table.describe(tensor)})`, format)
  }
  return undefined
}

const METHODS: Readonly<Record<string, string>> = {
  aqlm: 'AQLM',
  auto_round_mxfp: 'MXFP4 (AutoRound)',
  bitblas: 'GPTQ packed for BitBLAS',
  bitnet: 'BitNet',
  deepspeedfp: 'DeepSpeed FP',
  eetq: 'EETQ int8',
  exl2: 'EXL2',
  exl3: 'EXL3',
  fbgemm_fp8: 'FP8 (FBGEMM)',
  fp_quant: 'FP-Quant',
  gguf: 'GGUF',
  higgs: 'HIGGS',
  hqq: 'HQQ',
  inc: 'Intel Neural Compressor',
  marlin: 'Marlin',
  mlx: 'MLX',
  mxfp4: 'MXFP4',
  qqq: 'QQQ (W4A8)',
  quanto: 'Quanto',
  quark: 'AMD Quark',
  quip: 'QuIP#',
  quip_sharp: 'QuIP#',
  'quip#': 'QuIP#',
  qtip: 'QTIP',
  spqr: 'SpQR',
  squeezellm: 'SqueezeLLM',
  torchao: 'torchao',
  vptq: 'VPTQ',
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')

/** Display name of an unsupported quant_method, from its config. */
export function formatName(method: string, fields: Readonly<Record<string, unknown>>): string {
  if (method === 'bitsandbytes') {
    if (fields.load_in_8bit === true || fields._load_in_8bit === true) return 'bitsandbytes int8 (LLM.int8)'
    const type = text(fields.bnb_4bit_quant_type)
    return `bitsandbytes ${/^(nf4|fp4)$/.test(type) ? type.toUpperCase() : '4-bit'}`
  }
  const known = Object.hasOwn(METHODS, method) ? METHODS[method] : undefined
  return known ?? `quant_method ${quoted(method)}`
}

/** A name from a config for an error message: quoted unless it is a short plain word. */
export function named(name: string): string {
  return /^[\w-]{1,40}$/.test(name) ? name : quoted(name)
}
