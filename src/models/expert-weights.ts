/** The weights of a layer's experts: one stack each for gate, up and down, of which ranks have shares. */
import { invalidCheckpoint, quoted, unsupportedFormat } from '../checkpoint/invalid'
import { FLOAT_TYPES } from '../checkpoint/tensors'
import { BillfishError } from '../common/errors'
import { type CooperativeTask, runSync } from '../common/event-loop'
import { ELEMENT_BYTES, type ExpertsSpec, type LinearSpec, type TensorRef } from '../native/weights'
import { inputGroup, type LinearSlice, sliceLinear } from '../quantization/linear-slice'
import { Module, type WeightSource } from './graph'
import type { Rank } from './rank'
import { CHANNEL_TILE } from './tensor-parallel'

/** What a config says of the weights of its experts. */
export interface ExpertSizes {
  readonly count: number
  /** Channels of an expert. */
  readonly width: number
  /** Error for a config whose number of experts is not the checkpoint's. */
  wrongCount(what: string): Error
}

/** The experts of a layer, or what a rank has of them. */
export interface LayerExperts {
  readonly gate: ExpertsSpec
  readonly up: ExpertsSpec
  readonly down: ExpertsSpec
}

/** What a layer has in place of an MLP. */
export interface SparseMlp extends LayerExperts {
  /** [experts, hidden size]. */
  readonly router: LinearSpec
}

/** Linears that are looked up between two yields. */
const SLICE = 32

/** Layers are traced once a rank, to plan and to load, and have thousands of tensors each. */
const known = new WeakMap<WeightSource, Map<string, SparseMlp>>()

/** The experts of a layer, whole. */
export function layerExperts(source: WeightSource, layer: string, hiddenSize: number, experts: ExpertSizes): SparseMlp {
  return runSync(readLayerExperts(source, layer, hiddenSize, experts))
}

/** {@link layerExperts} in slices; from then on, they are known. */
export function* readLayerExperts(
  source: WeightSource,
  layer: string,
  hiddenSize: number,
  experts: ExpertSizes,
): CooperativeTask<SparseMlp> {
  const ofSource = known.get(source) ?? new Map<string, SparseMlp>()
  known.set(source, ofSource)
  const key = `${layer} ${experts.count} ${hiddenSize} ${experts.width}`
  const found = ofSource.get(key)
  if (found) return found
  const module = new Module(source, layer)
  checkCount(module, experts)
  const read = {
    router: module.linear('mlp.gate', experts.count, hiddenSize),
    gate: yield* readProjection(module, experts, hiddenSize, 'gate_proj'),
    up: yield* readProjection(module, experts, hiddenSize, 'up_proj'),
    down: yield* readProjection(module, experts, hiddenSize, 'down_proj'),
  }
  ofSource.set(key, read)
  return read
}

/** The router and a tensor of all experts know how many there are, which says more than that one is missing. */
function checkCount(layer: Module, { count, wrongCount }: ExpertSizes): void {
  for (const name of ['mlp.gate.weight', 'mlp.experts.gate_up_proj', 'mlp.experts.down_proj']) {
    const tensor = layer.find(name)
    const stored = tensor?.shape[0]
    if (tensor === undefined || stored === undefined || stored === count) continue
    throw wrongCount(
      `tensor ${quoted(tensor.name)} has the shape [${tensor.shape.join(', ')}], which is that of ${stored} experts; ` +
        'correct the config, or download the checkpoint again',
    )
  }
}

type Projection = 'gate_proj' | 'up_proj' | 'down_proj'

/** The linears of all experts of a layer, `[out, in]` each. */
function* readProjection(
  layer: Module,
  experts: ExpertSizes,
  hiddenSize: number,
  projection: Projection,
): CooperativeTask<ExpertsSpec> {
  const { count, width } = experts
  const [out, inputs] = projection === 'down_proj' ? [hiddenSize, width] : [width, hiddenSize]
  const fused = layer.find(projection === 'down_proj' ? 'mlp.experts.down_proj' : 'mlp.experts.gate_up_proj')
  const linears: LinearSpec[] = []
  for (let expert = 0; expert < count; expert++) {
    linears.push(
      fused
        ? fusedProjection(layer, fused, count, expert, projection, out, inputs)
        : ownProjection(layer, experts, expert, projection, out, inputs),
    )
    if (expert % SLICE === SLICE - 1) yield
  }
  return stackExperts(`${layer.name}.mlp.experts.${projection}`, linears)
}

/** A linear of its own. */
function ownProjection(
  layer: Module,
  { count, wrongCount }: ExpertSizes,
  expert: number,
  projection: Projection,
  out: number,
  inputs: number,
): LinearSpec {
  try {
    return layer.linear(`mlp.experts.${expert}.${projection}`, out, inputs)
  } catch (error) {
    const has = (one: number) => hasWeights(layer, `mlp.experts.${one}.${projection}`)
    if (!(error instanceof BillfishError) || error.code !== 'INVALID_CHECKPOINT' || has(expert)) throw error
    const found = Array.from({ length: count }, (_, one) => one).filter(has).length
    throw wrongCount(
      `of experts 0 to ${count - 1} in layer ${quoted(layer.name)}, ${found} have ${projection}, and expert ${expert} ` +
        `does not: ${error.message}; download the checkpoint again or, if it has fewer experts, correct the config`,
    )
  }
}

/** Whether a checkpoint stores the weights of a linear, in whatever format. */
function hasWeights(layer: Module, linear: string): boolean {
  return ['weight', 'qweight', 'weight_packed'].some((tensor) => layer.find(`${linear}.${tensor}`) !== undefined)
}

/**
 * A part of a tensor that has all experts, as transformers 5 stores them: `gate_up_proj` [experts, 2 * width, hidden] with
 * the rows of the gate first, `down_proj` [experts, hidden, width]; or with the last two dimensions swapped, as Qwen3-VL's
 * are. The shape decides, or that of the layer's other tensor if this one's matrices are square: then gate and up of the
 * other are twice as high as wide, or down is, unless they are swapped.
 */
function fusedProjection(
  layer: Module,
  tensor: TensorRef,
  count: number,
  expert: number,
  projection: Projection,
  out: number,
  inputs: number,
): LinearSpec {
  const isDown = projection === 'down_proj'
  const outputs = isDown ? out : 2 * out
  const { name, shape, dtype } = tensor
  const isOf = (...sizes: number[]) => shape.length === 3 && sizes.every((size, i) => shape[i] === size)
  const [usual, swapped] = [isOf(count, outputs, inputs), isOf(count, inputs, outputs)]
  if (!usual && !swapped) {
    throw invalidCheckpoint(
      `Tensor ${quoted(name)} has the shape [${shape.join(', ')}]; ${count} experts need ` +
        `[${count}, ${outputs}, ${inputs}] or [${count}, ${inputs}, ${outputs}]; config and tensors do not match`,
    )
  }
  if (!FLOAT_TYPES.includes(dtype)) {
    throw unsupportedFormat(`The experts of ${quoted(name)} are stored in one tensor`, `quantized (${dtype})`)
  }
  const bytesOf = (elements: number) => elements * ELEMENT_BYTES[dtype]
  const first = projection === 'up_proj' ? out : 0
  const [, rows = 0, columns = 0] = layer.find(`mlp.experts.${isDown ? 'gate_up_proj' : 'down_proj'}`)?.shape ?? []
  if (swapped && (!usual || rows < columns)) {
    const offset = tensor.offset + bytesOf(expert * inputs * outputs)
    const weight = { ...tensor, shape: [inputs, outputs], offset, bytes: bytesOf(inputs * outputs) }
    return { kind: 'matrix', name, out, in: inputs, weight, column: first }
  }
  const offset = tensor.offset + bytesOf((expert * outputs + first) * inputs)
  const weight = { ...tensor, shape: [out, inputs], offset, bytes: bytesOf(out * inputs) }
  return { kind: 'matrix', name, out, in: inputs, weight }
}

/**
 * One weight of the experts of a layer.
 * @throws BillfishError INVALID_CHECKPOINT if they are not all stored in the same way
 */
export function stackExperts(name: string, experts: readonly LinearSpec[]): ExpertsSpec {
  const [first] = experts as readonly [LinearSpec]
  const form = formOf(first)
  const other = experts.find((expert) => formOf(expert) !== form)
  if (other !== undefined) {
    throw invalidCheckpoint(
      `The experts ${first.name} (${form}) and ${other.name} (${formOf(other)}) are not stored in the same way`,
    )
  }
  const hasZeroPoints = experts.some((expert) => expert.kind === 'quantized' && !expert.symmetric)
  const hasOrder = experts.some((expert) => expert.kind === 'quantized' && expert.groupIndex && expert.actOrder)
  return { kind: 'experts', name, out: first.out, in: first.in, experts, first, hasZeroPoints, hasOrder }
}

/** What the experts of a layer must have in common. */
function formOf(linear: LinearSpec): string {
  const bias = linear.bias ? ', with a bias' : ''
  if (linear.kind === 'matrix') return `${linear.weight.dtype}${bias}`
  const floats = linear.format === 'fp8' ? 'FP8' : linear.format === 'fp4' ? 'FP4' : undefined
  const numbers = floats ?? `${linear.bits} bits`
  return `${numbers} in groups of ${linear.groupSize} with scales in ${linear.scales.dtype}${bias}`
}

/** The part of every expert that a slice of one of them is. `consumers` read the outputs, which follow their group order. */
function sliceExperts(
  experts: ExpertsSpec,
  slice: Omit<LinearSlice, 'consumer'>,
  consumers?: readonly LinearSpec[],
): ExpertsSpec {
  const first = sliceLinear(experts.first, slice)
  const hasOrder = experts.hasOrder && slice.inputs === undefined
  return { ...experts, out: first.out, in: first.in, first, consumers, hasOrder }
}

/** A share of the channels of every expert. */
export function channelsOfRank(rank: Rank, { gate, up, down }: LayerExperts): LayerExperts {
  if (rank.count === 1) return { gate, up, down }
  const inputs = rank.share(down.in, inputGroup(down.first), CHANNEL_TILE, down.first.name)
  const hasOrder = down.experts.some((expert) => expert.kind === 'quantized' && expert.groupIndex !== undefined)
  const consumers = hasOrder ? down.experts : undefined
  return {
    gate: sliceExperts(gate, { outputs: inputs }, consumers),
    up: sliceExperts(up, { outputs: inputs }, consumers),
    down: sliceExperts(down, { inputs, inputsInGroupOrder: true, bias: rank.isFirst }),
  }
}

/** Some of the experts, of which the first is number `first` of the layer's: as many as others have or one more. */
export function expertsOfRank(
  { index, count: ranks }: Rank,
  { gate, up, down }: LayerExperts,
): LayerExperts & { readonly first: number } {
  const { length } = down.experts
  if (length < ranks) {
    throw new BillfishError(
      'INVALID_OPTION',
      `expertParallel: ${length} experts are too few for ${ranks} devices (tensorParallelSize). Omit expertParallel.`,
    )
  }
  const [first, end] = [index, index + 1].map((at) => Math.floor((at * length) / ranks)) as [number, number]
  const own = ({ name, experts }: ExpertsSpec) => stackExperts(name, experts.slice(first, end))
  return { gate: own(gate), up: own(up), down: own(down), first }
}
