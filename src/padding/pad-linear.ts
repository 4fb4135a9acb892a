/**
 * The padded tensors of a linear, in its checkpoint's own format. Zero outputs and zero inputs of quantised linears are
 * new groups of scale 0, or channels of scale 0, whose codes are at the zero point: exactly 0 for every reader, whether it
 * looks at scales or zero points. src/quantization has a picture of each format's layout.
 */
import { invalidCheckpoint } from '../checkpoint/invalid'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../errors'
import type { LinearSpec, MatrixSpec, QuantizedSpec, TensorRef } from '../native/weights'
import { forModule } from '../quantization/gptq'
import { type ChannelRun, type PaddingPlacement, paddingRuns } from '../quantization/padding'
import { appendRows, type PaddedTensor, type Part, padColumns, padRows } from './parts'

/** Reads a whole tensor, for the few small ones whose contents decide what is written. */
export type ReadTensor = (tensor: TensorRef) => Promise<Uint8Array>

export interface LinearPadding {
  readonly checkpoint: Checkpoint
  readonly read: ReadTensor
  /** Outputs of gate and up, inputs of down. */
  readonly dimension: 'outputs' | 'inputs'
  readonly padded: number
  readonly placement: PaddingPlacement
}

/**
 * @returns the tensors of the linear that change; others stay as they are
 * @throws BillfishError INVALID_CHECKPOINT, or INVALID_OPTION for a placement that the format does not allow
 */
export async function padLinear(linear: LinearSpec, padding: LinearPadding): Promise<PaddedTensor[]> {
  if (linear.kind === 'matrix') return padMatrix(linear, padding)
  if (padding.placement === 'interleaved') {
    throw new BillfishError(
      'INVALID_OPTION',
      `${linear.name} is quantised: channels cannot move to other places of its groups, each of which has its own scales. ` +
        'Pad at the end (without interleaving), or pad the 16-bit model and quantise it again.',
    )
  }
  const words = wordsOf(linear)
  return padding.dimension === 'outputs' ? padOutputs(linear, words, padding) : padInputs(linear, words, padding)
}

function padMatrix(linear: MatrixSpec, { dimension, padded, placement }: LinearPadding): PaddedTensor[] {
  if (dimension === 'inputs') return [padColumns(linear.weight, paddingRuns(linear.in, padded, placement), 0)]
  const runs = paddingRuns(linear.out, padded, placement)
  return [linear.weight, linear.bias].filter((tensor) => tensor !== undefined).map((tensor) => padRows(tensor, runs, 0))
}

interface Words {
  readonly codesAWord: number
  /** A word of codes at the zero point, and a word of stored zero points for them. */
  readonly codes: number
  readonly zeros: number
}

function wordsOf({ bits, zeroOffset }: QuantizedSpec): Words {
  const zero = 2 ** (bits - 1)
  const repeated = bits === 4 ? 0x11111111 : 0x01010101
  return { codesAWord: 32 / bits, codes: (zero * repeated) | 0, zeros: ((zero - zeroOffset) * repeated) | 0 }
}

/** -1: all inputs are one group, however many there are. Undefined where the config does not say. */
function statedGroupSize(linear: QuantizedSpec, { quantization }: Checkpoint): number | undefined {
  switch (quantization.method) {
    case 'compressed-tensors': {
      const fits = quantization.groups.find(
        ({ bits, symmetric, groupSize }) =>
          bits === linear.bits &&
          symmetric === linear.symmetric &&
          (groupSize === linear.groupSize ||
            (linear.groupSize === linear.in && (groupSize === -1 || groupSize > linear.in))),
      )
      return fits?.groupSize
    }
    case 'gptq':
      return forModule(quantization, linear.name).groupSize
    case 'awq':
      return quantization.groupSize
    case 'none':
      return undefined
  }
}

/** Whether added inputs belong to the only group that there is. */
export function isChannelwise(linear: QuantizedSpec, checkpoint: Checkpoint): boolean {
  const stated = statedGroupSize(linear, checkpoint)
  return stated === -1 || (stated === undefined && linear.groupSize === linear.in)
}

function checkGroups(linear: QuantizedSpec, checkpoint: Checkpoint): void {
  const { name, groupSize, bits } = linear
  const stated = statedGroupSize(linear, checkpoint)
  if (stated !== undefined && stated > linear.in) {
    throw invalidCheckpoint(`${name} has ${linear.in} inputs, less than a group of ${stated}; it cannot be padded`)
  }
  if (groupSize % (32 / bits) !== 0) {
    throw invalidCheckpoint(
      `${name} has groups of ${groupSize} inputs, which share words of ${32 / bits} codes; it cannot be padded`,
    )
  }
}

function checkPacking(linear: QuantizedSpec, count: number, what: string, codesAWord: number): void {
  if (count % codesAWord === 0) return
  throw invalidCheckpoint(
    `${linear.name} has ${count} ${what}, which end within a word of ${codesAWord} codes; it cannot be padded`,
  )
}

/** As many channels as there are, and zeros behind them; counted in units of `unit` channels. */
function tail(size: number, padded: number, unit: number): ChannelRun[] {
  return paddingRuns(size / unit, padded / unit, 'tail')
}

function padOutputs(linear: QuantizedSpec, words: Words, { checkpoint, padded }: LinearPadding): PaddedTensor[] {
  const { format, out, codes, scales, storedShape, bias } = linear
  const zeros = storedZeros(checkpoint, linear)
  if (zeros) checkPacking(linear, out, 'outputs', words.codesAWord)
  const channels = tail(out, padded, 1)
  const packed = out % words.codesAWord === 0 ? tail(out, padded, words.codesAWord) : []
  const changed: PaddedTensor[] = []
  if (format === 'compressed-tensors') {
    changed.push(padRows(codes, channels, words.codes), padRows(scales, channels, 0))
    if (zeros) changed.push(padRows(zeros, packed, words.zeros))
    if (storedShape) changed.push(withShape(storedShape, padded, linear.in))
  } else {
    changed.push(padColumns(codes, format === 'awq' ? packed : channels, words.codes), padColumns(scales, channels, 0))
    if (zeros) changed.push(padColumns(zeros, packed, words.zeros))
  }
  if (bias) changed.push(padRows(bias, channels, 0))
  return changed
}

async function padInputs(linear: QuantizedSpec, words: Words, padding: LinearPadding): Promise<PaddedTensor[]> {
  const { format, codes, scales, groupIndex, storedShape } = linear
  const { checkpoint, padded } = padding
  const isCompressed = format === 'compressed-tensors'
  checkGroups(linear, checkpoint)
  if (format !== 'awq') checkPacking(linear, linear.in, 'inputs', words.codesAWord)
  const zeros = storedZeros(checkpoint, linear)
  const groups = scales.shape[isCompressed ? 1 : 0] ?? 0
  const paddedGroups = isChannelwise(linear, checkpoint) ? groups : padded / linear.groupSize
  const groupOf = (input: number) => Math.min(Math.floor(input / linear.groupSize), paddedGroups - 1)

  const changed: PaddedTensor[] = []
  // Inputs that fill up the last group have its scale, so their codes have to be at its zero points.
  const lastZeros =
    zeros && !linear.symmetric && groupOf(linear.in) < groups
      ? zeroCodes(linear, await padding.read(zeros), groups - 1, groups)
      : undefined
  if (isCompressed) {
    changed.push(padColumns(codes, tail(linear.in, padded, words.codesAWord), lastZeros ?? words.codes))
    if (storedShape) changed.push(withShape(storedShape, linear.out, padded))
  } else {
    const inputsARow = format === 'awq' ? 1 : words.codesAWord
    const filling = paddedGroups === groups ? padded - linear.in : groups * linear.groupSize - linear.in
    const rows = (padded - linear.in) / inputsARow
    changed.push(appendCodes(codes, lastZeros, filling / inputsARow, rows, words.codes))
  }
  if (paddedGroups > groups) {
    const groupRuns = paddingRuns(groups, paddedGroups, 'tail')
    const pad = isCompressed ? padColumns : padRows
    changed.push(pad(scales, groupRuns, 0))
    if (zeros) changed.push(pad(zeros, groupRuns, words.zeros))
  }
  if (groupIndex) {
    const added = Int32Array.from({ length: padded - linear.in }, (_, i) => groupOf(linear.in + i))
    changed.push(appendRows(groupIndex, new Uint8Array(added.buffer)))
  }
  return changed
}

/** The file's zero points, those among them that a loader leaves unread because the scheme is symmetric. */
function storedZeros(checkpoint: Checkpoint, linear: QuantizedSpec): TensorRef | undefined {
  return linear.format === 'gptq' ? checkpoint.tensors.get(`${linear.name}.qzeros`) : linear.zeros
}

/**
 * Words of codes that are all at the zero points of a group: for GPTQ one an output, for AWQ one for the outputs of a
 * word, for compressed-tensors one a row.
 */
function zeroCodes(linear: QuantizedSpec, stored: Uint8Array, group: number, groups: number): Int32Array {
  const { format, bits, out, zeroOffset } = linear
  const words = new Int32Array(stored.buffer, stored.byteOffset, stored.byteLength / 4)
  if (format === 'awq') return words.slice((group * out) / 8, ((group + 1) * out) / 8) // packed like a row of codes
  const codesAWord = 32 / bits
  const wordsAGroup = Math.ceil(out / codesAWord)
  const repeated = bits === 4 ? 0x11111111 : 0x01010101
  return Int32Array.from({ length: out }, (_, n) => {
    const row = Math.floor(n / codesAWord)
    const word = words[format === 'gptq' ? group * wordsAGroup + row : row * groups + group] ?? 0
    const zero = ((word >>> ((n % codesAWord) * bits)) + zeroOffset) & (2 ** bits - 1)
    return Math.imul(zero, repeated)
  })
}

/** Adds `rows` rows of codes: `ofLastGroup` of them `zeros`, the others the word of new groups. */
function appendCodes(
  codes: TensorRef,
  zeros: Int32Array | undefined,
  ofLastGroup: number,
  rows: number,
  word: number,
): PaddedTensor {
  const [before = 0, columns = 0] = codes.shape
  const parts: Part[] = [{ kind: 'copy', offset: codes.offset, bytes: codes.bytes }]
  if (zeros) {
    const data = new Uint8Array(zeros.buffer)
    for (let row = 0; row < ofLastGroup; row++) parts.push({ kind: 'literal', data })
  }
  const rest = rows - (zeros ? ofLastGroup : 0)
  if (rest > 0) parts.push({ kind: 'fill', word, bytes: rest * columns * 4 })
  return { source: codes, shape: [before + rows, columns], parts }
}

/** weight_shape, [outputs, inputs] in its own integer type. */
function withShape(tensor: TensorRef, out: number, inputs: number): PaddedTensor {
  const data = tensor.dtype === 'I64' ? new BigInt64Array([BigInt(out), BigInt(inputs)]) : new Int32Array([out, inputs])
  return { source: tensor, shape: tensor.shape, parts: [{ kind: 'literal', data: new Uint8Array(data.buffer) }] }
}
