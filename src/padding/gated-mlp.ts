/**
 * Which linears of a checkpoint are the gated MLPs of its text model. The names come from the model's own definition in
 * src/models: a decoder layer is traced, and what `siluMul` multiplies is gate and up, what reads the product is down.
 */
import { isObject } from '../checkpoint/json'
import type { Checkpoint, RawConfig } from '../checkpoint/types'
import { elementCount } from '../common/arithmetic'
import { BillfishError } from '../common/errors'
import type { WeightSource } from '../models/graph'
import { createModel, storedWeights } from '../models/registry'
import { traceStage } from '../models/stages'
import { textModelConfig } from '../models/text-model-config'
import type { LinearSpec, TensorRef } from '../native/weights'
import { isPadded } from './pad-linear'

/** out = down(silu(gate(x)) * up(x)) */
export interface GatedMlp {
  readonly layer: number
  readonly gate: LinearSpec
  readonly up: LinearSpec
  readonly down: LinearSpec
}

export interface GatedMlps {
  /** The decoder layers' name in this checkpoint, such as `model.language_model.layers`. */
  readonly layers: string
  readonly hiddenSize: number
  /** Channels between gate and down. */
  readonly width: number
  /** intermediate_size in config.json for one channel: 2 where it counts gate and up together (Qwen v1). */
  readonly configFactor: number
  /** Where intermediate_size stands in config.json; twice where a nested text_config repeats it. */
  readonly configPaths: readonly (readonly string[])[]
  readonly mlps: readonly GatedMlp[]
  /** Modules elsewhere that have the same names, such as a vision tower's. */
  readonly lookAlikes: readonly string[]
}

interface Names {
  readonly count: number
  readonly layers: string
  readonly gate: string
  readonly up: string
  readonly down: string
  readonly hiddenSize: number
  readonly width: number
}

/** Traces the first decoder layer. */
function namesOf(config: RawConfig): Names {
  const nowhere: TensorRef = { name: '', file: 0, dtype: 'F32', shape: [], offset: 0, bytes: 0 }
  const source: WeightSource = {
    find: () => undefined,
    linear: (name, out, inFeatures) => ({ kind: 'matrix', name, out, in: inFeatures, weight: nowhere }),
    vector: (name, shape) => ({ kind: 'vector', name, length: elementCount(shape), weight: nowhere }),
    table: (name, rows, width) => ({ kind: 'matrix', name, out: rows, in: width, weight: nowhere }),
  }
  const model = createModel(config, source)
  const layer = (index: number) =>
    traceStage(model, source, { device: 'cpu', modules: [`${model.names.layers}.${index}`] })
  if (model.kindsOfLayers.some((kind) => layer(kind).program.operators.some(({ op }) => op === 'groupedLinear'))) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `config.json: ${config.model_type} is a mixture of experts, whose files billfish does not pad; it pads experts while ` +
        'loading, for any tensorParallelSize.',
    )
  }
  const first = `${model.names.layers}.0`
  const { program, weights } = layer(0)
  const linears = program.operators.flatMap((operator) =>
    operator.op === 'linear' ? operator.targets.map((target) => ({ x: operator.x, ...target })) : [],
  )
  const isLinear = (value: number) => linears.some(({ out }) => out === value)
  // Recurrent layers multiply with silu, too, but not the outputs of two linears.
  const product = program.operators
    .filter((operator) => operator.op === 'siluMul')
    .find(({ gate, up }) => isLinear(gate) && isLinear(up))
  const [gate, up, down] = [
    linears.find(({ out }) => out === product?.gate),
    linears.find(({ out }) => out === product?.up),
    linears.find(({ x }) => x === product?.gate),
  ].map((linear) => linear && weights[linear.weight])
  if (gate?.kind !== 'matrix' || !up || !down) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `config.json: ${config.model_type} has no gated MLP that could be padded.`,
    )
  }
  const below = (name: string) => name.slice(first.length + 1)
  return {
    layers: model.names.layers,
    count: model.shape.layers,
    gate: below(gate.name),
    up: below(up.name),
    down: below(down.name),
    hiddenSize: gate.in,
    width: gate.out,
  }
}

/** What the checkpoint calls the decoder layers. @throws BillfishError INVALID_CHECKPOINT */
function findLayers(checkpoint: Checkpoint, names: Names): string {
  const layers = storedWeights(checkpoint).storedName(names.layers)
  const stored = [...checkpoint.tensors.keys(), ...checkpoint.unsupportedTensors.keys()]
  const mlp = `${layers}.0.${names.down}`
  if (!stored.some((name) => name.startsWith(`${mlp}.`))) {
    throw new BillfishError(
      'INVALID_CHECKPOINT',
      `${checkpoint.directory}: no tensor is named as the MLP of a text model's layer: wanted is ${mlp}.`,
    )
  }
  const beyond = stored.find((name) => name.startsWith(`${layers}.${names.count}.${names.down}.`))
  if (beyond !== undefined) {
    throw new BillfishError(
      'INVALID_CHECKPOINT',
      `${checkpoint.directory}: tensor ${beyond} belongs to a layer that config.json does not count (num_hidden_layers ${names.count}); ` +
        'correct config.json.',
    )
  }
  return layers
}

/** What else is stored beside the three linears of an MLP would be of the old width, and nobody would know. */
function refuseUnknownParts(checkpoint: Checkpoint, layer: string, names: Names, known: ReadonlySet<string>): void {
  const parent = names.gate.slice(0, names.gate.lastIndexOf('.') + 1)
  const all = [...checkpoint.tensors.keys(), ...checkpoint.unsupportedTensors.keys()]
  const unknown = all.find((name) => name.startsWith(`${layer}.${parent}`) && !known.has(name))
  if (unknown === undefined) return
  throw new BillfishError(
    'INVALID_CHECKPOINT',
    `${checkpoint.directory}: tensor ${unknown} belongs to an MLP that would be padded, but what it holds is not known; ` +
      'billfish pads weights, biases, and what GPTQ, AWQ and compressed-tensors store with them.',
  )
}

/** The tensors of a linear, those that the loader leaves unread included. */
export function tensorsOf(checkpoint: Checkpoint, linear: LinearSpec): TensorRef[] {
  if (linear.kind === 'matrix') return [linear.weight, linear.bias].filter((tensor) => tensor !== undefined)
  const zeros = linear.format === 'gptq' ? checkpoint.tensors.get(`${linear.name}.qzeros`) : linear.zeros
  const { codes, scales, globalScale, groupIndex, storedShape, bias } = linear
  return [codes, scales, globalScale, zeros, groupIndex, storedShape, bias].filter((tensor) => tensor !== undefined)
}

/** Numbers for all of a linear's inputs together, which stay: by these, some engines quantize activations. */
function activationScales(checkpoint: Checkpoint, { name }: LinearSpec): TensorRef[] {
  return ['input_scale', 'activation_scale', 'input_global_scale', 'input_zero_point']
    .map((own) => checkpoint.tensors.get(`${name}.${own}`))
    .filter((tensor) => tensor !== undefined && elementCount(tensor.shape) === 1) as TensorRef[]
}

/**
 * Finds the MLPs of the text model's layers, and checks the tensors of each one against config.json.
 *
 * @throws BillfishError UNSUPPORTED_MODEL for a model that billfish does not know; INVALID_CHECKPOINT where tensors are
 *   missing, unknown, or contradict the config
 */
export function findGatedMlps(checkpoint: Checkpoint): GatedMlps {
  const { config } = checkpoint
  const text = textModelConfig(config).config
  // Positions do not matter here, and some kinds are not known. How much of a head is rotated must fit the head.
  const share = isObject(text.rope_parameters) ? text.rope_parameters.partial_rotary_factor : undefined
  const rope = { rope_theta: 10_000, rope_scaling: null, rope_parameters: { partial_rotary_factor: share } }
  const names = namesOf({ ...text, ...rope })
  const layers = findLayers(checkpoint, names)
  const { hiddenSize, width } = names
  const mlps = Array.from({ length: names.count }, (_, layer): GatedMlp => {
    const name = `${layers}.${layer}`
    const gate = checkpoint.linear(`${name}.${names.gate}`, width, hiddenSize, 'optional')
    const up = checkpoint.linear(`${name}.${names.up}`, width, hiddenSize, 'optional')
    const down = checkpoint.linear(`${name}.${names.down}`, hiddenSize, width, 'optional')
    const linears = [gate, up, down]
    const parts = linears.flatMap((linear) => tensorsOf(checkpoint, linear))
    // A format that is not padded is refused by its name, with whatever is stored beside it.
    if (linears.every(isPadded)) {
      const kept = linears.flatMap((linear) => activationScales(checkpoint, linear))
      refuseUnknownParts(checkpoint, name, names, new Set([...parts, ...kept].map((tensor) => tensor.name)))
    }
    return { layer, gate, up, down }
  })
  const stated = Number(text.intermediate_size)
  const configPaths = isObject(config.text_config) ? [['text_config', 'intermediate_size']] : []
  if (config.intermediate_size === stated) configPaths.push(['intermediate_size'])
  return {
    layers,
    hiddenSize,
    width,
    configFactor: stated / width,
    configPaths,
    mlps,
    lookAlikes: findLookAlikes(checkpoint, layers, [names.gate, names.up, names.down]),
  }
}

function findLookAlikes(checkpoint: Checkpoint, layers: string, modules: readonly string[]): string[] {
  const found = new Set<string>()
  for (const name of [...checkpoint.tensors.keys(), ...checkpoint.unsupportedTensors.keys()]) {
    const module = name.slice(0, name.lastIndexOf('.'))
    const isNamedSo = modules.some((end) => module.endsWith(`.${end}`))
    if (isNamedSo && !name.startsWith(`${layers}.`)) found.add(module)
  }
  return [...found]
}
