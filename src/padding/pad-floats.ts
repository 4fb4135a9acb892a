/**
 * The padded tensors of a linear whose weights are 8-bit or 4-bit floats (src/quantization/fp8.ts and fp4.ts have pictures of
 * them). Added weights are code 0, which is +0, and added scales 0 as well: exactly 0 for every reader.
 */
import type { Checkpoint } from '../checkpoint/types'
import { ceilDiv, elementCount } from '../common/arithmetic'
import { BillfishError } from '../common/errors'
import type { QuantizedSpec, TensorRef } from '../native/weights'
import { statedBlock } from '../quantization/fp8'
import { type ChannelRun, paddingRuns } from '../quantization/padding'
import type { LinearPadding } from './linear-padding'
import { type PaddedTensor, padColumns, padRows } from './parts'

/** Whether the scales of a linear of floats let its channels move. */
export function canMove(linear: QuantizedSpec, dimension: LinearPadding['dimension'], checkpoint: Checkpoint): boolean {
  if (linear.format === 'fp4') return dimension === 'outputs' // a row has scales of its own
  return storedScales(linear, checkpoint).of !== 'blocks'
}

/** @throws BillfishError INVALID_OPTION for channels that cannot move */
export function padFloats(linear: QuantizedSpec, padding: LinearPadding): PaddedTensor[] {
  if (padding.placement === 'interleaved' && !canMove(linear, padding.dimension, padding.checkpoint)) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${linear.name} has scales of ${linear.format === 'fp4' ? 'groups' : 'blocks'} of channels, so these cannot move. Pad at ` +
        'the end (without interleaving), or pad the 16-bit model and quantize it again.',
    )
  }
  const changed = linear.format === 'fp4' ? padFp4(linear, padding) : padFp8(linear, padding)
  if (linear.bias && padding.dimension === 'outputs') changed.push(padRows(linear.bias, runsOf(linear.out, padding), 0))
  return changed
}

function runsOf(size: number, { padded, placement }: LinearPadding): ChannelRun[] {
  return paddingRuns(size, padded, placement)
}

function padFp4({ out, in: inputs, groupSize, codes, scales }: QuantizedSpec, padding: LinearPadding): PaddedTensor[] {
  const { dimension, padded } = padding
  if (dimension === 'outputs') {
    const runs = runsOf(out, padding)
    return [padRows(codes, runs, 0), padRows(scales, runs, 0)]
  }
  // A byte has two codes, and groups are whole.
  return [
    padColumns(codes, paddingRuns(inputs / 2, padded / 2, 'tail'), 0),
    padColumns(scales, paddingRuns(inputs / groupSize, padded / groupSize, 'tail'), 0),
  ]
}

function padFp8(linear: QuantizedSpec, padding: LinearPadding): PaddedTensor[] {
  const { dimension, padded, checkpoint } = padding
  const isOutputs = dimension === 'outputs'
  const pad = isOutputs ? padRows : padColumns
  const changed = [pad(linear.codes, runsOf(isOutputs ? linear.out : linear.in, padding), 0)]
  const { of, tensor, block } = storedScales(linear, checkpoint)
  if (of === 'outputs' && isOutputs) changed.push(padRows(tensor, runsOf(linear.out, padding), 0))
  if (of === 'blocks') {
    // Channels that fill up the last block have its scale, of codes that are 0.
    const side = isOutputs ? block.rows : block.groupSize
    const [before, after] = [ceilDiv(isOutputs ? linear.out : linear.in, side), ceilDiv(padded, side)]
    if (after > before) changed.push(pad(tensor, paddingRuns(before, after, 'tail'), 0))
  }
  return changed
}

/** The scales as they are in the file, and what each of them belongs to. */
function storedScales(linear: QuantizedSpec, checkpoint: Checkpoint) {
  const { name, out, in: inputs, scales } = linear
  const tensor = checkpoint.tensors.get(scales.name) as TensorRef
  const block = statedBlock(checkpoint.quantization, name)
  const [rows, columns] = tensor.shape
  const isOfBlocks = rows === ceilDiv(out, block.rows) && columns === ceilDiv(inputs, block.groupSize)
  const count = elementCount(tensor.shape)
  // One scale may be that of one block, and is then stored as a matrix if the config says so.
  const of = isOfBlocks && (count > 1 || block.isStated) ? 'blocks' : count === 1 ? 'all' : 'outputs'
  return { of, tensor, block } as const
}
