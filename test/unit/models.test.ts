import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { WeightSource } from '../../src/models/graph'
import { createModel } from '../../src/models/registry'
import { modulesOf, stagesOf, traceStage } from '../../src/models/stages'
import type { OperatorSpec } from '../../src/native/addon'
import { modelDirectory } from '../support/fixtures'

const tensor = { name: '', file: 0, dtype: 'F16' as const, shape: [], offset: 0, bytes: 0 }
/** Answers with what it is asked for, and remembers the biases that were asked for. */
function source() {
  const biases: Record<string, string> = {}
  const weights: WeightSource = {
    linear: (name, out, inFeatures, bias) => {
      biases[name] = bias
      return { kind: 'matrix', name, out, in: inFeatures, weight: tensor }
    },
    vector: (name, length) => ({ kind: 'vector', name, length, weight: tensor }),
    table: (name, rows, width) => ({ kind: 'matrix', name, out: rows, in: width, weight: tensor }),
  }
  return { weights, biases }
}

const configOf = (name: string) => JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))

function trace(config: Record<string, unknown>) {
  const { weights, biases } = source()
  const model = createModel(config, weights)
  const stages = stagesOf(modulesOf(model), () => 'cpu').map((stage) => traceStage(model, weights, stage))
  const operators = stages.flatMap(({ program }) => program.operators)
  const windows = operators.flatMap((o) => (o.op === 'attention' ? [o.window] : []))
  return { model, stages, operators, windows, biases }
}

describe('sliding windows', () => {
  const qwen2 = { ...configOf('qwen2-bf16'), sliding_window: 64 }
  test.each([
    ['off by default', { use_sliding_window: false }, [0, 0, 0, 0]],
    ['everywhere', { use_sliding_window: true, max_window_layers: 0 }, [64, 64, 64, 64]],
    ['from max_window_layers on', { use_sliding_window: true, max_window_layers: 2 }, [0, 0, 64, 64]],
    [
      'as layer_types say',
      {
        use_sliding_window: true,
        layer_types: ['sliding_attention', 'full_attention', 'sliding_attention', 'full_attention'],
      },
      [64, 0, 64, 0],
    ],
    ['null', { use_sliding_window: true, sliding_window: null }, [0, 0, 0, 0]],
  ])('qwen2: %s', (_, change, expected) => {
    expect(trace({ ...qwen2, ...change }).windows).toEqual(expected)
  })

  test('mistral: in every layer, or none', () => {
    expect(trace(configOf('mistral-fp16')).windows).toEqual([16, 16, 16])
    expect(trace({ ...configOf('mistral-fp16'), sliding_window: null }).windows).toEqual([0, 0, 0])
  })
})

describe('biases are asked for where the architecture has them', () => {
  const required = (config: Record<string, unknown>) =>
    Object.entries(trace(config).biases)
      .filter(([name, bias]) => name.includes('.0.') && bias === 'required')
      .map(([name]) => name.split('.').at(-1))
  test.each([
    ['qwen2-bf16', {}, ['q_proj', 'k_proj', 'v_proj']],
    ['qwen3-bf16', {}, []],
    ['qwen3-bf16', { attention_bias: true }, ['q_proj', 'k_proj', 'v_proj', 'o_proj']],
    ['llama-bf16', { mlp_bias: true }, ['gate_proj', 'up_proj', 'down_proj']],
    ['mistral-fp16', {}, []],
    ['qwen1-fp16', {}, ['c_attn']],
  ])('%s with %j', (name, change, expected) => {
    expect(required({ ...configOf(name), ...change })).toEqual(expected)
  })
})

test('a tied head and its embedding are one weight on one stage, and two on two', () => {
  const { weights } = source()
  const model = createModel(configOf('qwen2-tied-fp16'), weights)
  const names = (device: (module: string) => string) =>
    stagesOf(modulesOf(model), device).map((stage) =>
      traceStage(model, weights, stage)
        .weights.map(({ name }) => name)
        .filter((name) => name === 'model.embed_tokens.weight'),
    )
  expect(names(() => 'cpu')).toEqual([['model.embed_tokens.weight']])
  expect(names((module) => (module === 'lm_head' ? 'cpu:1' : 'cpu:0'))).toEqual([
    ['model.embed_tokens.weight'],
    ['model.embed_tokens.weight'],
  ])
})

test('only the rows whose logits are wanted reach the norm and the head', () => {
  const order = (operators: OperatorSpec[]) => operators.slice(-3).map(({ op }) => op)
  expect(order(trace(configOf('qwen2-bf16')).operators)).toEqual(['gather', 'rmsNorm', 'linear'])
})

test.each([
  [
    'qwen2-bf16',
    { model_type: 'gpt2' },
    'UNSUPPORTED_MODEL',
    /"gpt2"; billfish knows qwen, qwen2, qwen3, llama, mistral/,
  ],
  ['qwen2-bf16', { model_type: undefined }, 'UNSUPPORTED_MODEL', /model_type is missing/],
  ['qwen2-bf16', { hidden_act: 'gelu' }, 'UNSUPPORTED_MODEL', /hidden_act is "gelu"/],
  ['qwen2-bf16', { num_hidden_layers: 0 }, 'INVALID_CHECKPOINT', /num_hidden_layers is 0/],
  ['qwen2-bf16', { hidden_size: '128' }, 'INVALID_CHECKPOINT', /hidden_size is "128"/],
  ['qwen2-bf16', { num_key_value_heads: 3 }, 'INVALID_CHECKPOINT', /num_key_value_heads is 3/],
  ['qwen2-bf16', { hidden_size: 130 }, 'INVALID_CHECKPOINT', /hidden_size is 130/],
  ['qwen2-bf16', { eos_token_id: 'end' }, 'INVALID_CHECKPOINT', /eos_token_id is "end"/],
  ['qwen3-bf16', { head_dim: 63 }, 'INVALID_CHECKPOINT', /head_dim is 63/],
  ['qwen1-fp16', { intermediate_size: 385 }, 'INVALID_CHECKPOINT', /intermediate_size is 385/],
  ['mistral-fp16', { layer_types: 'all' }, 'INVALID_CHECKPOINT', /layer_types is "all"/],
])('%s with %j is refused', (name, change, code, message) => {
  expect(() => trace({ ...configOf(name), ...change })).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  )
})
