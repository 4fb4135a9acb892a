/** Models with recurrent layers: what their configs decide, and which rows of a stored projection a rank has. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Graph, type WeightSource } from '../../../src/models/graph'
import { Rank } from '../../../src/models/rank'
import { createModel } from '../../../src/models/registry'
import { modelDirectory } from '../../support/fixtures'

const tensor = { name: '', file: 0, dtype: 'F16' as const, shape: [], offset: 0, bytes: 0 }
const weights: WeightSource = {
  linear: (name, out, inFeatures) => ({ kind: 'matrix', name, out, in: inFeatures, weight: tensor }),
  find: () => undefined,
  vector: (name, shape) => ({ kind: 'vector', name, length: shape.reduce((a, b) => a * b, 1), weight: tensor }),
  table: (name, rows, width) => ({ kind: 'matrix', name, out: rows, in: width, weight: tensor }),
}
const configOf = (name: string) => JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))

/** What a rank computes of a layer. */
function traced(config: Record<string, unknown>, layer: number, rank = Rank.only) {
  const model = createModel(config, weights)
  const g = new Graph(weights, rank)
  const program = g.finish(model.decoderLayer(g, g.input(model.shape.hiddenSize), layer, false))
  /** Rows of a stored linear, or elements of a vector, that the rank has, -1 for zeros. */
  const rowsOf = (name: string) =>
    g.weights
      .filter((weight) => weight.name.endsWith(name))
      .map((weight) => {
        const runs = weight.kind === 'vector' ? weight.elements : weight.kind === 'matrix' ? weight.part?.outputs : []
        return runs?.flatMap(({ start, count }) =>
          Array.from({ length: count }, (_, i) => (start < 0 ? -1 : start + i)),
        )
      })
  return { model, program, weights: g.weights, rowsOf }
}

const flat = { ...configOf('qwen3-5-text-bf16'), linear_num_key_heads: 2, linear_num_value_heads: 4 }
const small = { linear_key_head_dim: 1, linear_value_head_dim: 2 }

describe('which layers are recurrent', () => {
  test.each([
    ['as layer_types say', {}, [true, true, true, false, true]],
    ['all but every fourth', { layer_types: null, full_attention_interval: null }, [true, true, true, false, true]],
    ['all but every second', { layer_types: null, full_attention_interval: 2 }, [true, false, true, false, true]],
    ['none', { layer_types: null, full_attention_interval: 1 }, [false, false, false, false, false]],
  ])('%s', (_, change, wanted) => {
    const config = { ...flat, ...change }
    const isRecurrent = wanted.map((_, layer) =>
      traced(config, layer).program.operators.some(({ op }) => op === 'gatedDeltaRule'),
    )
    expect(isRecurrent).toEqual(wanted)
    expect(createModel(config, weights).hasStates).toBe(wanted.includes(true))
  })
})

describe('what is refused', () => {
  test.each([
    [{ linear_num_value_heads: 5 }, 'INVALID_CHECKPOINT', /linear_num_value_heads is 5, .*multiple of .*\(2\)/],
    [{ linear_num_key_heads: 0 }, 'INVALID_CHECKPOINT', /linear_num_key_heads is 0/],
    [{ linear_key_head_dim: 4096 }, 'INVALID_CHECKPOINT', /linear_key_head_dim is 4096, .*at most 1024/],
    [{ linear_conv_kernel_dim: 1 }, 'INVALID_CHECKPOINT', /linear_conv_kernel_dim is 1, .*at least 2/],
    [{ linear_conv_kernel_dim: 99 }, 'INVALID_CHECKPOINT', /linear_conv_kernel_dim is 99/],
    [{ layer_types: ['linear_attention'] }, 'INVALID_CHECKPOINT', /layer_types .*a list of 5/],
    [{ layer_types: Array(5).fill('mamba') }, 'UNSUPPORTED_MODEL', /layer_types .*another type/],
    [{ output_gate_type: 'sigmoid' }, 'UNSUPPORTED_MODEL', /output_gate_type is "sigmoid"/],
    [{ rope_parameters: null }, 'INVALID_CHECKPOINT', /rope_theta is missing/],
  ])('%j', (change, code, message) => {
    expect(() => traced({ ...flat, ...change }, 0)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
  })

  test('recurrent layers in a model that has none', () => {
    expect(() => createModel({ ...configOf('qwen3-bf16'), linear_num_key_heads: 2 }, weights)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL' }),
    )
  })
})

describe('rows of a rank', () => {
  test('stored in parts: queries, keys and values of its heads', () => {
    const config = { ...flat, ...small }
    // Rows: 2 queries, 2 keys, 4 values of 2; the convolution has 4 taps of each.
    expect(traced(config, 0, new Rank(1, 2)).rowsOf('in_proj_qkv')).toEqual([[1, 3, 8, 9, 10, 11]])
    expect(traced(config, 0, new Rank(1, 2)).rowsOf('in_proj_z')).toEqual([[4, 5, 6, 7]])
    expect(traced(config, 0, new Rank(1, 2)).rowsOf('dt_bias')).toEqual([[2, 3]])
    const taps = traced(config, 0, new Rank(1, 2)).rowsOf('conv1d.weight')[0]
    expect(taps?.filter((_, i) => i % 4 === 0)).toEqual([4, 12, 32, 36, 40, 44])
    // Four ranks share the two key heads; three share one, of whose four value heads the last rank has none.
    expect(traced(config, 0, new Rank(3, 4)).rowsOf('in_proj_qkv')).toEqual([[1, 3, 10, 11]])
    const one = { ...config, linear_num_key_heads: 1 }
    expect(traced(one, 0, new Rank(1, 3)).rowsOf('in_proj_a')).toEqual([[2, 3]])
    expect(traced(one, 0, new Rank(2, 3)).rowsOf('in_proj_a')).toEqual([[-1, -1]])
  })

  test('stored by key head: each is taken from its block', () => {
    const next = { ...configOf('qwen3-next-bf16'), ...small }
    // A block of a key head: query, key, values 4, gates z 4; of ba: b 2, a 2.
    const { rowsOf } = traced(next, 0)
    expect(rowsOf('in_proj_qkvz')).toEqual([
      [0, 10, 1, 11, 2, 3, 4, 5, 12, 13, 14, 15],
      [6, 7, 8, 9, 16, 17, 18, 19],
    ])
    expect(rowsOf('in_proj_ba')).toEqual([
      [0, 1, 4, 5],
      [2, 3, 6, 7],
    ])
    expect(traced(next, 0, new Rank(1, 2)).rowsOf('in_proj_qkvz')[0]).toEqual([10, 11, 12, 13, 14, 15])
  })

  test('the query and the gate of every head', () => {
    const { rowsOf, program } = traced({ ...flat, head_dim: 8, num_attention_heads: 2, num_key_value_heads: 1 }, 3)
    expect(rowsOf('q_proj')).toEqual([
      [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23],
      [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31],
    ])
    expect(program.operators.filter(({ op }) => op === 'sigmoidMul')).toHaveLength(1)
    const plain = { ...flat, attn_output_gate: false, head_dim: 8, num_attention_heads: 2, num_key_value_heads: 1 }
    expect(traced(plain, 3).program.operators.filter(({ op }) => op === 'sigmoidMul')).toHaveLength(0)
  })
})

test('norms add 1 to what is stored, but for that of a recurrent layer', () => {
  const offsets = (layer: number) =>
    Object.fromEntries(
      traced(flat, layer).weights.flatMap((weight) =>
        weight.kind === 'vector' && /norm/.test(weight.name)
          ? [[weight.name.replace(/^model\.layers\.\d+\.|\.weight$/g, ''), weight.offset ?? 0]]
          : [],
      ),
    )
  expect(offsets(0)).toEqual({ input_layernorm: 1, 'linear_attn.norm': 0, post_attention_layernorm: 1 })
  expect(offsets(3)).toEqual({
    input_layernorm: 1,
    'self_attn.q_norm': 1,
    'self_attn.k_norm': 1,
    post_attention_layernorm: 1,
  })
})
