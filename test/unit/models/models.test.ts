import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { WeightSource } from '../../../src/models/graph'
import { createModel, storedWeights } from '../../../src/models/registry'
import { modulesOf, stagesOf, traceStage } from '../../../src/models/stages'
import type { OperatorSpec, ProgramSpec } from '../../../src/native/addon'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { planModel } from '../../../src/plan'
import { withConfig } from '../../support/fixture-copies'
import { modelDirectory } from '../../support/fixtures'

const tensor = { name: '', file: 0, dtype: 'F16' as const, shape: [], offset: 0, bytes: 0 }
/** Answers with what it is asked for, and remembers the biases that were asked for. */
function source() {
  const biases: Record<string, string> = {}
  const weights: WeightSource = {
    linear: (name, out, inFeatures, bias) => {
      biases[name] = bias
      return { kind: 'matrix', name, out, in: inFeatures, weight: tensor }
    },
    find: () => undefined,
    vector: (name, shape) => ({ kind: 'vector', name, length: shape.reduce((a, b) => a * b, 1), weight: tensor }),
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
    ['0', { use_sliding_window: true, max_window_layers: 0, sliding_window: 0 }, [0, 0, 0, 0]],
    ['-1', { use_sliding_window: true, max_window_layers: 0, sliding_window: -1 }, [0, 0, 0, 0]],
    ['unused, whatever it is', { use_sliding_window: false, sliding_window: -7 }, [0, 0, 0, 0]],
  ])('qwen2: %s', (_, change, expected) => {
    expect(trace({ ...qwen2, ...change }).windows).toEqual(expected)
  })

  test.each([
    ['qwen3_moe', 'everywhere', {}, [64, 64, 64, 64]],
    ['qwen2_moe', 'on even layers', {}, [64, 0, 64, 0]],
    ['qwen2_moe', 'on even layers before max_window_layers', { max_window_layers: 2 }, [64, 0, 0, 0]],
    ['qwen3_moe', 'whatever max_window_layers is', { max_window_layers: 2 }, [64, 64, 64, 64]],
    ['qwen3_moe', 'off by default', { use_sliding_window: false }, [0, 0, 0, 0]],
  ])('%s: %s', (model_type, _, change, expected) => {
    const experts = { num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 32 }
    const sizes = { shared_expert_intermediate_size: 32, use_sliding_window: true }
    expect(trace({ ...qwen2, model_type, ...experts, ...sizes, ...change }).windows).toEqual(expected)
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

test('only the rows whose logits are wanted pass the last layer, once its attention is done', () => {
  const names = ({ operators }: { operators: readonly OperatorSpec[] }) => operators.map(({ op }) => op)
  const order = names(trace(configOf('qwen2-bf16')))
  expect(order.filter((op) => op === 'gather')).toHaveLength(1)
  const mlp = ['rmsNorm', 'linear', 'siluMul', 'linear', 'addRmsNorm', 'tap', 'tap', 'linear']
  expect(order.slice(order.lastIndexOf('attention'))).toEqual(['attention', 'linear', 'add', 'gather', ...mlp])

  const { weights } = source()
  const model = createModel(configOf('qwen2-bf16'), weights)
  const stages = stagesOf(modulesOf(model), (module) => module).map(
    (stage) => traceStage(model, weights, stage).program,
  )
  const rows = (program: ProgramSpec, value: number | undefined) => value !== undefined && program.values[value]?.rows
  expect(stages.map((program) => [rows(program, program.input), rows(program, program.output)])).toEqual([
    [false, 'tokens'],
    ...Array.from({ length: model.shape.layers - 1 }, () => ['tokens', 'tokens']),
    ['tokens', 'logits'],
    ['logits', 'logits'],
    ['logits', 'logits'],
  ])
  expect(stages.map(({ handsOver }) => handsOver)).toEqual([...stages.slice(1).map(() => true), false])
})

test('a model without a head keeps all rows up to its norm', () => {
  const { weights } = source()
  const layout = { where: '/models/a', layers: 4, layersName: 'model.layers', layerTensors: new Map(), head: false }
  const model = createModel({ ...configOf('qwen2-bf16'), tie_word_embeddings: false }, { ...weights, layout })
  const { operators } = traceStage(model, weights, { device: 'cpu', modules: modulesOf(model) }).program
  expect(operators.slice(-4).map(({ op }) => op)).toEqual(['add', 'tap', 'gather', 'rmsNorm'])
})

test.each([
  [
    'qwen2-bf16',
    { model_type: 'gpt2' },
    'UNSUPPORTED_MODEL',
    /"gpt2"; billfish supports qwen, qwen2, qwen3, qwen2_moe, qwen3_moe, qwen3_vl_moe_text, qwen3_next, qwen3_5_text, qwen3_5_moe_text, llama, mistral/,
  ],
  ['qwen2-bf16', { model_type: undefined }, 'UNSUPPORTED_MODEL', /model_type is missing/],
  ['qwen2-bf16', { hidden_act: 'gelu' }, 'UNSUPPORTED_MODEL', /hidden_act is "gelu"/],
  ['qwen2-bf16', { num_hidden_layers: 0 }, 'INVALID_CHECKPOINT', /num_hidden_layers is 0/],
  ['qwen2-bf16', { hidden_size: '128' }, 'INVALID_CHECKPOINT', /hidden_size is "128"/],
  ['qwen2-bf16', { num_key_value_heads: 3 }, 'INVALID_CHECKPOINT', /num_key_value_heads is 3/],
  ['qwen2-bf16', { hidden_size: 130 }, 'INVALID_CHECKPOINT', /hidden_size is 130/],
  ['qwen3-bf16', { head_dim: 63 }, 'INVALID_CHECKPOINT', /head_dim is 63/],
  ['qwen1-fp16', { intermediate_size: 385 }, 'INVALID_CHECKPOINT', /intermediate_size is 385/],
  ['mistral-fp16', { layer_types: 'all' }, 'INVALID_CHECKPOINT', /layer_types is "all"/],
  ['mistral-fp16', { layer_types: ['full_attention'] }, 'INVALID_CHECKPOINT', /layer_types .* one for each layer/],
  ['qwen2-bf16', { layer_types: Array(4).fill('linear_attention') }, 'UNSUPPORTED_MODEL', /layer_types/],
  [
    'qwen2-bf16',
    { num_hidden_layers: 1e9 },
    'INVALID_CHECKPOINT',
    /num_hidden_layers is 1000000000, .* at most 1000\./,
  ],
  ['qwen2-bf16', { num_hidden_layers: 1e15 }, 'INVALID_CHECKPOINT', /num_hidden_layers is 1000000000000000/],
  ['qwen2-bf16', { hidden_size: 1e9 }, 'INVALID_CHECKPOINT', /hidden_size is 1000000000, .* at most 16777216/],
  ['qwen2-bf16', { intermediate_size: 1e9 }, 'INVALID_CHECKPOINT', /intermediate_size is 1000000000, .* at most/],
  ['qwen2-bf16', { vocab_size: 1e9 }, 'INVALID_CHECKPOINT', /vocab_size is 1000000000, .* at most/],
  ['qwen2-bf16', { num_attention_heads: 1e9 }, 'INVALID_CHECKPOINT', /num_attention_heads is 1000000000, .* at most/],
  ['qwen3-bf16', { head_dim: 1e9 }, 'INVALID_CHECKPOINT', /head_dim is 1000000000, .* at most 8192/],
  ['qwen1-fp16', { kv_channels: 1e9 }, 'INVALID_CHECKPOINT', /kv_channels is 1000000000, .* at most 8192/],
  [
    'qwen2-bf16',
    { max_position_embeddings: 1e15 },
    'INVALID_CHECKPOINT',
    /max_position_embeddings is 1000000000000000/,
  ],
  ['qwen2-bf16', { rms_norm_eps: 0 }, 'INVALID_CHECKPOINT', /rms_norm_eps is 0/],
  ['qwen2-bf16', { rms_norm_eps: 1e-300 }, 'INVALID_CHECKPOINT', /rms_norm_eps is 1e-300/],
  ['qwen2-bf16', { rms_norm_eps: 1e30 }, 'INVALID_CHECKPOINT', /rms_norm_eps is 1e\+30/],
  ['qwen1-fp16', { layer_norm_epsilon: Number.NaN }, 'INVALID_CHECKPOINT', /layer_norm_epsilon is NaN/],
  ['qwen1-fp16', { is_causal: false }, 'UNSUPPORTED_MODEL', /is_causal is false, .*attention to later tokens/],
  ['mistral-fp16', { is_causal: false }, 'UNSUPPORTED_MODEL', /within a sliding window/],
  ['llama-bf16', { logits_scaling: 8 }, 'UNSUPPORTED_MODEL', /logits_scaling is 8/],
  ['llama-bf16', { final_logit_softcapping: 30 }, 'UNSUPPORTED_MODEL', /final_logit_softcapping is 30/],
  ['qwen1-fp16', { no_bias: false }, 'UNSUPPORTED_MODEL', /no_bias is false/],
  ['qwen3-bf16', { num_experts: 128 }, 'UNSUPPORTED_MODEL', /num_experts is 128/],
])('%s with %j is refused', (name, change, code, message) => {
  expect(() => trace({ ...configOf(name), ...change })).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  )
})

test('keys that would be refused are accepted if they change nothing', () => {
  const neutral = {
    is_causal: true,
    logits_scaling: 1,
    final_logit_softcapping: null,
    pruned_heads: {},
    num_experts: 0,
  }
  expect(trace({ ...configOf('qwen2-bf16'), ...neutral }).model.shape.layers).toBe(4)
  expect(
    trace({ ...configOf('qwen2-bf16'), made_up_by_somebody: 7, auto_map: { AutoModel: 'x.Y' } }).model.shape.layers,
  ).toBe(4)
})

test('sizes that contradict the tensors are refused at once, with both numbers', () => {
  const layout = { where: '/models/a', layers: 4, layersName: 'model.layers', layerTensors: new Map(), head: true }
  const weights = { ...source().weights, layout }
  const begun = performance.now()
  for (const layers of [3, 5, 1e9]) {
    expect(() => createModel({ ...configOf('qwen2-bf16'), num_hidden_layers: layers }, weights)).toThrow(
      expect.objectContaining({
        code: 'INVALID_CHECKPOINT',
        message: expect.stringContaining(
          `num_hidden_layers is ${layers}, but tensors of 4 layers are stored in /models/a`,
        ),
      }),
    )
  }
  expect(performance.now() - begun).toBeLessThan(500)
})

test.each(['Qwen3ForSequenceClassification', 'Qwen2ForRewardModel', 'LlamaForTokenClassification'])(
  '%s has no head, tied or not',
  (name) => {
    const layout = { where: '/models/a', layers: 4, layersName: 'model.layers', layerTensors: new Map(), head: false }
    const config = { ...configOf('qwen2-bf16'), architectures: [name], tie_word_embeddings: true }
    expect(createModel(config, { ...source().weights, layout }).hasHead).toBe(false)
    const causal = { ...config, architectures: ['Qwen2ForCausalLM'] }
    expect(createModel(causal, { ...source().weights, layout }).hasHead).toBe(true)
  },
)

describe('what a GPU cannot compute is refused before anything is loaded', () => {
  const wide = { ...configOf('qwen2-bf16'), num_attention_heads: 4, num_key_value_heads: 2 }
  test.each([
    ['heads too wide', { ...configOf('qwen3-bf16'), head_dim: 264 }, /heads have 264 columns \(head_dim\).*up to 256/],
    ['heads of odd widths', { ...configOf('qwen3-bf16'), head_dim: 36 }, /heads have 36 columns/],
    ['wide norms', { ...wide, hidden_size: 16416, head_dim: 64 }, /norms over 16416 columns.*at most 16384/],
    ['wide norms of odd width', { ...wide, hidden_size: 8204, head_dim: 64 }, /norms over 8204 columns.*at most 8192/],
    [
      'small groups',
      { ...wide, quantization_config: { quant_method: 'gptq', bits: 4, group_size: 16, sym: true } },
      /model\.layers\.0\.self_attn\.q_proj has groups of 16 inputs/,
    ],
  ])('%s', async (_, config, message) => {
    const sizes = { maxModelLength: 64, maxMemory: { 'cuda:0': '80GB', 'emulated:0': '80GB', cpu: '80GB' } }
    for (const device of ['cuda:0', 'emulated:0']) {
      await expect(planModel(config, { ...sizes, deviceMap: device })).rejects.toMatchObject({
        code: 'UNSUPPORTED_MODEL',
        message: expect.stringMatching(message),
      })
    }
    expect((await planModel(config, { ...sizes, deviceMap: 'cpu' })).fits).toBe(true)
  })
})

describe('sizes are compared with the tensors before anything is allocated', () => {
  const sizes = [
    'hidden_size',
    'intermediate_size',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'vocab_size',
  ]
  test.each(['qwen2-bf16', 'llama-bf16', 'qwen3-bf16', 'qwen2-gptq-int4-g128', 'qwen2-ct-w4a16', 'qwen1-fp16'])(
    '%s',
    async (name) => {
      const directory = withConfig(name, (config) => config)
      const weights = storedWeights(await openCheckpoint(directory))
      const config = configOf(name)
      expect(createModel(config, weights).shape.layers).toBe(config.num_hidden_layers)
      for (const key of sizes.filter((size) => size in config)) {
        for (const value of [config[key] * 2, config[key] * 1024, 1]) {
          const start = performance.now()
          expect(() => createModel({ ...config, [key]: value }, weights), `${key} ${value}`).toThrow(
            expect.objectContaining({ code: 'INVALID_CHECKPOINT' }),
          )
          expect(performance.now() - start).toBeLessThan(500)
        }
      }
    },
  )
})

test.each([-1, 'x', null, 1.5])('max_window_layers %s does not matter without a window', (max_window_layers) => {
  const { weights } = source()
  const config = { ...configOf('qwen2-bf16'), max_window_layers }
  expect(createModel({ ...config, use_sliding_window: false }, weights).shape.layers).toBe(4)
  if (max_window_layers !== null) {
    expect(() => createModel({ ...config, use_sliding_window: true }, weights)).toThrow(/max_window_layers is/)
  }
})

test.each([
  ['x', []],
  [-1, []],
  [
    [3, 'x', 1.5, 7],
    [3, 7],
  ],
  [{}, []],
  [null, []],
  [5, [5]],
])('eos_token_id %j of config.json gives %j', (eos_token_id, expected) => {
  const { weights } = source()
  expect(createModel({ ...configOf('qwen2-bf16'), eos_token_id }, weights).shape.eosTokenIds).toEqual(expected)
})
