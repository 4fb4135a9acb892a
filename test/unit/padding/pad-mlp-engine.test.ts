/**
 * The MLP of test/fixtures/pad through the engine: 384 channels padded to 512 while loading, at their end or interleaved,
 * whole and cut for 2 and 4 ranks, in 16 bits and quantized. It is the only layer of a model whose attention gives zeros
 * and whose norm gives the fixture's inputs: hidden size 512, of which 256 are the MLP's and the others make all rows of
 * one size, with weights of zero.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadGenerationAssets } from '../../../src/generation/assets'
import { type LoadOptions, loadModel, planModel } from '../../../src/index'
import { loadFrom } from '../../../src/load'
import type { Model } from '../../../src/model'
import type { ModelShape } from '../../../src/models/architecture'
import type { WeightSource } from '../../../src/models/graph'
import { sliceRuns } from '../../../src/models/rank'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { sliceLinear } from '../../../src/quantization/linear-slice'
import { type PaddingPlacement, paddingRuns, ZEROS } from '../../../src/quantization/padding'
import { directoryOf } from '../../support/directories'
import { type Quantization, quantizationConfig, quantize, type Weights } from '../../support/quantize'
import { Random } from '../../support/random.cjs'
import { floatsOf, readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

const fixture = resolve(__dirname, '../../fixtures/pad')
const { hidden, intermediate, padded } = JSON.parse(readFileSync(join(fixture, 'golden.json'), 'utf8'))
const stored = readSafetensors(join(fixture, 'mlp.safetensors'))
const rows = 19
const width = 2 * hidden // of the model
/** Of the fixture: what its own fp32 results are off, and what fp16 is. */
const tolerance = { fp32: 2e-5, fp16: 0.036 }

/** A format, with act-order in random order if at all. */
type Scheme = Omit<Quantization, 'groupIndex'> & { readonly actOrder?: boolean }

const parts = ['gate_proj', 'up_proj', 'down_proj'] as const
type Part = (typeof parts)[number]
type Mlp = Readonly<Record<Part, Weights>>

function numbers(name: string): Float64Array {
  const tensor = stored.get(name) as StoredTensor
  return tensor.dtype === 'F64'
    ? new Float64Array(Uint8Array.from(tensor.data).buffer)
    : Float64Array.from(floatsOf(tensor))
}

/** The fixture's weights as the model has them: with zeros for the other half of the hidden state. */
function mlpOf(weights: 'original' | PaddingPlacement): Mlp {
  const channels = weights === 'original' ? intermediate : padded
  return Object.fromEntries(
    parts.map((part) => {
      const [out, inputs] = part === 'down_proj' ? [width, channels] : [channels, width]
      const [ownOut, ownInputs] = part === 'down_proj' ? [hidden, channels] : [channels, hidden]
      const own = numbers(`${weights}.${part}.weight`)
      const values = new Float64Array(out * inputs)
      for (let n = 0; n < ownOut; n++) values.set(own.subarray(n * ownInputs, (n + 1) * ownInputs), n * inputs)
      return [part, { out, in: inputs, values }]
    }),
  ) as unknown as Mlp
}

/** Embeddings whose norm is the fixture's inputs: their mean square and the norm's epsilon are 1 together. */
function embeddings(): Float32Array {
  const x = numbers('x')
  const table = new Float32Array(rows * width)
  for (let row = 0; row < rows; row++) {
    const own = x.subarray(row * hidden, (row + 1) * hidden)
    const rest = width * (1 - normEpsilon) - own.reduce((sum, value) => sum + value * value, 0)
    table.set(own, row * width)
    table.fill(Math.sqrt(rest / hidden), row * width + hidden, (row + 1) * width)
  }
  return table
}

const normEpsilon = 1e-6
const layer = 'model.layers.0'

function floats(shape: readonly number[], values: ArrayLike<number> | number): StoredTensor {
  const count = shape.reduce((product, length) => product * length, 1)
  const data = typeof values === 'number' ? new Float32Array(count).fill(values) : Float32Array.from(values)
  return { dtype: 'F32', shape, data: Buffer.from(data.buffer) }
}

interface Stored {
  readonly directory: string
  /** The weights as stored. */
  readonly mlp: Mlp
  /** The channels in the order of down_proj's groups. */
  readonly order: readonly number[]
}

/** A checkpoint of one layer with this MLP, in fp16 or quantized, with act-order in a random order. */
function checkpoint(mlp: Mlp, scheme?: Scheme): Stored {
  const random = new Random(7)
  const tensors: Record<string, StoredTensor> = {
    'model.embed_tokens.weight': floats([rows, width], embeddings()),
    'model.norm.weight': floats([width], 1),
    'lm_head.weight': floats([rows, width], 0),
    [`${layer}.input_layernorm.weight`]: floats([width], 1),
    [`${layer}.post_attention_layernorm.weight`]: floats([width], 1),
  }
  for (const [part, out, inputs] of [
    ['q', 256, width],
    ['k', 256, width],
    ['v', 256, width],
    ['o', width, 256],
  ] as const) {
    tensors[`${layer}.self_attn.${part}_proj.weight`] = floats([out, inputs], 0)
    if (part !== 'o') tensors[`${layer}.self_attn.${part}_proj.bias`] = floats([out], 0)
  }
  const dequantized: Partial<Record<Part, Weights>> = {}
  let order = range(mlp.down_proj.in)
  for (const part of parts) {
    const name = `${layer}.mlp.${part}`
    const inputs = mlp[part].in
    if (!scheme) {
      tensors[`${name}.weight`] = floats([mlp[part].out, inputs], mlp[part].values)
      dequantized[part] = mlp[part]
      continue
    }
    const groupIndex = random.order(inputs).map((place) => Math.floor(place / scheme.groupSize))
    const made = quantize(name, mlp[part], scheme.actOrder ? { ...scheme, groupIndex } : scheme)
    Object.assign(tensors, made.tensors)
    dequantized[part] = made.dequantized
    if (part === 'down_proj' && scheme.actOrder) {
      const group = (channel: number) => groupIndex[channel] as number
      order = range(inputs).sort((a, b) => group(a) - group(b) || a - b)
    }
  }
  const config = {
    model_type: 'qwen2',
    torch_dtype: 'float16',
    hidden_size: width,
    intermediate_size: mlp.gate_proj.out,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    head_dim: 64,
    vocab_size: rows,
    max_position_embeddings: 32,
    rms_norm_eps: normEpsilon,
    ...(scheme && { quantization_config: quantizationConfig(scheme, scheme.actOrder === true) }),
  }
  const files = { 'config.json': config, 'model.safetensors': safetensors(tensors) }
  return { directory: directoryOf(files), mlp: dequantized as Mlp, order }
}

/** What the model's MLP adds to the fixture's rows. */
async function outputsOf(model: Model): Promise<Float64Array> {
  const { hiddenStates } = await model.forward(
    Array.from({ length: rows }, (_, i) => i),
    { hiddenStates: true },
  )
  const [before, after] = hiddenStates as [Float32Array, Float32Array]
  const y = new Float64Array(rows * hidden)
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < hidden; i++) {
      const at = row * width + i
      y[row * hidden + i] = (after[at] as number) - (before[at] as number)
    }
  }
  return y
}

const sizes = { maxModelLength: 32, maxSequences: 1 }

async function run(directory: string, options: LoadOptions): Promise<Float64Array> {
  await using model = await loadModel(directory, { ...sizes, ...options })
  return await outputsOf(model)
}

/** The MLP in fp64, or what those of its channels add to it that are `channels` of down's inputs. */
function reference({ gate_proj, up_proj, down_proj }: Mlp, channels = range(down_proj.in)): Float64Array {
  const x = embeddings()
  const y = new Float64Array(rows * hidden)
  const dot = ({ values, in: inputs }: Weights, n: number, row: number) => {
    let sum = 0
    for (let k = 0; k < inputs; k++) sum += (values[n * inputs + k] as number) * (x[row * width + k] as number)
    return sum
  }
  for (let row = 0; row < rows; row++) {
    for (const channel of channels) {
      const gate = dot(gate_proj, channel, row)
      const h = (gate / (1 + Math.exp(-gate))) * dot(up_proj, channel, row)
      for (let n = 0; n < hidden; n++) {
        const at = row * hidden + n
        y[at] = (y[at] as number) + h * (down_proj.values[n * down_proj.in + channel] as number)
      }
    }
  }
  return y
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}

function furthest(actual: Float64Array, expected: Float64Array): number {
  expect(actual.length).toBe(expected.length)
  return Math.max(...actual.map((value, i) => Math.abs(value - (expected[i] as number))))
}

function added(all: readonly Float64Array[]): Float64Array {
  return Float64Array.from({ length: rows * hidden }, (_, i) => all.reduce((sum, y) => sum + (y[i] as number), 0))
}

const devices = (kind: string, ranks: number) =>
  range(ranks)
    .map((i) => `${kind}:${i}`)
    .join(',')

const quantized: [string, Scheme][] = [128, 32].flatMap((groupSize): [string, Scheme][] => [
  [`GPTQ int4 in ${groupSize}s`, { format: 'gptq', bits: 4, groupSize, symmetric: true }],
  [`GPTQ int8 in ${groupSize}s`, { format: 'gptq', bits: 8, groupSize, symmetric: false }],
  [`act-order in ${groupSize}s`, { format: 'gptq', bits: 4, groupSize, symmetric: false, actOrder: true }],
  [`AWQ in ${groupSize}s`, { format: 'awq', bits: 4, groupSize, symmetric: false }],
  [`AWQ GEMV in ${groupSize}s`, { format: 'awq-gemv', bits: 4, groupSize, symmetric: false }],
  [`W4A16 in ${groupSize}s`, { format: 'compressed-tensors', bits: 4, groupSize, symmetric: false }],
  [`FP8 in ${groupSize}s`, { format: 'fp8', bits: 8, groupSize, symmetric: true }],
  [`W8A16 in ${groupSize}s`, { format: 'compressed-tensors', bits: 8, groupSize, symmetric: true }],
  [
    `int4 in bytes, in ${groupSize}s`,
    { format: 'compressed-tensors', bits: 4, groupSize, symmetric: false, unpacked: true },
  ],
])
const one = { format: 'compressed-tensors', groupSize: Number.POSITIVE_INFINITY, oneScale: true } as const
quantized.push(
  ['W8A16 with one scale', { ...one, bits: 8, symmetric: true, unpacked: true }],
  ['int4 in bytes, with one scale', { ...one, bits: 4, symmetric: false, unpacked: true }],
  ['W4A16 with one scale', { ...one, bits: 4, symmetric: false }],
  ['NVFP4', { format: 'fp4', bits: 4, groupSize: 16, symmetric: true }],
  ["ModelOpt's NVFP4", { format: 'fp4', bits: 4, groupSize: 16, symmetric: true, modelopt: true }],
  ['MXFP4', { format: 'fp4', bits: 4, groupSize: 32, symmetric: true }],
)
const schemes: [string, Scheme | undefined][] = [['fp16', undefined], ...quantized]

describe.each(schemes)('%s', (_, scheme) => {
  // The interleaved ones have 512 channels in the file, as Qwen published its 72B models: nothing is padded for them.
  test.each(['original', 'interleaved'] as const)('%s weights on 1, 2 and 4 ranks give the MLP', async (weights) => {
    const { directory, mlp } = checkpoint(mlpOf(weights), scheme)
    const expected = scheme ? reference(mlp) : numbers('y_fp64')
    for (const tensorParallelSize of [1, 2, 4]) {
      const ranks = { tensorParallelSize, deviceMap: devices('cpu', tensorParallelSize) }
      const y = await run(directory, { ...ranks, dtype: 'float32' })
      expect(furthest(y, expected)).toBeLessThan(tolerance.fp32)
      expect(furthest(await run(directory, ranks), expected)).toBeLessThan(tolerance.fp16)
      // Three groups of 128 do not divide; twelve of 32 do, and FP8's blocks may be cut into these.
      const isCut = scheme?.format === 'fp8' || scheme?.groupSize !== 128
      const divides = weights === 'interleaved' || tensorParallelSize === 1 || isCut
      const { explanation } = await planModel(directory, ranks)
      const isPadded = explanation.join(' ').includes(`${intermediate} to ${padded} (gate_proj, up_proj, down_proj)`)
      expect(isPadded).toBe(!divides)
    }
    // The emulator is slow: a format's group sizes share the four cases.
    const emulated = !scheme ? [2, 4] : (scheme.groupSize === 128) === (weights === 'original') ? [2] : [4]
    for (const tensorParallelSize of emulated) {
      const ranks = { tensorParallelSize, deviceMap: devices('emulated', tensorParallelSize) }
      expect(furthest(await run(directory, ranks), expected)).toBeLessThan(tolerance.fp16)
    }
  })
})

/** What each of `ranks` ranks computes, of 384 channels padded to 512 while loading, and which channels it has. */
async function partialOutputs(
  directory: string,
  placement: PaddingPlacement,
  ranks: number,
  options: LoadOptions,
): Promise<{ y: Float64Array; channels: readonly number[] }[]> {
  const checkpoint = await openCheckpoint(directory)
  const down = checkpoint.linear(`${layer}.mlp.down_proj`, width, intermediate, 'none')
  const share = padded / ranks
  const outputs: { y: Float64Array; channels: readonly number[] }[] = []
  for (const rank of range(ranks)) {
    const runs = sliceRuns(paddingRuns(intermediate, padded, placement), rank * share, share)
    const linear: WeightSource['linear'] = (module, ...shape) => {
      const whole = checkpoint.linear(module, ...shape)
      if (module.endsWith('.down_proj')) return sliceLinear(whole, { inputs: runs, inputsInGroupOrder: true })
      return module.includes('.mlp.') ? sliceLinear(whole, { outputs: runs, consumer: down }) : whole
    }
    const weights: WeightSource = {
      linear,
      find: (tensor) => checkpoint.find(tensor),
      vector: (...vector) => checkpoint.vector(...vector),
      table: (...table) => checkpoint.table(...table),
    }
    const source = {
      config: checkpoint.config,
      weights,
      files: checkpoint.files,
      assets: (shape: ModelShape) => loadGenerationAssets(checkpoint, shape),
    }
    await using model = await loadFrom(source, { ...sizes, ...options })
    const own = runs.filter(({ start }) => start !== ZEROS)
    const channels = own.flatMap(({ start, count }) => range(count).map((i) => start + i))
    outputs.push({ y: await outputsOf(model), channels })
  }
  return outputs
}

describe.each(['tail', 'interleaved'] as const)('padded while loading, %s', (placement) => {
  test.each([2, 4])(
    'each of %i ranks gives the fixture’s partial outputs, which are the MLP together',
    async (ranks) => {
      const { directory } = checkpoint(mlpOf('original'))
      const expected = numbers(`${placement}.tp${ranks}.partial`)
      for (const [kind, bound] of [
        ['cpu', tolerance.fp32],
        ['emulated', tolerance.fp16],
      ] as const) {
        const dtype = kind === 'cpu' ? 'float32' : 'float16'
        const partial = await partialOutputs(directory, placement, ranks, { dtype, deviceMap: `${kind}:0` })
        for (const [rank, { y }] of partial.entries()) {
          expect(furthest(y, expected.subarray(rank * y.length, (rank + 1) * y.length))).toBeLessThan(bound)
        }
        expect(furthest(added(partial.map(({ y }) => y)), numbers('y'))).toBeLessThan(bound)
      }
    },
  )

  test.each(quantized)('%s: each rank has its channels, and all ranks have the MLP', async (_, scheme) => {
    const { directory, mlp, order } = checkpoint(mlpOf('original'), scheme)
    for (const ranks of [2, 4]) {
      const partial = await partialOutputs(directory, placement, ranks, { dtype: 'float32' })
      const all = partial.flatMap(({ channels }) => channels)
      expect([...all].sort((a, b) => a - b)).toEqual(range(intermediate))
      for (const { y, channels } of partial) {
        const expected = reference(
          mlp,
          channels.map((channel) => order[channel] as number),
        )
        expect(furthest(y, expected)).toBeLessThan(tolerance.fp32)
      }
      expect(furthest(added(partial.map(({ y }) => y)), reference(mlp))).toBeLessThan(tolerance.fp32)
    }
  })
})
