/**
 * The padded tensors of a linear, in its checkpoint's own format. Zero outputs and zero inputs of quantized linears are
 * new groups of scale 0, or channels of scale 0, whose codes are at the zero point: exactly 0 for every reader, whether it
 * looks at scales or zero points. src/quantization has a picture of each format's layout.
 */
import { invalidCheckpoint } from '../checkpoint/invalid'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import type { LinearSpec, MatrixSpec, QuantizedSpec, TensorRef } from '../native/weights'
import { paddingRuns, ZEROS } from '../quantization/padding'
import { configForModule } from '../quantization/rules'
import type { LinearPadding } from './linear-padding'
import { padFloats } from './pad-floats'
import { type Packing, type PaddedTensor, padCodeColumns, padCodeRows, padColumns, padRows, replaced } from './parts'

/**
 * @returns the tensors of the linear that change; others stay as they are
 * @throws BillfishError INVALID_CHECKPOINT, or INVALID_OPTION for a placement that the format does not allow
 */
export async function padLinear(linear: LinearSpec, padding: LinearPadding): Promise<PaddedTensor[]> {
  if (linear.kind === 'matrix') return padMatrix(linear, padding)
  if (linear.format === 'fp8' || linear.format === 'fp4') return padFloats(linear, padding)
  if (!isPadded(linear)) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `${linear.name} is stored as AWQ GEMV, which billfish loads but does not pad; pad the 16-bit model and quantize it again.`,
    )
  }
  const words = wordsOf(linear)
  return padding.dimension === 'outputs' ? padOutputs(linear, words, padding) : padInputs(linear, words, padding)
}

/** Whether a linear is stored in a way that is padded. */
export function isPadded(linear: LinearSpec): boolean {
  return linear.kind === 'matrix' || linear.format !== 'awq-gemv'
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

/** Whether numbers are signed bytes, as some formats of compressed-tensors have them, instead of packed into words. */
const isBytes = (tensor: TensorRef) => tensor.dtype === 'I8'

function wordsOf({ bits, zeroOffset, codes, zeros }: QuantizedSpec): Words {
  const zero = 2 ** (bits - 1)
  const repeated = bits === 4 ? 0x11111111 : 0x01010101
  return {
    codesAWord: 32 / bits,
    codes: isBytes(codes) ? 0 : (zero * repeated) | 0,
    zeros: zeros && isBytes(zeros) ? 0 : ((zero - zeroOffset) * repeated) | 0,
  }
}

/** What the config says of a linear's inputs: the size of their groups, -1 where all are one; and whether g_idx counts. */
interface StatedGroups {
  readonly groupSize: number
  readonly actOrder: boolean
}

/** Undefined where the config does not say. */
function statedGroups(linear: QuantizedSpec, { quantization }: Checkpoint): StatedGroups | undefined {
  switch (quantization.method) {
    case 'compressed-tensors':
      return quantization.groups.find(
        ({ bits, symmetric, groupSize }) =>
          bits === linear.bits &&
          symmetric === linear.symmetric &&
          (groupSize === linear.groupSize ||
            (linear.groupSize === linear.in && (groupSize === -1 || groupSize > linear.in))),
      )
    case 'gptq': {
      const { groupSize, actOrder } = configForModule(quantization, linear.name)
      return groupSize === undefined ? undefined : { groupSize, actOrder: actOrder ?? true }
    }
    case 'awq':
      return quantization.groupSize === undefined ? undefined : { groupSize: quantization.groupSize, actOrder: false }
    case 'none':
    case 'unsupported':
      return undefined
  }
}

/** Whether added inputs belong to the only group that there is. */
export function isChannelwise(linear: QuantizedSpec, checkpoint: Checkpoint): boolean {
  const stated = statedGroups(linear, checkpoint)
  return stated ? stated.groupSize === -1 : linear.groupSize === linear.in
}

/** Inputs can move where all are one group, and where each one's group is stored and readers go by that. */
function refuseMoving(linear: QuantizedSpec, checkpoint: Checkpoint, isUnused: boolean): void {
  const { name, groupSize, groupIndex, format } = linear
  const isOrdered = groupIndex !== undefined && !isUnused && statedGroups(linear, checkpoint)?.actOrder === true
  if (isOrdered || isChannelwise(linear, checkpoint)) return
  const [tensor, field] = format === 'gptq' ? ['g_idx', 'desc_act'] : ['weight_g_idx', 'actorder']
  const why =
    format === 'awq'
      ? 'AWQ stores no g_idx, so the group of an input follows from its place'
      : groupIndex === undefined
        ? `there is no ${name}.${tensor}, so the group of an input follows from its place`
        : isUnused
          ? `${groupIndex.name} is all zeros, so the group of an input follows from its place`
          : `the quantization config does not say ${field}, so readers take the group of an input from its place, not from ` +
            `${groupIndex.name}`
  throw new BillfishError(
    'INVALID_OPTION',
    `${name} is quantized in groups of ${groupSize} inputs, each with its own scales: channels cannot move, since ${why}. ` +
      'Pad at the end (without interleaving), or pad the 16-bit model and quantize it again.',
  )
}

function checkGroups(linear: QuantizedSpec, checkpoint: Checkpoint): void {
  const { name, groupSize, bits, codes } = linear
  const stated = statedGroups(linear, checkpoint)
  if (stated && stated.groupSize > linear.in) {
    throw invalidCheckpoint(
      `${name} has ${linear.in} inputs, less than a group of ${stated.groupSize}; it cannot be padded`,
    )
  }
  if (!isBytes(codes) && groupSize % (32 / bits) !== 0) {
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

/** Where the channels of a word are: in their order, or in AutoAWQ's. */
function packingOf({ format, bits }: QuantizedSpec): Packing {
  const places = format === 'awq' ? [0, 4, 1, 5, 2, 6, 3, 7] : Array.from({ length: 32 / bits }, (_, i) => i)
  return { bits, places }
}

async function padOutputs(linear: QuantizedSpec, words: Words, padding: LinearPadding): Promise<PaddedTensor[]> {
  const { format, bits, out, codes, scaleRows = 1, storedShape, bias } = linear
  const { checkpoint, padded, placement } = padding
  const scales = checkpoint.tensors.get(linear.scales.name) ?? linear.scales // as stored
  const zeros = storedZeros(checkpoint, linear)
  if (zeros && !isBytes(zeros)) checkPacking(linear, out, 'outputs', words.codesAWord)
  const channels = paddingRuns(out, padded, placement)
  const packing = packingOf(linear)
  const changed: PaddedTensor[] = []
  if (format === 'compressed-tensors') {
    const isOne = scaleRows > 1 // scale, and zero point, for all weights
    const zero =
      isOne && zeros && !linear.symmetric ? lastGroup(linear, await padding.read(zeros), 1).codes[0] : undefined
    changed.push(padRows(codes, channels, zero ?? words.codes))
    if (!isOne) changed.push(padRows(scales, channels, 0))
    if (zeros && !isOne) {
      changed.push(isBytes(zeros) ? padRows(zeros, channels, 0) : padCodeRows(zeros, channels, bits, words.zeros))
    }
    if (storedShape) changed.push(withShape(storedShape, padded, linear.in))
  } else {
    changed.push(
      format === 'awq'
        ? padCodeColumns(codes, channels, packing, words.codes)
        : padColumns(codes, channels, words.codes),
      padColumns(scales, channels, 0),
    )
    if (zeros) changed.push(padCodeColumns(zeros, channels, packing, words.zeros))
  }
  if (bias) changed.push(padRows(bias, channels, 0))
  return changed
}

async function padInputs(linear: QuantizedSpec, words: Words, padding: LinearPadding): Promise<PaddedTensor[]> {
  const { format, bits, codes, scales, groupIndex, storedShape } = linear
  const { checkpoint, padded, placement } = padding
  const isCompressed = format === 'compressed-tensors'
  const order = groupIndex && (await readIntegers(groupIndex, padding))
  // All zeros although there are several groups: readers take the order as natural, and must go on doing so.
  const isUnused = linear.groupSize < linear.in && order?.every((group) => group === 0) === true
  if (placement === 'interleaved') refuseMoving(linear, checkpoint, isUnused)
  checkGroups(linear, checkpoint)
  if (format !== 'awq' && !isBytes(codes)) checkPacking(linear, linear.in, 'inputs', words.codesAWord)
  const zeros = storedZeros(checkpoint, linear)
  const groups = scales.shape[isCompressed ? 1 : 0] ?? 0
  const paddedGroups = isChannelwise(linear, checkpoint) ? groups : padded / linear.groupSize
  /** Of the `i`-th added input, wherever it stands: groups are filled up as if it were behind the others. */
  const groupOfAdded = (i: number) => Math.min(Math.floor((linear.in + i) / linear.groupSize), paddedGroups - 1)

  const changed: PaddedTensor[] = []
  // Inputs that fill up the last group have its scale, so their codes have to be at its zero points; new groups have the same.
  const last =
    zeros && !linear.symmetric && groupOfAdded(0) < groups
      ? lastGroup(linear, await padding.read(zeros), groups)
      : undefined
  const channels = paddingRuns(linear.in, padded, placement)
  if (isCompressed) {
    const fill = last?.codes ?? words.codes
    changed.push(
      isBytes(codes) ? padColumns(codes, channels, fill) : padCodeColumns(codes, channels, packingOf(linear), fill),
    )
    if (storedShape) changed.push(withShape(storedShape, linear.out, padded))
  } else changed.push(padCodeRows(codes, channels, format === 'awq' ? 32 : bits, last?.codes ?? words.codes))
  if (paddedGroups > groups) {
    const groupRuns = paddingRuns(groups, paddedGroups, 'tail')
    changed.push(isCompressed ? padColumns(scales, groupRuns, 0) : padRows(scales, groupRuns, 0))
    const fill = last?.zeros ?? words.zeros
    if (zeros) changed.push(isCompressed ? padColumns(zeros, groupRuns, fill) : padCodeRows(zeros, groupRuns, 32, fill))
  }
  if (groupIndex && order) {
    let added = 0
    const after = channels.flatMap(({ start, count }) =>
      Array.from({ length: count }, (_, i) =>
        start !== ZEROS ? (order[start + i] as number) : isUnused ? 0 : groupOfAdded(added++),
      ),
    )
    changed.push(replaced(groupIndex, [padded], Int32Array.from(after)))
  }
  return changed
}

async function readIntegers(tensor: TensorRef, { read }: LinearPadding): Promise<Int32Array> {
  const bytes = await read(tensor)
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
}

/** The file's zero points, those among them that a loader leaves unread because the scheme is symmetric. */
function storedZeros(checkpoint: Checkpoint, linear: QuantizedSpec): TensorRef | undefined {
  return linear.format === 'gptq' ? checkpoint.tensors.get(`${linear.name}.qzeros`) : linear.zeros
}

/**
 * Of the last group: the words of its stored zero points (one for the outputs of a word), and words of codes that are all at
 * these: for GPTQ one an output, for AWQ one for the outputs of a word, for compressed-tensors one a row.
 */
function lastGroup(
  linear: QuantizedSpec,
  stored: Uint8Array,
  groups: number,
): { readonly zeros: Int32Array; readonly codes: Int32Array } {
  const { format, bits, out, zeroOffset } = linear
  const repeated = bits === 4 ? 0x11111111 : 0x01010101
  const rowOf = (n: number) => ((linear.scaleRows ?? 1) > 1 ? 0 : n) // one zero point may be for all
  if (linear.zeros && isBytes(linear.zeros)) {
    const bytes = new Int8Array(stored.buffer, stored.byteOffset, stored.byteLength)
    const own = Int32Array.from({ length: out }, (_, n) => bytes[rowOf(n) * groups + groups - 1] as number)
    const middle = 2 ** (bits - 1) // of packed codes, which are not signed
    const codes = isBytes(linear.codes)
      ? own.map((zero) => Math.imul(zero & 0xff, 0x01010101))
      : own.map((zero) => Math.imul(zero + middle, repeated))
    return { zeros: own.map((zero) => Math.imul(zero & 0xff, 0x01010101)), codes }
  }
  const words = new Int32Array(stored.buffer, stored.byteOffset, stored.byteLength / 4)
  const zeros =
    format === 'compressed-tensors'
      ? words.filter((_, i) => i % groups === groups - 1)
      : words.slice((words.length / groups) * (groups - 1))
  if (format === 'awq') return { zeros, codes: zeros } // packed like a row of codes
  const codesAWord = 32 / bits
  const codes = Int32Array.from({ length: out }, (_, n) => {
    const word = zeros[Math.floor(rowOf(n) / codesAWord)] as number
    const zero = ((word >>> ((rowOf(n) % codesAWord) * bits)) + zeroOffset) & (2 ** bits - 1)
    return isBytes(linear.codes) ? Math.imul((zero - 2 ** (bits - 1)) & 0xff, 0x01010101) : Math.imul(zero, repeated)
  })
  return { zeros, codes }
}

/** weight_shape, [outputs, inputs] in its own integer type. */
function withShape(tensor: TensorRef, out: number, inputs: number): PaddedTensor {
  const data = tensor.dtype === 'I64' ? new BigInt64Array([BigInt(out), BigInt(inputs)]) : new Int32Array([out, inputs])
  return replaced(tensor, tensor.shape, data)
}
