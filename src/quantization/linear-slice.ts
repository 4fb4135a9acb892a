import type { LinearSpec, MatrixSpec, PartSpec, QuantizedSpec } from '../native/weights'
import { type ChannelRun, ZEROS } from './padding'

/** What of a layer a rank has. */
export interface LinearSlice {
  /** Absent: all of them. */
  readonly outputs?: readonly ChannelRun[] | undefined
  readonly inputs?: readonly ChannelRun[] | undefined
  /** Whether the rank adds the layer's bias; of ranks that have all outputs and a part of the inputs only one does. */
  readonly bias?: boolean
  /** The layer that reads the outputs: they are counted in the order of its groups. */
  readonly reader?: LinearSpec | undefined
  /** The inputs come in the order of the layer's groups: it was the `reader` of what makes them. */
  readonly inputsInGroupOrder?: boolean
}

/** Inputs that share a scale, along which a layer is cut: 1 where it may be cut anywhere. */
export function inputGroup(linear: LinearSpec): number {
  return linear.kind === 'quantized' && linear.groupSize < linear.in ? linear.groupSize : 1
}

/** Whether the layer can be cut into these inputs: whole groups, and no order of its own. */
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

/** The part of a layer that a share says. */
export function sliceLinear<Spec extends LinearSpec>(linear: Spec, share: LinearSlice): Spec {
  const { outputs, inputs, bias = true, reader, inputsInGroupOrder = false } = share
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
    ...orderOf(reader),
  }
  const cut = { ...linear, out, in: inFeatures, part, bias: bias ? linear.bias : undefined }
  if (cut.kind !== 'quantized') return cut as Spec & MatrixSpec
  const channelwise = (linear as QuantizedSpec).groupSize >= linear.in
  return { ...cut, groupSize: channelwise ? inFeatures : cut.groupSize } as Spec & QuantizedSpec
}

function orderOf(reader: LinearSpec | undefined): Pick<PartSpec, 'follows' | 'followedGroupSize'> {
  if (reader?.kind !== 'quantized' || !reader.groupIndex) return {}
  return { follows: reader.groupIndex, followedGroupSize: reader.groupSize }
}
