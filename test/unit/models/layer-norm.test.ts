import { describe, expect, test } from 'vitest'
import type { Checkpoint } from '../../../src/checkpoint/types'
import { runSync } from '../../../src/common/event-loop'
import type { Model } from '../../../src/models/architecture'
import { modulesOf, stagesOf, traceRanks } from '../../../src/models/stages'
import { embed, head } from '../../../src/models/tensor-parallel'
import type { ModelSpec, StageSpec, StepRequest } from '../../../src/native/addon'
import { handOver, newNativeModel } from '../../../src/native/hand-over'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { countedStage, stageMemory } from '../../../src/placement/planner/stage-memory'
import { directoryOf } from '../../support/directories'
import { Random } from '../../support/random.cjs'
import { safetensors } from '../../support/tensors'

const width = 36 // rows of which are not whole vectors anywhere
const vocabulary = 50
const eps = 1e-5

/** Numbers that fp16 holds exactly: multiples of 1/32 about `mean`. */
function tensor(seed: number, shape: readonly number[], mean: number) {
  const random = new Random(seed)
  const values = Array.from({ length: shape.reduce((a, b) => a * b) }, () => mean + (random.below(32) - 16) / 32)
  return { dtype: 'F32', shape, data: Buffer.from(Float32Array.from(values).buffer), values }
}

/** Embeddings far from zero, so that a norm which squares before it subtracts the mean would show. */
const tensors = {
  'embed.weight': tensor(1, [vocabulary, width], 40),
  'layers.0.norm.weight': tensor(2, [width], 1),
  'layers.0.norm.bias': tensor(3, [width], 0),
  'layers.0.linear.weight': tensor(4, [width, width], 0),
  'norm.weight': tensor(5, [width], 1),
  'head.weight': tensor(6, [vocabulary, width], 0),
}

/** x + linear(norm with a bias of x); then a norm without one, and the head. */
function normedModel(source: Checkpoint): Model {
  return {
    shape: { hiddenSize: width, layers: 1, vocabulary, maxPositions: 64, kvHeads: 1, headDim: 8, eosTokenIds: [] },
    hasHead: true,
    kindsOfLayers: [0],
    names: { embedding: 'embed', layers: 'layers', norm: 'norm', head: 'head' },
    embed: (g) => embed(g, source.table('embed.weight', vocabulary, width)),
    decoderLayer(g, x, index) {
      const layer = g.module(`layers.${index}`)
      const h = g.layerNorm(x, layer.norm('norm', width), layer.normBias('norm', width), eps)
      return g.add(x, g.linear(h, layer.linear('linear', width, width)))
    },
    finalNorm: (g, x) => g.layerNorm(x, source.vector('norm.weight', [width]), undefined, eps),
    head: (g, x) => head(g, x, source.linear('head', vocabulary, width, 'none')),
    ropeBase: () => 0,
  }
}

function layerNorm(x: readonly number[], weight: readonly number[], bias: readonly number[]): number[] {
  const mean = x.reduce((sum, value) => sum + value) / x.length
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length
  return x.map((value, i) => ((value - mean) / Math.sqrt(variance + eps)) * (weight[i] ?? 0) + (bias[i] ?? 0))
}

const rowsTimes = (matrix: readonly number[], x: readonly number[]) =>
  Array.from({ length: matrix.length / x.length }, (_, row) =>
    x.reduce((sum, value, i) => sum + value * (matrix[row * x.length + i] as number), 0),
  )

/** The logits in double precision. */
function expected(token: number): number[] {
  const of = (name: keyof typeof tensors) => tensors[name].values
  const x = of('embed.weight').slice(token * width, (token + 1) * width)
  const h = layerNorm(x, of('layers.0.norm.weight'), of('layers.0.norm.bias'))
  const y = rowsTimes(of('layers.0.linear.weight'), h)
  const sum = x.map((value, i) => value + (y[i] as number))
  return rowsTimes(of('head.weight'), layerNorm(sum, of('norm.weight'), []))
}

const files = { 'config.json': {}, 'model.safetensors': safetensors(tensors) }

function specOf(checkpoint: Checkpoint, devices: readonly string[], tensorParallelSize: number, exact: boolean) {
  const model = normedModel(checkpoint)
  const modules = modulesOf(model)
  const deviceOf = (module: string) =>
    devices[Math.floor((modules.indexOf(module) * devices.length) / modules.length)] as string
  const limits = {
    exact,
    cacheType: 'F16',
    blockSize: 32,
    blockCount: 2,
    maxSequences: 1,
    maxBatchTokens: 7,
    maxLogitRows: 4,
  } as const
  const stages = stagesOf(modules, deviceOf).flatMap((stage) =>
    runSync(traceRanks(model, checkpoint, stage, tensorParallelSize)),
  )
  const spec: ModelSpec = {
    ...limits,
    files: checkpoint.files,
    stages,
    tensorParallelSize,
    activationType: 'F16',
    vocabulary,
  }
  return spec
}

/** A sequence's next tokens, of which every row's logits are wanted. */
function request(tokens: readonly number[], past: number): StepRequest {
  const rows = tokens.map((_, row) => row)
  return {
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(rows, (row) => past + row),
    sequences: Int32Array.of(0, tokens.length, past, 0, 1, 0),
    blockTables: Int32Array.of(0),
    ropeBases: Float64Array.of(0),
    logitRows: Int32Array.from(rows),
    sampling: rows.map(() => null),
    wantLogits: true,
    wantHiddenStates: false,
    search: false,
  }
}

describe('a model with layer norms', () => {
  test.each<[string[], number, boolean]>([
    [['cpu'], 1, true],
    [['cpu:0', 'cpu:1', 'cpu:2', 'cpu:3'], 1, true],
    [['cpu:0,cpu:1'], 2, true],
    [['emulated:0'], 1, false],
    [['emulated:0', 'emulated:1', 'cpu', 'emulated:2'], 1, false],
    [['emulated:0,emulated:1'], 2, false],
  ])('on %j, %i ranks a stage: right logits, in the bytes planned', async (devices, ranks, exact) => {
    const spec = specOf(await openCheckpoint(directoryOf(files)), devices, ranks, exact)
    const native = newNativeModel(spec)
    try {
      runSync(handOver(native, spec))
      await native.load(() => {})
      expect(native.memory()).toMatchObject(
        spec.stages.map((stage) => ({ device: stage.device, ...stageMemory(stage, spec) })),
      )
      // A prompt, and three steps of one token: the third is what a device with graphs has recorded.
      const steps = [[3, 1, 4, 1, 49], [9], [2], [6]]
      let past = 0
      for (const tokens of steps) {
        const { logits } = await native.step(request(tokens, past))
        past += tokens.length
        const wanted = tokens.flatMap(expected)
        expect(logits).toHaveLength(wanted.length)
        const errors = wanted.map((value, i) => Math.abs(value - (logits?.[i] as number)))
        expect(Math.max(...errors)).toBeLessThan(exact ? 2e-4 : 0.05)
      }
    } finally {
      await native.close()
    }
  })

  test('decoding reads weight and bias of every norm', async () => {
    const checkpoint = await openCheckpoint(directoryOf(files))
    const spec = specOf(checkpoint, ['cpu'], 1, true)
    const [stage] = spec.stages
    const line = (elements: number) => Math.ceil((elements * 4) / 64) * 64
    const matrices = line(width * width) + line(vocabulary * width)
    const { read } = runSync(countedStage(stage as StageSpec))('cpu', spec)
    expect(read).toBe(matrices + 3 * line(width))
  })

  test('a missing bias is named', async () => {
    const { 'layers.0.norm.bias': _, ...rest } = tensors
    const checkpoint = await openCheckpoint(directoryOf({ ...files, 'model.safetensors': safetensors(rest) }))
    expect(() => specOf(checkpoint, ['cpu'], 1, true)).toThrow(/layers\.0\.norm\.bias/)
  })

  test('a norm of the wrong width is refused before anything runs', async () => {
    const spec = specOf(await openCheckpoint(directoryOf(files)), ['cpu'], 1, true)
    const stages = spec.stages.map((stage) => {
      const weights = stage.weights.map((weight) =>
        weight.name === 'layers.0.norm.bias' && weight.kind === 'vector' ? { ...weight, length: width - 4 } : weight,
      )
      return { ...stage, weights }
    })
    const native = newNativeModel(spec)
    runSync(handOver(native, { ...spec, stages }))
    await expect(native.load(() => {})).rejects.toThrow(/layerNorm.*layers\.0\.norm\.bias has 32 values for width 36/)
    await native.close()
  })

  test.each<[string, object, RegExp]>([
    ['a missing field', { weight: undefined }, /'layerNorm'.*field 'weight' is missing/],
    ['an unknown field', { epsilon: 1 }, /'layerNorm'.*there is no field 'epsilon'/],
    ['a field of another type', { x: 'x' }, /'layerNorm'.*\bx\b/],
    ['an unknown operator', { op: 'layernorm' }, /'layernorm'.*there is no such operator/],
  ])('%s of an operator is refused by name', async (_, change, message) => {
    const spec = specOf(await openCheckpoint(directoryOf(files)), ['cpu'], 1, true)
    const stages = spec.stages.map(({ program, ...stage }) => {
      const operators = program.operators.map((operator) =>
        operator.op === 'layerNorm' ? ({ ...operator, ...change } as typeof operator) : operator,
      )
      return { ...stage, program: { ...program, operators } }
    })
    expect(() => runSync(handOver(newNativeModel(spec), { ...spec, stages }))).toThrow(
      expect.objectContaining({ code: 'INTERNAL', message: expect.stringMatching(message) }),
    )
  })
})
