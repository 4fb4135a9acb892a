import type { LinearSpec, MatrixSpec, PartSpec, QuantizedSpec } from '../native/weights'
import { type ChannelRun, greatestCommonDivisor, ZEROS } from './padding'

/** The part of a linear that a rank has. */
export interface LinearSlice {
  /** All of them if undefined. */
  readonly outputs?: readonly ChannelRun[] | undefined
  readonly inputs?: readonly ChannelRun[] | undefined
  /** Whether the rank adds the bias; exactly one of the ranks that slice the inputs must. */
  readonly bias?: boolean
  /** The layer that consumes the outputs, whose group order they follow. */
  readonly consumer?: LinearSpec | undefined
  /** Whether the inputs arrive in the group order of this layer, because it was the `consumer` of their producer. */
  readonly inputsInGroupOrder?: boolean
}

/**
 * Inputs that must not be split; 1 if any split is valid. Quantized layers are split between groups. Blocks of FP8 are so
 * large that a rank's share often ends within one: they are split between groups of 32, which every kernel takes.
 */
export function inputGroup(linear: LinearSpec): number {
  if (linear.kind !== 'quantized' || linear.groupSize >= linear.in) return 1
  return linear.format === 'fp8' ? greatestCommonDivisor(linear.groupSize, 32) : linear.groupSize
}

/** The size of the groups of a share of the inputs: that of the layer or, of FP8 blocks that it cuts, a part of it. */
function groupOfShare(linear: QuantizedSpec, inputs: readonly ChannelRun[], count: number): number {
  const { groupSize } = linear
  if (linear.format !== 'fp8') return Math.min(groupSize, count)
  const most = groupSize / inputGroup(linear)
  let parts = 1
  while (parts < most && (most % parts !== 0 || mixesGroups(inputs, groupSize / parts, groupSize))) parts++
  return Math.min(groupSize / parts, count)
}

/** Whether a group of `group` inputs of the share has inputs of several stored groups, which have scales of their own. */
function mixesGroups(inputs: readonly ChannelRun[], group: number, storedGroup: number): boolean {
  const stored = new Map<number, number>()
  let at = 0
  for (const { start, count } of inputs) {
    for (let i = 0; start !== ZEROS && i < count; ) {
      const own = Math.floor((at + i) / group)
      const wanted = Math.floor((start + i) / storedGroup)
      if ((stored.get(own) ?? wanted) !== wanted) return true
      stored.set(own, wanted)
      i = Math.min((own + 1) * group - at, (wanted + 1) * storedGroup - start)
    }
    at += count
  }
  return false
}

/** Whether the layer can be split into these inputs: at group boundaries, and without act-order. */
export function splitsAtGroupBoundaries(linear: LinearSpec, inputs: readonly ChannelRun[]): boolean {
  if (linear.kind !== 'quantized') return true
  if (linear.actOrder) return false
  const group = inputGroup(linear)
  let at = 0
  for (const { start, count } of inputs) {
    if (start !== ZEROS && (start % group !== 0 || at % group !== 0)) return false
    at += count
  }
  return true
}

/** Slices a linear. */
export function sliceLinear<Spec extends LinearSpec>(linear: Spec, slice: LinearSlice): Spec {
  const { outputs, inputs, bias = true, consumer, inputsInGroupOrder = false } = slice
  const size = (runs: readonly ChannelRun[] | undefined, all: number) =>
    runs ? runs.reduce((sum, { count }) => sum + count, 0) : all
  const [out, inFeatures] = [size(outputs, linear.out), size(inputs, linear.in)]
  const part: PartSpec = {
    storedOut: linear.out,
    storedIn: linear.in,
    storedGroupSize: linear.kind === 'quantized' ? linear.groupSize : undefined,
    outputs,
    inputs,
    inputsInGroupOrder,
    ...outputOrder(consumer),
  }
  const cut = { ...linear, out, in: inFeatures, part, bias: bias ? linear.bias : undefined }
  if (cut.kind !== 'quantized') return cut as Spec & MatrixSpec
  const channelwise = (linear as QuantizedSpec).groupSize >= linear.in
  const groupSize = channelwise ? inFeatures : inputs ? groupOfShare(cut, inputs, inFeatures) : cut.groupSize
  return { ...cut, groupSize } as Spec & QuantizedSpec
}

function outputOrder(consumer: LinearSpec | undefined): Pick<PartSpec, 'follows' | 'followedGroupSize'> {
  if (consumer?.kind !== 'quantized' || !consumer.groupIndex) return {}
  return { follows: consumer.groupIndex, followedGroupSize: consumer.groupSize }
}
